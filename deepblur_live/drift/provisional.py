"""Detect a change of the blur while the baseline is measured, from a dozen frames on.

The frames so far are averaged into at most forty consecutive *points*, each the shapes
of one mean spectrum. Neighbouring points form pairs. The difference within a pair
shows how much points scatter; the means of the first and of the last third of the pairs
differ only if something has changed in between. Of normal points both are independent,
so that the squared difference over the scatter is Hotelling's T², and its limit a
quantile of Fisher's F for the number of points there are: far wider for twelve than for
forty. A slow drift hardly widens the scatter, unlike that about the mean of all points.

Every comparison may be false with the probability of the time since the one before,
relative to the mean time between false signals of the control charts. By the union
bound false signals are therefore no more frequent than the charts'
(docs/decisions/0204).

References
----------
T. W. Anderson, *An Introduction to Multivariate Statistical Analysis* (2003), section
5.3 (two samples). J. von Neumann, *Distribution of the ratio of the mean square
successive difference to the variance*, Ann. Math. Statist. 12 (1941).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import fdtri

from deepblur_live.drift.batches import Batch, merge_pairs
from deepblur_live.drift.spectral_change import Change, MeanSpectrum, SpectralComparison

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.optics.reduced_spectrum import ReducedSpectrum

__all__ = ["TESTED", "ProvisionalChange", "ProvisionalComparison", "t_squared_limit"]

TESTED = (0, 1, 4, 5)
"""Shapes that are tested: how a change rises with the frequency, and its direction.

All sixteen would need more points than there are (the size is measured with all)."""

# The first comparison, and the number of points at which neighbours are merged.
_LEAST, _MOST = 12, 40


@dataclass(frozen=True)
class ProvisionalChange:
    """The change from the first third of the points to the last ones.

    Parameters
    ----------
    shapes
        (16,) change: to the last third; if it is certain, to the points since it began,
        as the last third may still hold some from before.
    covariance
        (16, 16) covariance of the change, by the scatter within pairs.
    comparison
        The comparison of the spectra, whose metric measures the change.
    certain
        Whether it exceeds the limit of T².
    least
        Smallest steady change of sharpness that would reach the limit, in nepers.
    since
        When the points left those of the first third behind, seconds.
    coherence
        Mean coherence of the last frames, relative to that of the first third's.
    at_start
        Mean coherence of the first third's frames with the reference frame.
    last
        The change to the mean spectrum of the last frames, with U.
    """

    shapes: NDArray[np.float64]
    covariance: NDArray[np.float64]
    comparison: SpectralComparison
    certain: bool
    least: float
    since: float
    coherence: float
    at_start: float
    last: Change


class ProvisionalComparison:
    """Compares the last frames with the first, with limits that allow for their number.

    Parameters
    ----------
    cutoff
        Coherent cut-off in cycles per pixel.
    false_alarm_s
        Mean time between false signals, at least, in seconds.
    """

    def __init__(self, cutoff: float, false_alarm_s: float) -> None:
        self._cutoff, self._false_alarm_s = cutoff, false_alarm_s
        self._points: list[Batch] = []
        self._shapes: list[NDArray[np.float64]] = []
        self._frames: list[Batch] = []
        self._size = 1
        self._compared = math.nan
        self._comparison: SpectralComparison | None = None

    def add(self, time: float, spectrum: ReducedSpectrum) -> ProvisionalChange | None:
        """Add a frame's spectrum; return the comparison that is due with it, if any."""
        if math.isnan(self._compared):
            self._compared = time
        power = spectrum.power.astype(np.float64).ravel()
        self._frames.append(Batch(time, time, 1, np.append(power, spectrum.coherence)))
        if len(self._frames) < self._size:
            return None
        self._points.append(_mean(self._frames))
        self._frames = []
        count = len(self._points)
        if count < _LEAST or count % 2:
            return None
        if count == _MOST or self._comparison is None:
            self._begin(spectrum.fine)
        comparison = self._comparison
        if comparison is None:
            return None
        for point in self._points[len(self._shapes) :]:
            mean = _spectrum(point, spectrum.fine)
            self._shapes.append(comparison.compare(mean).shapes)
        lasted, self._compared = time - self._compared, time
        change = self._compare(comparison, lasted, spectrum.fine)
        if count == _MOST:
            self._points = merge_pairs(self._points)
            self._size *= 2
            self._shapes = []
        return change

    def _begin(self, fine: tuple[int, int]) -> None:
        """Compare with the first third from now on, which has more frames than before.

        A specimen too dim to be compared yet may be bright enough on average.
        """
        first, _ = thirds(len(self._points))
        try:
            reference = _spectrum(_mean(self._points[first]), fine)
            self._comparison = SpectralComparison(reference, self._cutoff)
            self._shapes = []
        except ValueError:
            return

    def _compare(
        self, comparison: SpectralComparison, lasted: float, fine: tuple[int, int]
    ) -> ProvisionalChange:
        shapes, points = np.array(self._shapes), self._points
        difference, scatter, share, freedom = contrast(shapes)
        first, last = thirds(len(points))
        risk = min(max(lasted / self._false_alarm_s, 1e-12), 0.01)
        few = list(TESTED)
        limit = t_squared_limit(len(few), freedom, risk)
        # Repeated copies of one frame in a recording do not scatter at all.
        tested = scatter[np.ix_(few, few)]
        tested = tested + 1e-12 * max(float(np.trace(tested)), 1e-12) * np.eye(len(few))
        weighted = np.linalg.solve(tested, difference[few])
        squared = float(difference[few] @ weighted) / share
        steady = np.zeros(len(difference))
        steady[few] = comparison.sharpening[few]
        size = math.sqrt(float(steady @ comparison.metric @ steady))
        unit = float(steady[few] @ np.linalg.solve(tested, steady[few]))
        least = size * math.sqrt(limit * share / unit)
        # How far each point is along the change: 0 at the first third, 1 at the last.
        along = (shapes[:, few] - shapes[first][:, few].mean(0)) @ weighted
        behind = np.flatnonzero(along < 0.5 * float(difference[few] @ weighted))
        begin = min(int(behind[-1]) + 1, len(points) - 1) if behind.size else 0
        since = points[begin].begin
        certain = squared >= limit
        if certain:
            # The first point since then may hold frames from before.
            last = slice(min(begin + 1, len(points) - 1), len(points))
            difference = shapes[last].mean(0) - shapes[first].mean(0)
            share = 1 / (first.stop - first.start) + 1 / (last.stop - last.start)
        before, now = _mean(points[first]), _mean(points[last])
        return ProvisionalChange(
            difference,
            scatter * share,
            comparison,
            certain,
            least,
            since,
            float(now.mean[-1] / max(before.mean[-1], 1e-9)),
            float(before.mean[-1]),
            comparison.compare(_spectrum(now, fine)),
        )


