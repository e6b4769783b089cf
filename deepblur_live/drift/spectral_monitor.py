"""Detect changes of the blur from spectra of one specimen, without an optical model."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import chdtri

from deepblur_live.drift.another_specimen import AT_REST, shows_another_specimen
from deepblur_live.drift.contradiction import Measured
from deepblur_live.drift.level import AlertLevel, rank
from deepblur_live.drift.provisional import ProvisionalComparison
from deepblur_live.drift.size import change_size, scatter_size
from deepblur_live.drift.spectral_baseline import SpectralBaseline, SpectralPoint
from deepblur_live.drift.spectral_change import SHAPES
from deepblur_live.drift.status import NO_LIMITS, DriftState, Limits, SpectralChange

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.drift.charts import Evidence
    from deepblur_live.drift.provisional import ProvisionalChange
    from deepblur_live.optics.reduced_spectrum import ReducedSpectrum
    from deepblur_live.profile import Drift

__all__ = ["SpectralMonitor"]

# The change is averaged over enough batches that its noise is this share of the warning
# level, and over no more than the maximum; of a specimen that moves, over as many as
# the baseline has: its spectrum fluctuates for minutes.
_NOISE_SHARE, _MAX_AVERAGED = 1 / 3, 8
# The averaged change must exceed what one batch exceeds with this probability: a
# specimen that moves wanders more slowly, and further, than its baseline shows, and no
# average reduces that.
_SIGNIFICANT = float(chdtri(SHAPES, 1e-3))
# Changes of a specimen that moves count as this much smaller: within hours cells wander
# to more than a warning of one at rest (docs/decisions/0146).
_WANDERING = 1.5
_MOVING = (
    "the change is above the warning level of a specimen at rest; this one moves, and "
    "that changes its spectra too"
)
_WITHIN_SCATTER = (
    "the change is above the warning level, but not certain yet: the frames of the "
    "baseline differ about as much among themselves"
)
# Another specimen is reported after this many batches, so that a passing bubble is not.
_OTHERS = 2
_NO_SIGNAL = (
    "the change is above the warning level, but not certain yet: the charts need more "
    "points to be sure that it is not chance"
)
_CHANGED = "the blur changed while the baseline was measured; it is measured again"


class SpectralMonitor:
    """Charts the change of the spectra, and distinguishes blur from specimen.

    A batch whose change is smooth is charted; an alert requires a signal of the charts
    and a strength above the warning or alarm level. A change that is not smooth, or
    frames that are no longer coherent with the first one, show another specimen: after
    two such batches a new baseline is measured. It carries the change so far forward: a
    change of specimen never hides one of the optics, as the spectra's logarithms add.

    While a baseline is measured, a specimen at rest is watched provisionally, with
    wider limits (`ProvisionalComparison`). A change found in this way is carried
    forward as well, and the baseline is measured again after it.

    Parameters
    ----------
    cutoff
        Coherent cut-off in cycles per pixel.
    settings
        Limits, in nepers, lengths in seconds, false alarms allowed.

    Attributes
    ----------
    specimens
        Number of changes of the specimen.
    restarts
        Number of baselines that were restarted because of a change found during them.
    points
        Number of points charted since the baseline.
    """

    def __init__(self, cutoff: float, settings: Drift) -> None:
        self._cutoff, self._settings = cutoff, settings
        self.level = AlertLevel(
            settings.model_copy(
                update={
                    "warn": settings.warn_contrast,
                    "alarm": settings.alarm_contrast,
                }
            )
        )
        self._carried = np.zeros(SHAPES)
        self._uncertainty = np.zeros((SHAPES, SHAPES))
        self._first_begin = math.nan
        # Strength of the change that was carried over, at that time.
        self._kept = 0.0
        self.specimens = self.restarts = 0
        self._begin()

    def _begin(self, reason: str = "") -> None:
        self._baseline = SpectralBaseline(self._cutoff, self._settings, reason)
        self._recent: deque[NDArray[np.float64]] = deque(maxlen=1)
        self._reference = -1
        self._others = 0
        self._evidence: Evidence | None = None
        self._provisional = ProvisionalComparison(
            self._cutoff, 3600 * self._settings.false_alarm_hours
        )
        self._changed_at = math.nan
        self.points = 0
        self.status = SpectralChange(
            DriftState.BASELINING, 0, self._settings.baseline_points, reason=reason
        )

    @property
    def armed(self) -> bool:
        """Whether there is a baseline, so that changes are watched."""
        return self._baseline.comparison is not None

    @property
    def _at_rest(self) -> bool:
        return self._baseline.coherence >= AT_REST

    @property
    def since(self) -> float:
        """When the change began; seconds since the session began."""
        return self._changed_at if self._evidence is None else self._evidence.since

    @property
    def measured(self) -> Measured | None:
        """The change from the present baseline; None before there is a point."""
        comparison, evidence = self._baseline.comparison, self._evidence
        if comparison is None or evidence is None or not self._recent:
            return None
        count = len(self._recent)
        share = 1 / count + 1 / self._baseline.count
        return Measured(
            np.mean(self._recent, axis=0),
            share * self._baseline.covariance,
            comparison,
            evidence.signal and self._is_significant(),
            count * self._baseline.spacing,
        )

    def rebaseline(self) -> None:
        """Discard the baseline, and changes carried over from earlier ones."""
        self._first_begin = math.nan
        self._carried = np.zeros(SHAPES)
        self._uncertainty = np.zeros((SHAPES, SHAPES))
        self.level.clear()
        self._begin()

    def specimen_changed(self, reason: str) -> None:
        """Start a new baseline, which carries the change so far forward."""
        self.specimens += 1
        if self.armed and self._recent:
            self._kept, _ = self._size()
            self._carried, self._uncertainty = self._difference()
        self._begin(reason)

    def update(self, time: float, spectrum: ReducedSpectrum) -> bool:
        """Add a frame's spectrum; return whether an alert is due."""
        if self._reference not in (-1, spectrum.reference):
            self.specimen_changed("the frames show another place or specimen")
        self._reference = spectrum.reference
        armed = self.armed
        point = self._baseline.add(time, spectrum)
        if self.armed and not armed:
            self._arm()
        due = point is not None and self._take(point, time)
        if not self.armed:
            found = self._provisional.add(time, spectrum)
            due = found is not None and self._take_provisional(found, time)
        self._refresh()
        self.status = replace(self.status, sure_in_s=self._baseline.remaining_s(time))
        return due

    def _take_provisional(self, found: ProvisionalChange, now: float) -> bool:
        """Update with a comparison of few frames; return whether an alert is due."""
        metric = found.comparison.metric
        other = found.at_start < AT_REST or shows_another_specimen(
            found.last, found.coherence, found.comparison, at_rest=True
        )
        self.status = replace(
            self.status,
            provisional=not other,
            least=math.nan if other else found.least,
        )
        if other:
            return False
        if not found.certain:
            # A change that was carried over stays certain, in the metric of that time.
            raised = rank(self.level.state) > 0
            return raised and self.level.step(now, self._kept, False)
        carried = self._carried + found.shapes
        uncertainty = self._uncertainty + found.covariance
        strength, sigma = change_size(carried, uncertainty, metric)
        due = self.level.step(now, strength, True)
        size, _ = change_size(found.shapes, found.covariance, metric)
        if size >= self._settings.warn_contrast:
            self._carried, self._uncertainty = carried, uncertainty
            self._kept = strength
            self.restarts += 1
            self._begin(_CHANGED)
            self._changed_at = found.since
            self.status = replace(self.status, provisional=True, least=found.least)
        along = found.comparison.sharpening
        self.status = replace(
            self.status,
            strength=strength,
            sigma=sigma,
            sharpening=float(along @ carried),
            sharpening_sigma=math.sqrt(float(along @ uncertainty @ along)),
        )
        return due

    def _arm(self) -> None:
        comparison = self._baseline.comparison
        assert comparison is not None
        noise = scatter_size(self._baseline.covariance, comparison.metric)
        wanted = _NOISE_SHARE * self._settings.warn_contrast
        averaged = min(max(math.ceil((noise / wanted) ** 2), 1), _MAX_AVERAGED)
        if not self._at_rest:
            averaged = self._settings.baseline_points
        self._recent = deque(maxlen=averaged)
        if math.isnan(self._first_begin):
            self._first_begin = self._baseline.begin

    def _take(self, point: SpectralPoint, now: float) -> bool:
        self.status = replace(
            self.status,
            test=point.test,
            residual=point.change.residual,
            coherence=point.coherence,
        )
        if self._is_other(point):
            self._others += 1
            if self._others >= _OTHERS:
                self.specimen_changed("the specimen has changed")
            return False
        self._others = 0
        self._recent.append(point.change.shapes)
        self.points += 1
        self._evidence = self._baseline.chart(point)
        strength, _ = self._size()
        if not self._at_rest:
            strength /= _WANDERING
        # The evidence for what was carried over precedes this baseline.
        evident = self._evidence.signal or bool(self._carried.any())
        return self.level.step(now, strength, evident and self._is_significant())

    def _is_other(self, point: SpectralPoint) -> bool:
        """Return whether a batch shows another specimen, and not another blur."""
        comparison = self._baseline.comparison
        assert comparison is not None
        relative = point.coherence / self._baseline.coherence
        return shows_another_specimen(
            point.change, relative, comparison, at_rest=self._at_rest
        )

    def _difference(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the change (16,), with what was carried over, and its covariance."""
        share = 1 / len(self._recent) + 1 / self._baseline.count
        covariance = self._uncertainty + share * self._baseline.covariance
        return self._carried + np.mean(self._recent, axis=0), covariance

    def _size(self) -> tuple[float, float]:
        """Return the strength and its standard deviation."""
        comparison = self._baseline.comparison
        assert comparison is not None
        return change_size(*self._difference(), comparison.metric)

    def _is_significant(self) -> bool:
        difference, _ = self._difference()
        covariance = self._uncertainty + self._baseline.covariance
        squared = float(difference @ np.linalg.solve(covariance, difference))
        return squared >= _SIGNIFICANT

    @property
    def _limits(self) -> Limits:
        """The limits in force for the strength."""
        if self.armed:
            wider = 1.0 if self._at_rest else _WANDERING
            warn, alarm = self.level.limits
            return Limits(wider * warn, wider * alarm)
        if not self.status.provisional:
            return NO_LIMITS
        # A level that has been reached is kept by the profile's limits.
        settings, reached = self._settings, rank(self.level.state)
        least = self.status.least
        return Limits(
            max(settings.warn_contrast, least if reached < 1 else 0.0),
            max(settings.alarm_contrast, least if reached < 2 else 0.0),
        )

    def _refresh(self) -> None:
        baseline, state = self._baseline, self.level.state
        status = replace(
            self.status,
            n_baseline=baseline.count,
            begin=self._first_begin,
            reason=baseline.reason,
            state=state
            if self.armed or state is not DriftState.OK
            else DriftState.BASELINING,
        )
        comparison = baseline.comparison
        if comparison is not None and self._recent:
            strength, sigma = self._size()
            difference, covariance = self._difference()
            along = comparison.sharpening
            evidence = self._evidence
            assert evidence is not None
            status = replace(
                status,
                strength=strength,
                sigma=sigma,
                sharpening=float(along @ difference),
                sharpening_sigma=math.sqrt(float(along @ covariance @ along)),
                evidence=max(evidence.cusum, evidence.mewma),
                provisional=False,
                least=math.nan,
            )
            if state is DriftState.OK and strength >= self._settings.warn_contrast:
                status = replace(status, reason=self._why_unchanged(strength))
        self.status = replace(status, limits=self._limits)

    def _why_unchanged(self, strength: float) -> str:
        """Return why a strength above the profile's warning level is no warning."""
        if not self._at_rest and strength < _WANDERING * self._settings.warn_contrast:
            return _MOVING
        return _NO_SIGNAL if self._is_significant() else _WITHIN_SCATTER
