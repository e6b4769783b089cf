"""Parts of a plot over the session's time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.drift import DriftState
from deepblur_live.gui.binding import QtCore, pg
from deepblur_live.gui.state_text import session_time
from deepblur_live.gui.theme import ALARM, WARN
from deepblur_live.session.decimate import decimate_curve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from deepblur_live.drift import Alert
    from deepblur_live.gui.theme import Colours

__all__ = [
    "LimitLines",
    "TimeAxis",
    "ValueAxis",
    "add_curve",
    "fit_height",
    "mark_alerts",
]

_MAX_MARKS = 200
_TICKS_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)

# Maximum number of points of a limit's line, which seldom changes.
_LIMIT_POINTS = 400

# Height of the label of a tick, and the width of a time with hours; pixels.
_LABEL_PX, _TIME_PX = 15, 60


class ValueAxis(pg.AxisItem):  # type: ignore[misc]
    """Ticks at least as far apart as their labels are high, also in a low plot."""

    def tickSpacing(
        self, minVal: float, maxVal: float, size: float
    ) -> list[tuple[float, float]]:
        """Return the spacings of the ticks, the labelled ones first."""
        levels: list[tuple[float, float]] = super().tickSpacing(minVal, maxVal, size)
        if not levels or size <= 0:
            return levels
        (step, offset), *finer = levels
        least = (maxVal - minVal) * _LABEL_PX / size
        # Finer ticks have labels only if there is room for them.
        return [(step * max(1, math.ceil(least / step)), offset), *finer]


class TimeAxis(pg.AxisItem):  # type: ignore[misc]
    """Ticks at round session times."""

    def tickSpacing(
        self, minVal: float, maxVal: float, size: float
    ) -> list[tuple[float, float]]:
        """Return the spacing of the ticks."""
        wanted = max(maxVal - minVal, 1.0) / max(size / _TIME_PX, 2)
        step = next(
            (s for s in _TICKS_S if s >= wanted), 14400 * math.ceil(wanted / 14400)
        )
        return [(float(step), 0.0)]

    def tickStrings(
        self, values: Sequence[float], scale: float, spacing: float
    ) -> list[str]:
        """Return the ticks' texts."""
        return [session_time(value * scale) for value in values]


class LimitLines:
    """Warning and alarm limits of a plot: dashed where in force, else dotted and grey.

    The plot's title states their values.

    Parameters
    ----------
    plot
        Where they are drawn.
    warn, alarm
        Limits of the profile, in the plot's unit.
    """

    def __init__(self, plot: Any, warn: float, alarm: float) -> None:
        self._settings = [pg.InfiniteLine(angle=0) for _ in range(2)]
        self._curves = [pg.PlotCurveItem(connect="finite") for _ in range(2)]
        for line in self._settings:
            plot.addItem(line, ignoreBounds=True)
        for curve in self._curves:
            plot.addItem(curve)
        self.set_values(warn, alarm)

    def set_values(self, warn: float, alarm: float) -> None:
        """Set other limits, in the plot's unit, and forget where they were in force."""
        for line, curve, value in zip(
            self._settings, self._curves, (warn, alarm), strict=True
        ):
            line.setValue(value)
            curve.setData([], [])

    def set_colours(self, colours: Colours) -> None:
        """Take the colours that fit the host's palette."""
        style = QtCore.Qt.PenStyle
        pen = pg.mkPen(colours.axis, width=1, style=style.DotLine)
        for line, curve, colour in zip(
            self._settings, self._curves, (colours.warn, colours.alarm), strict=True
        ):
            line.setPen(pen)
            curve.setPen(pg.mkPen(colour, width=1, style=style.DashLine))

    def show(self, times: NDArray[np.float64], in_force: NDArray[np.float64]) -> None:
        """Draw the limits in force (N, 2) at times (N,); NaN where there were none."""
        for curve, limit in zip(self._curves, in_force.T, strict=True):
            at, values = decimate_curve(times, limit, _LIMIT_POINTS)
            # Each holds until the next point.
            curve.setData(np.repeat(at, 2)[1:], np.repeat(values, 2)[:-1])


def add_curve(plot: Any) -> tuple[Any, Any]:
    """Add a curve, and the marks of its alerts."""
    curve = pg.PlotCurveItem(connect="finite")
    marks = pg.ScatterPlotItem(symbol="t", size=11, pen=pg.mkPen(None))
    plot.addItem(curve)
    plot.addItem(marks)
    return curve, marks


def mark_alerts(
    marks: Any,
    times: NDArray[np.float64],
    change: NDArray[np.float64],
    alerts: Sequence[Alert],
) -> None:
    """Mark alerts at their time, at the height of the curve."""
    spots = []
    for alert in alerts[-_MAX_MARKS:]:
        nearest = min(int(np.searchsorted(times, alert.time)), len(times) - 1)
        height = change[nearest] if np.isfinite(change[nearest]) else 0.0
        # Their shape distinguishes them where their colour does not.
        alarm = alert.level is DriftState.ALARM
        colour, symbol = (ALARM, "t") if alarm else (WARN, "o")
        spots.append({"pos": (alert.time, height), "brush": colour, "symbol": symbol})
    marks.setData(spots)


def fit_height(plot: Any, change: NDArray[np.float64], least: float) -> None:
    """Show a curve from zero to its highest value, or to `least`."""
    finite = change[np.isfinite(change)]
    top = max(least, 1.1 * float(finite.max()) if finite.size else 0.0)
    plot.setYRange(0, top, padding=0)
