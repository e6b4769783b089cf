"""Combine both monitors: whether the blur changed (spectra), and how (estimates)."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from deepblur_live.drift.alert import CONTRAST_UNIT, Alert, clock_text
from deepblur_live.drift.level import rank
from deepblur_live.drift.reference import ReferenceMonitor
from deepblur_live.drift.status import NO_LIMITS, DriftState

if TYPE_CHECKING:
    from deepblur_live.drift.contradiction import EstimateCheck
    from deepblur_live.drift.monitor import DriftMonitor
    from deepblur_live.drift.spectral_monitor import SpectralMonitor
    from deepblur_live.drift.status import DriftStatus
    from deepblur_live.drift.track import TrackState
    from deepblur_live.drift.unfollowed import UnfollowedBlur
    from deepblur_live.optics.reduced_spectrum import ReducedSpectrum

__all__ = ["NOT_RELIABLE", "DriftWatch"]

NOT_RELIABLE = "The estimates are not reliable on this specimen: "
"""Introduces a contradiction in texts for the user."""

# Coefficients are named in an alert if those of the baseline are known to this, in
# waves rms: a ratio of spectra alone shows that the blur has changed, not which mode.
_KNOWN = 0.02
# A change that softens the picture throughout has at least this share of its strength
# in the steady fall; a smaller one has changed the shape of the PSF.
_STEADY = 0.5


class DriftWatch:
    """Watches the blur by spectra where possible, and by estimates elsewhere.

    While the spectra have a baseline, states and alerts are theirs: the specimen's own
    spectrum cancels in them. Without one (at the start, for another specimen, or for
    one whose spectrum is mostly noise), they are those of the estimates. Estimates that
    are compared with a known state, and not with the session's first ones, count in
    addition to the spectra: the higher level of the two is shown.

    All methods may be called from any thread.

    Parameters
    ----------
    absolute
        Follows the estimates: their change from a baseline, or their distance from a
        known state; or does not follow them.
    spectral
        Follows the spectra.
    known_to
        Standard deviation of the baseline's coefficients, in waves rms, by a focus
        sweep or a calibration; infinite if there was none. Alerts name coefficients
        only if it is at most 0.02.
    check
        Compares the estimates with the spectra; None for no comparison.

    Attributes
    ----------
    known_starts
        Number of baselines that were started with a known blur.
    """

    def __init__(
        self,
        absolute: DriftMonitor | ReferenceMonitor | UnfollowedBlur,
        spectral: SpectralMonitor,
        known_to: float = math.inf,
        check: EstimateCheck | None = None,
    ) -> None:
        self.absolute, self.spectral = absolute, spectral
        self.known_to = known_to
        self.known_starts = 0
        self._unreliable = ""
        self._check = check
        self._lock = threading.Lock()
        self._time = 0.0

    @property
    def unreliable(self) -> str:
        """Why the estimates are not reliable for this specimen; empty if they are.

        While this is set they are not followed. Their baseline and any alert from them
        are discarded when it is set.
        """
        return self._unreliable

    @unreliable.setter
    def unreliable(self, reason: str) -> None:
        newly = bool(reason) and not self._unreliable
        self._unreliable = reason
        if newly:
            self.absolute.rebaseline()

    @property
    def status(self) -> DriftStatus:
        """The present status, immutable."""
        with self._lock:
            status, spectral = self.absolute.status, self.spectral.status
            level = self.spectral.level
            farther = self._known_state and rank(status.state) > rank(spectral.state)
            if self._known_state and 0 < rank(spectral.state) <= rank(status.state):
                # The distance from the known state confirms what the spectra show.
                spectral = replace(spectral, provisional=False)
            if (self.spectral.armed or rank(level.state) > 0) and not farther:
                status = replace(
                    status,
                    state=spectral.state,
                    acknowledged=level.acknowledged,
                    reason=spectral.reason,
                    begin=spectral.begin,
                    limits=status.limits if self._known_state else NO_LIMITS,
                )
            elif self.unreliable and status.state is not DriftState.NOT_FOLLOWED:
                status = replace(
                    status,
                    state=DriftState.BASELINING,
                    reason=self.unreliable,
                    limits=NO_LIMITS,
                )
            return replace(status, spectral=spectral, contradiction=self._contradiction)

    def update(self, track: TrackState) -> Alert | None:
        """Update with the latest track; return an alert when a notification is due."""
        if self.unreliable:
            return None
        alert = self.absolute.update(track)
        with self._lock:
            if self._check is not None:
                self._check.add_estimate(track, self.spectral.armed)
            return None if self.spectral.armed and not self._known_state else alert

    def add_spectrum(self, time: float, spectrum: ReducedSpectrum) -> Alert | None:
        """Update with a frame's spectrum; return an alert when one is due."""
        with self._lock:
            self._time = time
            specimens, points = self.spectral.specimens, self.spectral.points
            restarts = self.spectral.restarts
            due = self.spectral.update(time, spectrum)
            if self.spectral.specimens != specimens:
                self.known_to = math.inf
                self._begin_check()
            elif self.spectral.restarts != restarts:
                self._begin_check()
            elif self.spectral.points > points and self._check is not None:
                self._check.compare(self.spectral.measured)
            return self._alert(time) if due else None

    def acknowledge(self) -> None:
        """Acknowledge the present warning or alarm, until it rises or has cleared."""
        self.absolute.acknowledge()
        with self._lock:
            self.spectral.level.acknowledge()

    def snooze(self, seconds: float) -> None:
        """Raise no alert for a time; 0 ends a snooze.

        Raises
        ------
        ValueError
            `seconds` is negative or not finite.
        """
        self.absolute.snooze(seconds)
        with self._lock:
            self.spectral.level.snooze(self._time + seconds)

    def rebaseline(self, known_to: float = math.inf) -> None:
        """Discard both baselines and any alert; the next frames make new ones.

        `known_to` is as above, for the next baseline.
        """
        self.absolute.rebaseline()
        with self._lock:
            self.known_to = known_to
            self.known_starts += math.isfinite(known_to)
            self.spectral.rebaseline()
            self._begin_check()

    def specimen_changed(self, reason: str = "the specimen was changed") -> None:
        """Start new baselines for another specimen, which carry the change forward."""
        self.absolute.specimen_changed(reason)
        with self._lock:
            self.known_to = math.inf
            self.spectral.specimen_changed(reason)
            self._begin_check()

    def exposure_changed(self, reason: str) -> None:
        """Start a new baseline of the estimates; the spectra allow for the exposure."""
        self.absolute.specimen_changed(reason)

    def frames_changed(self, reason: str) -> None:
        """Start a new baseline of the estimates; the spectra allow for the light."""
        self.absolute.frames_changed(reason)

    def light_changed(self, logarithm: float) -> None:
        """Set the logarithm of the frames' light relative to that at the baseline."""
        self.absolute.light_changed(logarithm)

    def assess(self) -> Alert | None:
        """Return the present warning or alarm as it would be raised now, or None."""
        with self._lock:
            raised = rank(self.spectral.level.state) > 0
            if raised:
                return self._alert(self._time)
            if self.spectral.armed and not self._known_state:
                return None
        return None if self.unreliable else self.absolute.assess()

    @property
    def _known_state(self) -> bool:
        return isinstance(self.absolute, ReferenceMonitor)

    @property
    def _contradiction(self) -> str:
        return "" if self._check is None else self._check.reason

    def _begin_check(self) -> None:
        if self._check is not None:
            self._check.reset()

    def _alert(self, time: float) -> Alert:
        """Return the alert of the spectra's present level."""
        change, level = self.spectral.status, self.spectral.level.state
        named, wrong = self._named(), self._contradiction
        since = self.spectral.since
        sure = "" if self.spectral.armed else _PROVISIONAL
        text = (
            f"{level.upper()}{sure} at {clock_text(time)}: the blur has changed: "
            f"{_described(change.strength, change.sigma, change.sharpening)}, since "
            f"about {clock_text(since)}{named}. "
            f"Likely cause: {_CAUSE} What to do: {_REMEDY}"
            f"{f' {NOT_RELIABLE}{wrong}.' if wrong else ''}"
        )
        return Alert(
            time,
            level,
            change.strength,
            change.sigma,
            CONTRAST_UNIT,
            (),
            (),
            since,
            text,
            cause=_CAUSE,
            remedy=_REMEDY,
        )

    def _named(self) -> str:
        """Return the coefficients that changed most, if they are known."""
        wrong = self.unreliable or self._contradiction
        known = self.known_to <= _KNOWN and not wrong
        estimated = self.absolute.assess() if known else None
        if estimated is None:
            return ""
        return f"; mostly {', '.join(estimated.coefficients)}"


_PROVISIONAL = " (provisional, there is no baseline yet)"
_CAUSE = "unclear: the spectra show how much has changed, not what."
_REMEDY = "Refocus; if the change remains, a focus sweep shows which aberration it is."


def _described(strength: float, sigma: float, sharpening: float) -> str:
    """Return the size of a change in words.

    >>> _described(0.1, 0.01, -0.09)
    'the picture has become softer (contrast of details −10 ± 1 %)'
    """
    percent = f"{100 * strength:.0f} ± {max(100 * sigma, 1):.0f} %"
    if sharpening < -_STEADY * strength:
        return f"the picture has become softer (contrast of details −{percent})"
    if sharpening > _STEADY * strength:
        return f"the picture has become sharper (contrast of details +{percent})"
    return f"its shape, by {percent} of the contrast of details"
