"""A frame raw, deblurred and, where it is known, the truth: side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deepblur_live.drift import clock_text
from deepblur_live.optics import psnr, ssim
from deepblur_live.session.palette import INK, MUTED

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from deepblur_live.profile import Profile
    from deepblur_live.session.fidelity import ImageSample

__all__ = ["save_comparison"]

_DPI = 100
# 512 pixels at this resolution: the centre of a large frame is shown one to one.
_PANEL_INCHES = 5.12
_GAP_INCHES = 0.12
_TOP_INCHES = 0.78
# Lengths of a scale bar, in µm or pixels.
_SCALE_BARS = (100, 50, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1)


def save_comparison(path: Path, sample: ImageSample, profile: Profile) -> None:
    """Write a PNG of raw | deblurred | truth with one common contrast.

    The contrast spans the truth (or the deblurred image where no truth is known),
    without the profile's clipped tails: the panels can be compared by eye.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    panels = [("raw", sample.raw), ("deblurred", sample.deblurred)]
    if sample.truth is not None:
        panels.append(("truth", sample.truth))
    clip = profile.display.clip_percent
    low, high = np.percentile(panels[-1][1], (clip, 100 - clip))
    high = max(high, low + 1e-6)
    figure, axes = _frame_of(len(panels), sample.raw.shape)
    for axis, (name, image) in zip(axes, panels, strict=True):
        axis.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        axis.set_axis_off()
        axis.set_title(
            name + _score(image, sample.truth if name != "truth" else None),
            fontsize=12,
            color=INK,
            loc="left",
            pad=5,
        )
    _scale_bar(axes[0], sample.raw.shape[1], sample.pixel_size_nm)
    height, width = sample.raw.shape
    figure.text(
        _GAP_INCHES / figure.get_figwidth(),
        1 - 0.12 / figure.get_figheight(),
        f"Frame {sample.number} at {clock_text(sample.time)}  ·  {width} × {height} "
        f"pixels  ·  common contrast {low:.0f} to {high:.0f} ADU",
        fontsize=11,
        color=MUTED,
        va="top",
    )
    figure.savefig(path, dpi=_DPI)


def _frame_of(count: int, shape: tuple[int, ...]) -> tuple[Figure, list[Axes]]:
    """Return a figure with axes of the image's proportions, to the pixel."""
    aspect = min(max(shape[0] / shape[1], 0.25), 2.0)
    wide = count * _PANEL_INCHES + (count + 1) * _GAP_INCHES
    panel_height = _PANEL_INCHES * aspect
    high = panel_height + _TOP_INCHES + _GAP_INCHES
    figure = Figure(figsize=(wide, high), facecolor="white")
    FigureCanvasAgg(figure)
    axes = [
        figure.add_axes(
            (
                (_GAP_INCHES + k * (_PANEL_INCHES + _GAP_INCHES)) / wide,
                _GAP_INCHES / high,
                _PANEL_INCHES / wide,
                panel_height / high,
            )
        )
        for k in range(count)
    ]
    return figure, axes


def _score(image: NDArray[np.float32], truth: NDArray[np.float32] | None) -> str:
    if truth is None or (peak := float(np.ptp(truth))) <= 0:
        return ""
    return f"   {psnr(image, truth, peak):.1f} dB, SSIM {ssim(image, truth, peak):.2f}"


def _scale_bar(axis: Axes, width: int, pixel_nm: float | None) -> None:
    """Draw a scale bar, in pixels if their size is not known."""
    field, unit = (width, "px") if pixel_nm is None else (width * pixel_nm / 1000, "µm")
    length = next((one for one in _SCALE_BARS if one <= field / 4), None)
    if length is None:
        return
    left, bottom = 0.04, 0.05
    share = length / field
    axis.plot(
        (left, left + share),
        (bottom, bottom),
        transform=axis.transAxes,
        color="white",
        linewidth=4,
        solid_capstyle="butt",
    )
    axis.text(
        left,
        bottom + 0.015,
        f"{length:g} {unit}",
        transform=axis.transAxes,
        color="white",
        fontsize=11,
        va="bottom",
    )