def t_squared_limit(variables: int, freedom: int, risk: float) -> float:
    """Return the limit that Hotelling's T² of unchanged points exceeds with `risk`.

    Parameters
    ----------
    variables
        Number of variables p.
    freedom
        Degrees of freedom of the scatter, ν; T² (ν - p + 1) / (ν p) has the
        distribution F(p, ν - p + 1).
    risk
        Probability of exceeding the limit.
    """
    rest = freedom - variables + 1
    # The upper tail: 1 - risk would round to 1.
    quantile = 1 / float(fdtri(rest, variables, risk))
    return variables * freedom / rest * quantile


def thirds(count: int) -> tuple[slice, slice]:
    """Return the first and the last third of an even number of points, whole pairs."""
    size = 2 * (count // 6)
    return slice(0, size), slice(count - size, count)


def contrast(
    points: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], float, int]:
    """Return how the last third of points differs from the first, and the scatter.

    Parameters
    ----------
    points
        (n, P), an even number of them.

    Returns
    -------
    difference
        (P,) mean of the last third less that of the first.
    scatter
        (P, P) covariance of one point, by the differences within pairs.
    share
        The difference has `share` times that covariance.
    freedom
        Degrees of freedom of `scatter`.
    """
    first, last = thirds(len(points))
    difference = points[last].mean(0) - points[first].mean(0)
    steps = points[1::2] - points[::2]
    scatter = steps.T @ steps / (2 * len(steps))
    size = first.stop - first.start
    return difference, scatter, 2 / size, len(steps)


def _mean(points: list[Batch]) -> Batch:
    count = sum(point.count for point in points)
    mean = np.sum([point.count * point.mean for point in points], axis=0) / count
    return Batch(points[0].begin, points[-1].end, count, mean)


def _spectrum(point: Batch, fine: tuple[int, int]) -> MeanSpectrum:
    return MeanSpectrum(point.mean[:-1].reshape(64, -1), point.count, fine)
