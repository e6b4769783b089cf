"""The maps of a calibration's report: coefficients over the field, and their error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deepblur_live.optics.zernike import MODE_NAMES
from deepblur_live.session.figure_style import FONT, WIDE
from deepblur_live.session.palette import INK, MUTED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.calibration import Calibration

__all__ = ["field_figure"]

_HIGH = 6.2
# Number of modes that are drawn, those that vary most; points along the longer side.
_SHOWN, _POINTS = 5, 48


def field_figure(one: Calibration) -> Figure:
    """Draw the modes that vary most over the field, and the error of all.

    Parts that are too far from any bead are hatched.
    """
    field, nm = one.field, one.model.optics.wavelength_nm
    height, width = one.trend.shape
    rows = np.linspace(
        0, height, max(8, round(_POINTS * height / max(one.trend.shape)))
    )
    columns = np.linspace(
        0, width, max(8, round(_POINTS * width / max(one.trend.shape)))
    )
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1)
    value, far = field.at(grid), field.far(grid)
    mean = nm * value.mean
    order = np.argsort(-mean.std((0, 1)))[:_SHOWN]
    maps: list[tuple[str, NDArray[np.float64], str]] = []
    for p in sorted(order):
        j = one.model.noll[p]
        maps.append((f"{j}  {MODE_NAMES.get(j, '')}".strip(), mean[..., p], "viridis"))
    error = nm * np.linalg.norm(value.sigma, axis=-1)
    maps.append(("Error, all modes", error, "Greys"))
    places = np.array([(b.found.column, b.found.row) for b in one.used])
    with mpl.rc_context(FONT):
        figure = Figure((WIDE, _HIGH), facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(2, -(-len(maps) // 2), squeeze=False).ravel()
        for axis, (name, values, colours) in zip(axes, maps, strict=False):
            drawn = axis.pcolormesh(
                columns, rows, values, cmap=colours, shading="gouraud", rasterized=True
            )
            figure.colorbar(drawn, ax=axis, label="nm rms", shrink=0.8)
            if far.any():
                axis.contourf(
                    columns,
                    rows,
                    far.astype(float),
                    levels=[0.5, 1.5],
                    colors="none",
                    hatches=["////"],
                )
            axis.scatter(places[:, 0], places[:, 1], s=9, color="white", edgecolors=INK)
            axis.set_title(name, loc="left")
            axis.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
            axis.tick_params(colors=MUTED, labelcolor=INK, labelsize=8)
        for axis in axes[len(maps) :]:
            axis.set_axis_off()
    return figure
