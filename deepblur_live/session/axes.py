"""How the session's plots look: grid, spines, a unit for the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.session.palette import GRID, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["beside", "dress", "time_unit"]


def dress(axis: Axes, ink: str) -> None:
    """Give an axis a light grid, two quiet spines, and labels in `ink`."""
    axis.grid(color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(MUTED)
    axis.tick_params(colors=MUTED, labelcolor=ink)


def time_unit(span_s: float) -> tuple[float, str]:
    """Return seconds a unit, and the unit's name, for a plot of so many seconds."""
    if span_s < 240:
        return 1.0, "s"
    return (60.0, "min") if span_s < 2 * 3600 else (3600.0, "h")


def beside(axis: Axes, value: float, text: str, colour: str) -> None:
    """Write `text` to the right of an axis, at the height of `value`."""
    axis.annotate(
        text,
        (1.0, value),
        xycoords=("axes fraction", "data"),
        xytext=(6, 0),
        textcoords="offset points",
        color=colour,
        va="center",
        fontsize=9.5,
        annotation_clip=False,
    )
