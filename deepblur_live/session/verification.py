"""Whether independent evidence confirms the absolute estimates on this specimen."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "NOT_VERIFIED",
    "NOT_VERIFIED_BEADS",
    "NOT_VERIFIED_RECORDING",
    "CurrentVerification",
    "Verification",
    "VerificationState",
]


class VerificationState(StrEnum):
    """Whether independent evidence confirms the absolute estimates."""

    NOT_VERIFIED = "not verified"
    VERIFIED = "verified"
    CONTRADICTED = "contradicted"
    WRONG_OPTICS = "wrong optics"


_TEXTS = {
    VerificationState.NOT_VERIFIED: "not verified: {}",
    VerificationState.VERIFIED: "verified by {}",
    VerificationState.CONTRADICTED: "not reliable on this specimen: {}",
    VerificationState.WRONG_OPTICS: "not reliable: {}",
}


@dataclass(frozen=True)
class Verification:
    """What is known of the absolute estimates beyond their own covariance.

    The coefficients of one frame rest on a statistical prior of specimens. Evidence
    that does not (a focus sweep, a known step of the focus drive) confirms or
    contradicts them, for the specimen it was measured on.

    Parameters
    ----------
    state
        The outcome.
    reason
        The evidence, or how to get it; for the user, as in `text`.
    time_s
        Time of the outcome, in seconds since the session began.
    """

    state: VerificationState
    reason: str
    time_s: float = 0.0

    @property
    def unreliable(self) -> bool:
        """Whether the estimates must not be used."""
        return self.state in (
            VerificationState.CONTRADICTED,
            VerificationState.WRONG_OPTICS,
        )

    @property
    def text(self) -> str:
        """State and reason in one line.

        >>> Verification(VerificationState.VERIFIED, "a focus sweep at 12:03").text
        'verified by a focus sweep at 12:03'
        """
        return _TEXTS[self.state].format(self.reason)


NOT_VERIFIED = Verification(
    VerificationState.NOT_VERIFIED,
    "estimated from single frames; a focus sweep can confirm or contradict this",
)
"""Before any evidence."""

NOT_VERIFIED_RECORDING = Verification(
    VerificationState.NOT_VERIFIED, "estimated from single frames of a recording"
)
"""The same, where the focus cannot be swept."""

NOT_VERIFIED_BEADS = Verification(
    VerificationState.NOT_VERIFIED, "estimated from the beads of single frames"
)
"""The same, for a slide of beads whose size is given."""

# Maximum number of changes waiting for a slot to return; then the oldest are dropped.
_MAX_PENDING = 100


class CurrentVerification:
    """Holds the present verification; from any thread.

    Parameters
    ----------
    apply
        Called with each new verification while it is set, in order. It must be quick
        and must not call back.
    report
        Called with each one afterwards, in the same order, with no lock held.
    """

    def __init__(
        self,
        apply: Callable[[Verification], None],
        report: Callable[[Verification], None],
    ) -> None:
        self._apply, self._report = apply, report
        self._lock = threading.Lock()
        self._value = NOT_VERIFIED
        self._pending: deque[Verification] = deque(maxlen=_MAX_PENDING)
        self._reporting = False

    @property
    def value(self) -> Verification:
        """The present verification."""
        with self._lock:
            return self._value

    def set(self, verification: Verification) -> None:
        """Replace it; nothing happens if state and reason stay the same.

        Call `report_changes` afterwards, without holding a lock.
        """
        with self._lock:
            if self._value.text == verification.text:
                return
            self._value = verification
            self._apply(verification)
            self._pending.append(verification)

    def report_changes(self) -> None:
        """Report changes; if a report is in progress, it includes the new ones."""
        with self._lock:
            if self._reporting:
                return
            self._reporting = True
        while (change := self._next()) is not None:
            try:
                self._report(change)
            except BaseException:
                with self._lock:
                    self._reporting = False
                raise

    def _next(self) -> Verification | None:
        with self._lock:
            self._reporting = bool(self._pending)
            return self._pending.popleft() if self._pending else None
