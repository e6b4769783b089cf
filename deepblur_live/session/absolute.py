"""The absolute estimates of a session: where they start, and what confirms them."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

from deepblur_live.session.sweep_judge import SweepJudge
from deepblur_live.session.verification import (
    NOT_VERIFIED,
    CurrentVerification,
    Verification,
    VerificationState,
)

if TYPE_CHECKING:
    from deepblur_live.blur import BlurFamily, ErrorModel
    from deepblur_live.drift import DriftWatch
    from deepblur_live.profile import Drift
    from deepblur_live.runtime.frame import FrameResult
    from deepblur_live.session.notifier import Notifier
    from deepblur_live.session.sweep_judge import KnownBlur

__all__ = ["AbsoluteEstimates"]


class AbsoluteEstimates:
    """Keeps the verification of the estimates, and has a sweep judge them.

    Parameters
    ----------
    family, errors
        The blurs, and the error model of their estimates.
    watch
        Gets a new baseline after a sweep, and does not use estimates that were
        contradicted.
    notifier
        Changes go there.
    settings
        A difference below the warning limit does not matter; one above the alarm limit
        is not verified.
    """

    def __init__(
        self,
        family: BlurFamily,
        errors: ErrorModel,
        watch: DriftWatch,
        notifier: Notifier,
        settings: Drift,
    ) -> None:
        self._family, self._errors, self._settings = family, errors, settings
        self._watch, self._notifier = watch, notifier
        self._verification = CurrentVerification(self._on_change)
        self._lock = threading.Lock()
        self._judge: SweepJudge | None = None
        self._specimens = watch.spectral.specimens
        self._since = -math.inf

    @property
    def verification(self) -> Verification:
        """The present verification."""
        return self._verification.value

    def set(self, state: VerificationState, reason: str) -> None:
        """Set the verification, from any thread; a sweep judges no longer."""
        with self._lock:
            self._judge = None
        self._set(state, reason)

    def start_from(self, known: KnownBlur) -> None:
        """Start new baselines of a blur that is known, and have it judge estimates."""
        awaited = f"estimates after the focus sweep at {known.clock} are awaited"
        with self._lock:
            self._since = known.blur.time
            self._judge = SweepJudge(
                self._family,
                self._errors,
                known,
                self._settings.warn,
                self._settings.alarm,
            )
        self._set(VerificationState.NOT_VERIFIED, awaited)
        self._watch.rebaseline(known.known_to)

    def precedes(self, time: float) -> bool:
        """Return whether a frame was captured before the present blur was known."""
        return time < self._since

    def update(self, result: FrameResult) -> None:
        """Reset after a change of specimen; have the sweep judge an estimate."""
        specimens = self._watch.spectral.specimens
        if specimens != self._specimens:
            self._specimens = specimens
            self.set(NOT_VERIFIED.state, NOT_VERIFIED.reason)
        judge = self._judge
        if judge is None or result.estimate is None:
            return
        decided = judge.add(result.info.time, result.estimate)
        if decided is None:
            return
        with self._lock:
            # Another sweep, or other evidence, may have come meanwhile.
            valid = self._judge is judge
            if valid:
                self._judge = None
        if valid:
            self._set(*decided)

    def _set(self, state: VerificationState, reason: str) -> None:
        self._verification.set(Verification(state, reason, self._notifier.time))

    def _on_change(self, verification: Verification) -> None:
        contradicted = verification.state is VerificationState.CONTRADICTED
        self._watch.unreliable = verification.text if contradicted else ""
        self._notifier.event(
            "verificationChanged",
            state=str(verification.state),
            reason=verification.reason,
        )
        self._notifier.emit(self._notifier.signals.verificationChanged, verification)
