"""A picture of identified fields: PSFs over the frame, true, one PSF, and reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from matplotlib import pyplot as plt
from PIL import Image

from deepblur_live.blur.field_basis import FieldView
from evaluation.field_frames import blurred_field, identified_field, places, snr_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from deepblur_live.blur.zernike_field import ZernikeField
    from evaluation.field_frames import FieldFrame

__all__ = ["draw_fields"]

# PSFs along each side of the frame.
_SHOWN = 5


def draw_fields(frames: Sequence[FieldFrame], model: str, file: Path) -> None:
    """Draw one row per frame into a PNG."""
    figure, axes = plt.subplots(
        len(frames), 3, figsize=(7.2, 2.6 * len(frames)), squeeze=False, dpi=100
    )
    for row, frame in zip(axes, frames, strict=True):
        _, family, truth, _ = blurred_field(frame.path, frame.number, model)
        fitted, solution, _ = identified_field(frame, model)
        assert solution.one is not None
        one = fitted.constant(solution.one.estimate.coefficients)
        true = _psfs(family, truth.double().numpy())
        fields = {
            f"true field, σ {frame.sigma:g}": (family, truth.double().numpy()),
            "one PSF": (fitted, one),
            "identified": (fitted, solution.estimate.coefficients),
        }
        for ax, (name, field) in zip(row, fields.items(), strict=True):
            mean = snr_of(_psfs(*field), true)[0]
            title = name if field[0] is family else f"{name}: {mean:.1f} dB"
            # The square root shows the faint lobes too.
            ax.imshow(np.sqrt(_montage(*field)), cmap="gray")
            ax.set_title(title, fontsize=8)
            ax.set_axis_off()
    figure.tight_layout(pad=0.4)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
    plt.close(figure)
    Image.fromarray(pixels).quantize(64).save(file, optimize=True)


def _psfs(family: ZernikeField, coefficients: np.ndarray) -> torch.Tensor:
    local = family.at(torch.from_numpy(coefficients), places()).float()
    return family.local.psf(local)


def _montage(family: ZernikeField, coefficients: np.ndarray) -> np.ndarray:
    """Return the PSFs of 5 × 5 places side by side, each scaled to its maximum."""
    grid = FieldView().grid(_SHOWN)
    psfs = family.local.psf(family.at(torch.from_numpy(coefficients), grid).float())
    psfs = psfs / psfs.amax((1, 2), keepdim=True)
    rows = psfs.view(_SHOWN, _SHOWN, *psfs.shape[1:]).clamp(min=0)
    side = _SHOWN * psfs.shape[-1]
    return rows.permute(0, 2, 1, 3).reshape(side, side).numpy()
