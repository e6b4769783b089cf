"""The common style of all figures in reports: width, fonts, axes and format."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG

from deepblur_live.session.palette import ALARM, CURVES, GRID, INK, MUTED, WARN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FONT", "WIDE", "set_margins", "style", "svg"]

WIDE = 10.6
"""Width of a figure, inches."""
FONT: dict[Any, Any] = {
    "font.size": 10.5,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "axes.labelcolor": INK,
    "text.color": INK,
    # The usual place: to compute it takes as long as drawing the axes.
    "axes.titley": 1.0,
}
# Colours that the page's style sheet sets, for light and dark pages and for paper.
_THEMED = {INK: "--ink", MUTED: "--muted", GRID: "--grid", WARN: "--warn"}
_THEMED |= {ALARM: "--alarm", CURVES[4]: "--blue", CURVES[7]: "--slate"}


def style(axis: Axes) -> None:
    """Draw a grid behind the curves, and no frame above and at the right."""
    axis.grid(color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(MUTED)
    axis.tick_params(colors=MUTED, labelcolor=INK)


def set_margins(
    figure: Figure,
    left: float,
    right: float,
    top: float,
    bottom: float,
    across: float = 0.0,
    down: float = 0.0,
) -> None:
    """Set the margins around the axes and the gaps between them, in inches.

    An automatic layout takes as long as drawing the figure.
    """
    grid = figure.axes[0].get_gridspec()
    assert grid is not None
    rows, columns = grid.get_geometry()
    wide, high = figure.get_size_inches()
    # Gaps are relative to the mean size of the axes.
    width = (wide - left - right - (columns - 1) * across) / columns
    height = (high - top - bottom - (rows - 1) * down) / rows
    figure.subplots_adjust(
        left=left / wide,
        right=1 - right / wide,
        top=1 - top / high,
        bottom=bottom / high,
        wspace=across / width,
        hspace=down / height,
    )


def svg(figure: Figure, name: str) -> str:
    """Return a figure as SVG: its text is text, its greys the colours of the page.

    `name` distinguishes the ids of the figures of one page.
    """
    content = io.StringIO()
    options: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": name}
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # The page's own background shows through. `savefig` would draw twice.
    grounds = [figure.patch, *(axis.patch for axis in figure.axes)]
    for ground in grounds:
        ground.set_visible(False)
    with mpl.rc_context(options):
        canvas = FigureCanvasSVG(figure)
        canvas.print_svg(content, metadata=metadata)  # type: ignore[no-untyped-call]
    for ground in grounds:
        ground.set_visible(True)
    text = content.getvalue()
    for colour, variable in _THEMED.items():
        text = text.replace(colour, f"var({variable})")
    return text[text.index("<svg") :]
