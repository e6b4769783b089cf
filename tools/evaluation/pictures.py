"""The pictures of the evaluation: example frames, and the coverage of intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from PIL import Image

from deepblur_live.optics import psf_snr, psnr
from evaluation.case import Case, Plan, Spec
from evaluation.scores import BANDS
from evaluation.table import Row, grouped

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from deepblur_live.blur import ErrorModel

__all__ = ["draw_coverage", "draw_examples"]

# The middle of a frame at one screen pixel per camera pixel shows what changed.
_SIDE = 200
_SIGMA = 0.01


def _examples(plan: Plan) -> list[Spec]:
    """Return two frames of each kind, a third and two thirds down the list."""
    return [
        Spec(paths[i], kind, 7 * number + i, _SIGMA)
        for number, (kind, paths) in enumerate(plan.pictures.items())
        for i in sorted({len(paths) // 3, 2 * len(paths) // 3})
        if i < len(paths)
    ]


def draw_examples(plan: Plan, file: Path) -> None:
    """Draw raw and deblurred frames, the truth, and both PSFs into a PNG."""
    specs = _examples(plan)
    figure, axes = plt.subplots(
        len(specs), 5, figsize=(10, 2.2 * len(specs)), squeeze=False, dpi=100
    )
    for row, spec in zip(axes, specs, strict=True):
        _draw_row(row, Case(spec, plan.model))
    figure.tight_layout(pad=0.4)
    # Few grey levels: a quarter of the size, and the eye sees no difference.
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
    plt.close(figure)
    Image.fromarray(pixels).quantize(64).save(file, optimize=True)


def _draw_row(axes: Sequence[plt.Axes], case: Case) -> None:
    frame, estimate = case.frame, case.shipped[0]
    truth, raw, found = (
        image.numpy() for image in (frame.truth, frame.observed, case.deblurred)
    )
    middle = tuple(slice((n - _SIDE) // 2, (n + _SIDE) // 2) for n in truth.shape)
    psf = case.psf_of(estimate)
    deblurred, identified = "not identified: raw", "not identified: mean PSF"
    if estimate.trusted:
        deblurred = f"deblurred: {psnr(found, truth):.1f} dB"
        identified = f"estimated: {float(psf_snr(psf, case.psf)):.1f} dB"
    images = {
        f"raw, σ {frame.sigma:g}: {psnr(raw, truth):.1f} dB": raw[middle],
        deblurred: found[middle],
        "truth": truth[middle],
    }
    low, high = np.percentile(truth[middle], (0.5, 99.5))
    for ax, (title, image) in zip(axes[:3], images.items(), strict=True):
        ax.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        ax.set_title(title, fontsize=8)
    psfs = {"true PSF": case.psf, identified: psf}
    for ax, (title, image) in zip(axes[3:], psfs.items(), strict=True):
        # The square root shows the faint lobes too.
        ax.imshow(image.sqrt(), cmap="gray", vmin=0, vmax=float(case.psf.max()) ** 0.5)
        ax.set_title(title, fontsize=8)
    for ax in axes:
        ax.set_axis_off()


def draw_coverage(rows: Sequence[Row], errors: ErrorModel, file: Path) -> None:
    """Draw measured against nominal coverage into a PNG, one line per noise level."""
    picture, axes = plt.subplots(figsize=(4.5, 4.2), dpi=100)
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    for share, (low, high) in BANDS.items():
        goal = {"color": "0.8", "lw": 7, "solid_capstyle": "butt", "zorder": 0}
        axes.plot([share, share], [low, high], **goal)
    shares = np.linspace(0.02, 0.99, 98)
    limits = np.array([errors.coverage_factor(float(share)) for share in shares])
    for (sigma,), part in sorted(grouped(rows, "sigma").items()):
        deviations = np.concatenate([np.asarray(r["deviations"], float) for r in part])
        inside = (deviations <= limits[:, None]).sum(1) / max(1, len(deviations))
        axes.plot(shares, inside, label=f"σ {sigma:g}, {len(deviations)} coefficients")
    axes.set(xlabel="nominal coverage", ylabel="measured coverage")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.legend(fontsize=7, loc="upper left", frameon=False)
    picture.tight_layout()
    picture.savefig(file)
    plt.close(picture)
