"""The absolute estimates of a session: where they start, and what confirms them."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

from deepblur_live.session.sweep_judge import SweepJudge
from deepblur_live.session.verification import (
    NOT_VERIFIED,
    NOT_VERIFIED_BEADS,
    NOT_VERIFIED_RECORDING,
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
    """Holds the verification of the estimates, and compares them with a focus sweep.

    Parameters
    ----------
    family, errors
        The blurs, and the error model of their estimates.
    watch
        The monitor that gets a new baseline after a sweep, and does not use estimates
        that were contradicted.
    notifier
        Reports changes of the verification.
    settings
        A difference below the warning limit does not matter; one above the alarm limit
        is not verified.
    beads
        Whether the profile says that the specimen is a slide of beads.
    """

    def __init__(
        self,
        family: BlurFamily,
        errors: ErrorModel,
        watch: DriftWatch,
        notifier: Notifier,
        settings: Drift,
        *,
        beads: bool = False,
    ) -> None:
        self._family, self._errors, self._settings = family, errors, settings
        self._watch, self._notifier = watch, notifier
        self._beads = beads
        self._verification = CurrentVerification(self._apply, self._report)
        # Held while judge and verification change together.
        self._lock = threading.Lock()
        self._judge: SweepJudge | None = None
        self._specimens = watch.spectral.specimens
        self._since = -math.inf

    @property
    def verification(self) -> Verification:
        """The present verification."""
        return self._verification.value

    def set(self, state: VerificationState, reason: str) -> None:
        """Set the verification, from any thread; a sweep no longer judges estimates."""
        with self._lock:
            self._judge = None
            self._set(state, reason)
        self._verification.report_changes()

    def start_from(self, known: KnownBlur) -> None:
        """Start new baselines at a known blur, and compare estimates with it."""
        self._since = known.blur.time
        self._watch.rebaseline(known.known_to)
        with self._lock:
            # Only a later change of specimen invalidates the sweep.
            self._specimens = self._watch.spectral.specimens
            self._judge = SweepJudge(
                self._family,
                self._errors,
                known,
                self._settings.warn,
                self._settings.alarm,
            )
            self._set(
                VerificationState.NOT_VERIFIED,
                f"estimates after the focus sweep at {known.clock} are awaited",
            )
        self._verification.report_changes()

    def precedes(self, time: float) -> bool:
        """Return whether a frame was captured before the present blur was known."""
        return time < self._since

    def update(self, result: FrameResult) -> None:
        """Reset after a change of specimen; compare an estimate with the sweep."""
        with self._lock:
            specimens = self._watch.spectral.specimens
            changed = specimens != self._specimens
            self._specimens = specimens
            if changed:
                self._judge = None
            if changed or self.verification.text == NOT_VERIFIED.text:
                unverified = self._unverified(result)
                self._set(unverified.state, unverified.reason)
            self._compare(result)
        self._verification.report_changes()

    def _unverified(self, result: FrameResult) -> Verification:
        if self._beads:
            return NOT_VERIFIED_BEADS
        recorded = result.frame.source == "replay"
        return NOT_VERIFIED_RECORDING if recorded else NOT_VERIFIED

    def _compare(self, result: FrameResult) -> None:
        if self._judge is None or result.estimate is None:
            return
        decided = self._judge.add(result.info.time, result.estimate)
        if decided is not None:
            self._judge = None
            self._set(*decided)

    def _set(self, state: VerificationState, reason: str) -> None:
        self._verification.set(Verification(state, reason, self._notifier.time))

    def _apply(self, verification: Verification) -> None:
        contradicted = verification.unreliable
        self._watch.unreliable = verification.text if contradicted else ""

    def _report(self, verification: Verification) -> None:
        self._notifier.event(
            "verificationChanged",
            state=str(verification.state),
            reason=verification.reason,
        )
        self._notifier.emit(self._notifier.signals.verificationChanged, verification)
