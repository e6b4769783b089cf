"""Parts of a plot over the session's time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from deepblur_live.gui.binding import pg
from deepblur_live.gui.state_text import session_time

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TimeAxis", "add_curve", "add_limit"]

_TICKS_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)


class TimeAxis(pg.AxisItem):  # type: ignore[misc]
    """Ticks at round session times."""

    def tickSpacing(
        self, minVal: float, maxVal: float, size: float
    ) -> list[tuple[float, float]]:
        """Return the distance of the ticks."""
        wanted = max(maxVal - minVal, 1.0) / max(size / 90, 2)
        step = next(
            (s for s in _TICKS_S if s >= wanted), 14400 * math.ceil(wanted / 14400)
        )
        return [(float(step), 0.0)]

    def tickStrings(
        self, values: Sequence[float], scale: float, spacing: float
    ) -> list[str]:
        """Return the ticks' texts."""
        return [session_time(value * scale) for value in values]


def add_limit(plot: Any, height: float, label: str, position: float) -> Any:
    """Add a line; `position` of its label is the share of the plot's width.

    The label is on the line: in a low plot there is no room beside it.
    """
    line = pg.InfiniteLine(
        pos=height,
        angle=0,
        label=label,
        labelOpts={"position": position, "anchors": [(0, 0.5), (0, 0.5)]},
    )
    plot.addItem(line, ignoreBounds=True)
    return line


def add_curve(plot: Any) -> tuple[Any, Any]:
    """Add a curve, and the marks of its alerts."""
    curve = pg.PlotCurveItem(connect="finite")
    marks = pg.ScatterPlotItem(symbol="t", size=11, pen=pg.mkPen(None))
    plot.addItem(curve)
    plot.addItem(marks)
    return curve, marks
