"""Whether independent evidence confirms the absolute estimates on this specimen."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "NOT_VERIFIED",
    "CurrentVerification",
    "Verification",
    "VerificationState",
]


class VerificationState(StrEnum):
    """What independent evidence says of the absolute estimates."""

    NOT_VERIFIED = "not verified"
    VERIFIED = "verified"
    CONTRADICTED = "contradicted"


_TEXTS = {
    VerificationState.NOT_VERIFIED: "not verified: {}",
    VerificationState.VERIFIED: "verified by {}",
    VerificationState.CONTRADICTED: "not reliable on this specimen: {}",
}


@dataclass(frozen=True)
class Verification:
    """What is known of the absolute estimates beyond their own covariance.

    The coefficients of one frame rest on a statistical prior of specimens. Evidence
    that does not (a focus sweep, a known step of the focus drive, a bead slide with its
    size given) confirms or contradicts them, for the specimen it was measured on.

    Parameters
    ----------
    state
        The outcome.
    reason
        The evidence, or what would give it; for the user, as in `text`.
    time_s
        When, in seconds since the session began.
    """

    state: VerificationState
    reason: str
    time_s: float = 0.0

    @property
    def text(self) -> str:
        """State and reason in one line.

        >>> Verification(VerificationState.VERIFIED, "a focus sweep at 12:03").text
        'verified by a focus sweep at 12:03'
        """
        return _TEXTS[self.state].format(self.reason)


NOT_VERIFIED = Verification(
    VerificationState.NOT_VERIFIED,
    "one frame of an unknown specimen; a focus sweep would tell",
)
"""Before any evidence."""


class CurrentVerification:
    """Holds the present verification; from any thread.

    Parameters
    ----------
    on_change
        Called with the new verification after each change, on the thread that made it.
    """

    def __init__(self, on_change: Callable[[Verification], None]) -> None:
        self._on_change = on_change
        self._lock = threading.Lock()
        self._value = NOT_VERIFIED

    @property
    def value(self) -> Verification:
        """The present verification."""
        with self._lock:
            return self._value

    def set(self, verification: Verification) -> None:
        """Replace it; nothing happens if state and reason stay the same."""
        with self._lock:
            same = self._value.text == verification.text
            if not same:
                self._value = verification
        if not same:
            self._on_change(verification)
