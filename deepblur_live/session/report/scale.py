"""The units of a report's plots, and long curves in few points, with their gaps."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.session.axes import time_unit
from deepblur_live.session.decimate import decimate_band, decimate_curve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from deepblur_live.session.report.read import SessionData

__all__ = ["Scale"]

_POINTS = 1500
# Silence so many times the usual interval, and of so many seconds, breaks the line.
_GAP_INTERVALS = 8
_GAP_S = 10.0
_MOST_STRETCHES = 200


class Scale:
    """Units of a session's plots: nm or waves, s, min or h; and lines with gaps.

    Parameters
    ----------
    data
        The session.
    """

    def __init__(self, data: SessionData) -> None:
        display, optics = data.profile.display, data.profile.optics
        self.unit = display.units
        self.factor = optics.wavelength_nm if self.unit == "nm" else 1.0
        times = data.times
        self.second, self.time_name = time_unit(float(times[-1] - min(times[0], 0)))
        self.second = 1 / self.second
        steps = np.diff(times)
        usual = float(np.median(steps)) if steps.size else 1.0
        gaps = np.flatnonzero(steps > max(_GAP_INTERVALS * usual, _GAP_S)) + 1
        edges = [0, *gaps.tolist(), len(times)]
        # The longest stretches without a gap; a few points alone would not show.
        stretches = sorted(
            (slice(a, b) for a, b in itertools.pairwise(edges)),
            key=lambda part: part.start - part.stop,
        )
        self._stretches = sorted(stretches[:_MOST_STRETCHES], key=lambda p: p.start)
        self._times = times
        self.begin = 0.0
        self.end = max(float(times[-1]), 1.0) * self.second

    def line(
        self, values: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return a curve of few points that shows every excursion and every gap."""
        times, thin = self._thinned(
            lambda part, points: decimate_curve(self._times[part], values[part], points)
        )
        return times, thin

    def band(
        self, low: NDArray[np.float64], high: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return a band of few points."""
        times, lower, upper = self._thinned(
            lambda part, points: decimate_band(
                self._times[part], low[part], high[part], points // 3
            )
        )
        return times, lower, upper

    def _thinned(
        self, thin: Callable[[slice, int], Sequence[NDArray[np.float64]]]
    ) -> list[NDArray[np.float64]]:
        """Thin stretch by stretch, with a hole between two."""
        whole = len(self._times)
        pieces = []
        for part in self._stretches:
            points = max(_POINTS * (part.stop - part.start) // whole, 12)
            times, *values = thin(part, points)
            pieces.append([times * self.second, *values])
            pieces.append(
                [times[-1:] * self.second, *(v[-1:] * np.nan for v in values)]
            )
        return [np.concatenate(columns) for columns in zip(*pieces, strict=True)]
