"""The figure of a session's PSFs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deepblur_live.drift import clock_text
from deepblur_live.session.display_unit import coefficient_unit
from deepblur_live.session.figure_style import FONT, WIDE, set_margins
from deepblur_live.session.report.moments import short_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from deepblur_live.session.display_unit import DisplayUnit
    from deepblur_live.session.report.moment import Moment
    from deepblur_live.session.report.read import SessionData

__all__ = ["psf_figure"]

# The PSF is shown within this many periods of the cut-off from its centre, and this
# many times upsampled.
_PSF_PERIODS = 2.1
_UPSAMPLING = 8


def psf_figure(data: SessionData, shown: Sequence[Moment]) -> Figure:
    """Draw the square root of the PSF of each moment, all on one scale.

    For a field: those at the centres of 3 × 3 parts of the frame, and below them maps
    of the wavefront error.
    """
    # (places, moments, K, K)
    psfs = np.stack([moment.psfs for moment in shown], axis=1)
    middle = psfs.shape[-1] // 2
    half = min(middle, round(_PSF_PERIODS / data.family.cutoff))
    window = slice((middle - half) * _UPSAMPLING, (middle + half) * _UPSAMPLING + 1)
    fine = _side_by_side(_interpolated(psfs)[..., window, window])
    pixel_um = data.profile.optics.pixel_size_nm / 1000
    side = 2 * half + 1
    size = f"{side} px" if data.contradiction else f"{side * pixel_um:.2g} µm"
    width = f"{'each ' if len(psfs) > 1 else ''}{size} wide"
    with mpl.rc_context(FONT):
        sensor = data.family.sensor
        lines = len(data.family.mean_quality)
        # Squares of a quarter of the width, a title above them, the quality below.
        top, bottom, gap = 0.35, 0.1 + 0.19 * lines, 0.08
        high = top + (WIDE - 5 * gap) / 4 + bottom if sensor is None else 6.2
        figure = Figure((WIDE, high), facecolor="white")
        FigureCanvasAgg(figure)
        grid = figure.subplots(1 if sensor is None else 2, 4, squeeze=False)
        if sensor is None:
            set_margins(figure, gap, gap, top, bottom, across=gap)
        else:
            figure.set_layout_engine("constrained")
        axes = grid[0]
        if sensor is not None:
            unit = coefficient_unit(data.family, data.profile.display)
            maps = [one.errors for one in shown if one.errors is not None]
            _draw_error_maps(list(grid[1]), np.stack(maps), sensor, unit)
        for axis, psf, moment in zip(axes, fine, shown, strict=False):
            image = np.sqrt(np.maximum(psf, 0) / fine.max())
            axis.imshow(image, cmap="inferno", vmin=0, vmax=1, interpolation="bicubic")
            point, measures = moment.point, moment.quality.measures
            when = "" if point.time is None else f"  {clock_text(point.time)}"
            axis.set_title(f"{point.name}{when}", loc="left", weight="bold")
            quality = [f"{q.name} {' '.join(short_value(q))}" for q in measures]
            axis.set_xlabel("\n".join(quality), loc="left")
            axis.set(xticks=[], yticks=[])
        for axis in axes[len(shown) :]:
            axis.set_axis_off()
        axes[0].text(0.03, 0.03, width, color="white", transform=axes[0].transAxes)
    return figure


def _draw_error_maps(
    axes: list[Axes],
    maps: NDArray[np.float32],
    sensor: tuple[int, int],
    unit: DisplayUnit,
) -> None:
    """Draw wavefront errors (n, h, w) over the sensor's rows and columns."""
    maps, (rows, columns) = maps * unit.scale, sensor
    shown: Any = None
    for axis, one in zip(axes, maps, strict=False):
        shown = axis.imshow(
            one,
            cmap="inferno",
            vmin=0,
            vmax=max(maps.max(), 1e-12),
            extent=(0, columns, rows, 0),
        )
        axis.set(xticks=[], yticks=[])
    axes[0].set_ylabel("wavefront error")
    axes[0].figure.colorbar(shown, ax=axes, label=unit.name, shrink=0.8)
    for axis in axes[len(maps) :]:
        axis.set_axis_off()


def _side_by_side(psfs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n, h, w): each moment's PSFs (N, n, h, w), of N places, in a square."""
    count, side = psfs.shape[1], math.isqrt(psfs.shape[0])
    rows = psfs.reshape(side, side, *psfs.shape[1:])
    squares = rows.transpose(2, 0, 3, 1, 4)
    whole: NDArray[np.float64] = squares.reshape(
        count, side * psfs.shape[2], side * psfs.shape[3]
    )
    return whole


def _interpolated(psfs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return PSFs (..., K, K) at finer points, by Fourier interpolation."""
    side, axes = psfs.shape[-1], (-2, -1)
    before = side * _UPSAMPLING // 2 - side // 2
    pad = (before, side * (_UPSAMPLING - 1) - before)
    spectrum = np.fft.fftshift(np.fft.fft2(psfs), axes)
    around = ((0, 0),) * (psfs.ndim - 2) + (pad, pad)
    spectrum = np.fft.ifftshift(np.pad(spectrum, around), axes)
    fine: NDArray[np.float64] = np.fft.ifft2(spectrum).real
    return fine
