"""Parts of a plot over the session's time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.drift import DriftState
from deepblur_live.gui.binding import pg
from deepblur_live.gui.state_text import session_time
from deepblur_live.gui.theme import ALARM, WARN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from deepblur_live.drift import Alert

__all__ = [
    "TimeAxis",
    "ValueAxis",
    "add_curve",
    "add_limit",
    "fit_height",
    "mark_alerts",
]

_MAX_MARKS = 200
_TICKS_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)

# Height of the label of a tick, and the width of a time with hours; pixels.
_LABEL_PX, _TIME_PX = 15, 60


class ValueAxis(pg.AxisItem):  # type: ignore[misc]
    """Ticks that are as far apart as their labels are high, in a low plot too."""

    def tickSpacing(
        self, minVal: float, maxVal: float, size: float
    ) -> list[tuple[float, float]]:
        """Return the distances of the ticks, the labelled ones first."""
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
        """Return the distance of the ticks."""
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


def add_limit(plot: Any, height: float) -> Any:
    """Add the line of a limit, which the plot's title names."""
    line = pg.InfiniteLine(pos=height, angle=0)
    plot.addItem(line, ignoreBounds=True)
    return line


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
