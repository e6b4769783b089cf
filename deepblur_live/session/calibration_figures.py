"""The figures of a calibration's report: map of beads, modes, widths, pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deepblur_live.calibration import BeadState
from deepblur_live.calibration.registered import moved_to
from deepblur_live.optics.zernike import MODE_NAMES
from deepblur_live.session.figure_style import FONT, WIDE, style
from deepblur_live.session.palette import ALARM, CURVES, GRID, INK, MUTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from deepblur_live.calibration import Calibration
    from deepblur_live.calibration.measures import Widths

__all__ = ["map_figure", "modes_figure", "pictures_figure", "widths_figure"]

# Number of planes of the pictures, and amplification of the residuals.
_SHOWN, _AMPLIFIED = 5, 5
_COLOURS = {
    BeadState.USED: CURVES[2],
    BeadState.TOGETHER: CURVES[3],
    BeadState.EDGE: CURVES[7],
    BeadState.CROWDED: CURVES[0],
    BeadState.SATURATED: CURVES[5],
    BeadState.DIM: CURVES[1],
    BeadState.OVERLAP: CURVES[6],
    BeadState.FAILED: ALARM,
}
_MARKS = {BeadState.USED: "o", BeadState.TOGETHER: "o"}


def map_figure(one: Calibration) -> Figure:
    """Draw where the beads are, why some are refused, and the focus over the field."""
    with mpl.rc_context(FONT):
        figure, axes = _figure(4.9, 2)
        frame, focus = axes
        for state in one.counts():
            places = np.array(
                [
                    (bead.found.column, bead.found.row)
                    for bead in one.beads
                    if bead.found.state is state
                ]
            )
            frame.scatter(
                places[:, 0],
                places[:, 1],
                s=26,
                color=_COLOURS[state],
                marker=_MARKS.get(state, "x"),
                label=f"{len(places)} {state}",
            )
        frame.set_title("Beads", loc="left")
        frame.legend(
            loc="upper left", bbox_to_anchor=(0, -0.12), frameon=False, fontsize=9
        )
        fits = [b.fit for b in one.used if b.fit is not None]
        places = np.array([(b.found.column, b.found.row) for b in one.used])
        z_nm = np.array([1e3 * fit.bead.z_um for fit in fits])
        z_nm = z_nm - np.median(z_nm)
        most = max(1.0, float(np.abs(z_nm).max()))
        drawn = focus.scatter(
            places[:, 0],
            places[:, 1],
            c=z_nm,
            s=40,
            cmap="coolwarm",
            vmin=-most,
            vmax=most,
        )
        figure.colorbar(drawn, ax=focus, label="nm", shrink=0.75)
        focus.set_title("Height of the beads in focus", loc="left")
        height, width = one.trend.shape
        for axis in axes:
            style(axis)
            axis.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
            axis.set_xlabel("column (pixels)")
            axis.set_ylabel("row (pixels)")
    return figure


def modes_figure(one: Calibration) -> Figure:
    """Draw the modes in the middle of the field, with the scatter of single beads."""
    nm = one.model.optics.wavelength_nm
    names = [f"{j}  {MODE_NAMES.get(j, '')}".strip() for j in one.model.noll]
    mean, scatter = nm * one.trend.terms[0], nm * one.trend.scatter
    slopes = nm * np.abs(one.trend.terms[1:]).sum(0) / 2
    with mpl.rc_context(FONT):
        figure, (axis,) = _figure(0.9 + 0.24 * len(names), 1)
        places = np.arange(len(names))
        axis.axvline(0, color=MUTED, linewidth=0.8)
        axis.barh(places, 2 * slopes, left=mean - slopes, height=0.85, color=GRID)
        axis.barh(places, mean, height=0.5, color=CURVES[4])
        axis.errorbar(
            mean, places, xerr=scatter, fmt="none", ecolor=INK, capsize=2.5, linewidth=1
        )
        axis.set_yticks(places, names)
        axis.invert_yaxis()
        axis.set_xlabel("nm rms")
        style(axis)
    return figure


def widths_figure(one: Calibration, sizes: Sequence[Widths]) -> Figure:
    """Draw the widths of the beads over their distance from the middle of the field."""
    places = np.array([(bead.found.row, bead.found.column) for bead in one.used])
    away = np.hypot(*(places - np.array(one.trend.shape) / 2).T)
    with mpl.rc_context(FONT):
        figure, (lateral, axial) = _figure(2.9, 2)
        rows = [size.along_rows for size in sizes]
        columns = [size.along_columns for size in sizes]
        lateral.scatter(away, rows, s=20, color=CURVES[4], label="along rows")
        lateral.scatter(
            away, columns, s=20, color=CURVES[5], marker="^", label="along columns"
        )
        lateral.legend(frameon=False, fontsize=9)
        lateral.set_ylabel("lateral FWHM (nm)")
        axial.scatter(away, [size.axial for size in sizes], s=20, color=CURVES[2])
        axial.set_ylabel("axial FWHM (nm)")
        for axis in (lateral, axial):
            axis.set_xlabel("distance from the middle of the field (pixels)")
            axis.margins(y=0.3)
            style(axis)
    return figure


def pictures_figure(one: Calibration) -> Figure:
    """Draw a typical bead: measured, fitted, and the residuals."""
    bead, fit = min(
        ((b.found, b.fit) for b in one.used if b.fit is not None),
        key=lambda pair: abs(
            pair[1].unexplained
            - float(np.median([b.fit.unexplained for b in one.used if b.fit]))
        ),
    )
    extra = moved_to(one.residual, fit.bead, one.model.z_um).numpy()
    pupil, data = fit.model, fit.model + fit.residual
    whole = pupil + fit.bead.brightness * extra
    planes = np.unique(np.linspace(0, len(data) - 1, _SHOWN).round().astype(int))
    peak = float(data.max())
    rows: list[tuple[str, NDArray[np.float64], bool]] = [
        ("measured", data, False),
        ("pupil", pupil, False),
        ("pupil and residual", whole, False),
        (f"measured − pupil, × {_AMPLIFIED}", data - pupil, True),
        (f"measured − both, × {_AMPLIFIED}", data - whole, True),
    ]
    with mpl.rc_context(FONT):
        figure = Figure((WIDE, 10.2), facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(rows), len(planes), squeeze=False)
        for line, (name, images, signed) in zip(axes, rows, strict=True):
            for axis, plane in zip(line, planes, strict=True):
                image = images[plane]
                if signed:
                    limit = peak / _AMPLIFIED
                    axis.imshow(image, cmap="coolwarm", vmin=-limit, vmax=limit)
                else:
                    shown = np.sqrt(image.clip(0) / peak)
                    axis.imshow(shown, cmap="inferno", vmin=0, vmax=1)
                axis.set(xticks=[], yticks=[])
            line[0].set_ylabel(name)
        for axis, plane in zip(axes[0], planes, strict=True):
            axis.set_title(f"{one.model.z_um[plane]:+.2f} µm", fontsize=10)
        figure.suptitle(
            f"bead at row {bead.row}, column {bead.column}", x=0.01, ha="left"
        )
    return figure


def _figure(height: float, columns: int) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure((WIDE, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, squeeze=False)
    return figure, list(axes[0])
