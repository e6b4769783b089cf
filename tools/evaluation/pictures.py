"""The picture of the evaluation: raw, deblurred, truth, true and estimated PSF."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from PIL import Image

from deepblur_live.optics import psf_snr, psnr
from evaluation.case import Case, Spec
from evaluation.deblurring import ours

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evaluation.plan import Plan

__all__ = ["chosen", "draw"]

# The middle of a frame at one screen pixel a camera pixel shows what changed.
_SIDE = 200


def chosen(plan: Plan, sigma: float = 0.01) -> list[Spec]:
    """Return two frames of each kind, by their place in the list, not by their looks.

    Each has a blur of its own.
    """
    return [
        Spec(paths[i], kind, 7 * number + i, sigma)
        for number, (kind, paths) in enumerate(plan.pictures.items())
        for i in sorted({len(paths) // 3, 2 * len(paths) // 3})
        if i < len(paths)
    ]


def draw(specs: Sequence[Spec], model: str, file: Path) -> None:
    """Draw one row a frame into a PNG."""
    figure, axes = plt.subplots(
        len(specs), 5, figsize=(10, 2.2 * len(specs)), squeeze=False, dpi=100
    )
    for row, spec in zip(axes, specs, strict=True):
        _row(row, Case(spec, model))
    figure.tight_layout(pad=0.4)
    # Few greys: a quarter of the size, and the eye sees no difference.
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
    plt.close(figure)
    Image.fromarray(pixels).quantize(64).save(file, optimize=True)


def _row(axes: Sequence[plt.Axes], case: Case) -> None:
    frame, estimate = case.frame, case.shipped[0]
    truth = frame.truth.numpy()
    middle = tuple(slice((n - _SIDE) // 2, (n + _SIDE) // 2) for n in truth.shape)
    found = ours(case).numpy()
    answer = case.psf_of(estimate)
    snr = float(psf_snr(answer, case.psf))
    images = {
        f"raw, σ {frame.sigma:g}: {psnr(frame.observed.numpy(), truth):.1f} dB": (
            frame.observed.numpy()[middle]
        ),
        f"deblurred: {psnr(found, truth):.1f} dB"
        if estimate.trusted
        else "cannot tell: raw": found[middle],
        "truth": truth[middle],
    }
    low, high = np.percentile(truth[middle], (0.5, 99.5))
    for ax, (title, image) in zip(axes[:3], images.items(), strict=True):
        ax.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        ax.set_title(title, fontsize=8)
    known = f"estimated: {snr:.1f} dB" if estimate.trusted else "not known: mean PSF"
    psfs = {"true PSF": case.psf, known: answer}
    for ax, (title, psf) in zip(axes[3:], psfs.items(), strict=True):
        # The root shows the faint lobes too.
        ax.imshow(psf.sqrt(), cmap="gray", vmin=0, vmax=float(case.psf.max()) ** 0.5)
        ax.set_title(title, fontsize=8)
    for ax in axes:
        ax.set_axis_off()
