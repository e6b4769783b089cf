"""Curves of a session for plotting: units, and few points that keep gaps and peaks."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.session.decimate import decimate_band, decimate_curve
from deepblur_live.session.display_unit import change_unit, coefficient_unit
from deepblur_live.session.report.baselines import baseline_spans

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from deepblur_live.session.report.read import SessionData

__all__ = ["Curves"]

_POINTS = 1500
# A gap longer than this many usual intervals, and this many seconds, breaks the line.
_GAP_INTERVALS = 8
_GAP_S = 10.0
_MAX_STRETCHES = 200


class Curves:
    """The units of a session's plots, and its curves thinned to few points.

    Parameters
    ----------
    data
        The session.
    points
        Approximate number of points of a curve: two for each pixel of its plot.

    Attributes
    ----------
    change, coefficient
        Units of changes and of coefficients.
    time_unit
        Name of the unit of time: s, min or h.
    per_second
        That unit, per second.
    end
        The end of the session, in that unit.
    new_baselines
        Times at which another baseline began, in that unit. No line is drawn across.
    """

    def __init__(self, data: SessionData, points: int = _POINTS) -> None:
        self._points = points
        display = data.profile.display
        self.change = change_unit(data.family, display)
        self.coefficient = coefficient_unit(data.family, display)
        times = self._times = data.times
        span = float(times[-1] - min(times[0], 0))
        seconds, self.time_unit = _time_unit(span)
        self.per_second = 1 / seconds
        self.end = max(float(times[-1]), 1.0) * self.per_second
        steps = np.diff(times)
        usual = float(np.median(steps)) if steps.size else 1.0
        gaps = np.flatnonzero(steps > max(_GAP_INTERVALS * usual, _GAP_S)) + 1
        spans = baseline_spans(data)
        self.new_baselines = [span.begin * self.per_second for span in spans[1:]]
        begins = [span.rows.start for span in spans[1:]]
        edges = sorted({0, *gaps.tolist(), *begins, len(times)})
        # The longest stretches between gaps; shorter ones would not be visible.
        stretches = sorted(
            (slice(a, b) for a, b in itertools.pairwise(edges)),
            key=lambda part: part.start - part.stop,
        )
        self._stretches = sorted(stretches[:_MAX_STRETCHES], key=lambda p: p.start)

    def line(
        self, values: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return times and values of a curve (N,), with every peak and every gap."""
        times, thin = self._thinned(
            lambda part, points: decimate_curve(self._times[part], values[part], points)
        )
        return times, thin

    def band(
        self, low: NDArray[np.float64], high: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return times and edges of a band, (N,) each."""
        times, lower, upper = self._thinned(
            lambda part, points: decimate_band(
                self._times[part], low[part], high[part], points // 3
            )
        )
        return times, lower, upper

    def _thinned(
        self, thin: Callable[[slice, int], Sequence[NDArray[np.float64]]]
    ) -> list[NDArray[np.float64]]:
        """Thin each stretch by itself, with NaN between stretches."""
        pieces = []
        for part in self._stretches:
            share = (part.stop - part.start) / len(self._times)
            times, *values = thin(part, max(int(self._points * share), 12))
            pieces.append([times * self.per_second, *values])
            pieces.append(
                [times[-1:] * self.per_second, *(v[-1:] * np.nan for v in values)]
            )
        return [np.concatenate(columns) for columns in zip(*pieces, strict=True)]


def _time_unit(span_s: float) -> tuple[float, str]:
    """Return seconds per unit, and the unit's name, for a plot of `span_s` seconds."""
    if span_s < 240:
        return 1.0, "s"
    return (60.0, "min") if span_s < 2 * 3600 else (3600.0, "h")
