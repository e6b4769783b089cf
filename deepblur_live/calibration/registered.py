"""Beads' images brought to one place: their mean, and what the model lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from deepblur_live.identification.beads.registration import shifted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from deepblur_live.calibration.fit import StackFit
    from deepblur_live.calibration.model import BeadParameters, StackModel

__all__ = ["MeanBead", "mean_bead", "mean_residual", "moved_to", "registered"]


class MeanBead(NamedTuple):
    """Mean of beads of brightness 1, and the standard deviation between them."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


def registered(fits: Sequence[StackFit], model: StackModel) -> NDArray[np.float64]:
    """Return beads (n, Z, K, K) as they were measured, brought to one place.

    Each without its background, over its brightness. What its fit describes is computed
    for a bead in the middle and in focus; only what the fit leaves over is interpolated
    between pixels and planes.
    """
    images = []
    for fit in fits:
        bead = fit.bead._replace(row=0.0, column=0.0, z_um=0.0, brightness=1.0)
        left = _moved(fit.residual, fit.bead, model.z_um, -1.0) / fit.bead.brightness
        images.append(model.image(bead).double().numpy() + left)
    return np.stack(images)


def mean_bead(fits: Sequence[StackFit], model: StackModel) -> MeanBead:
    """Return the mean (Z, K, K) of `registered` beads, and their deviation."""
    stack = registered(fits, model)
    deviation = stack.std(0, ddof=1) if len(stack) > 1 else np.zeros_like(stack[0])
    return MeanBead(stack.mean(0), deviation)


def mean_residual(fits: Sequence[StackFit], model: StackModel) -> torch.Tensor:
    """Return (Z, K, K): what the model lacks of a centred bead of brightness 1.

    Zero if there are no fits.
    """
    total = np.zeros((len(model.z_um), model.side, model.side))
    for fit in fits:
        moved = _moved(fit.residual, fit.bead, model.z_um, -1.0)
        total += moved / (fit.bead.brightness * len(fits))
    return torch.from_numpy(total)


def moved_to(
    residual: torch.Tensor, bead: BeadParameters, z_um: Sequence[float]
) -> torch.Tensor:
    """Return a centred residual (Z, K, K) at a bead's place and focus."""
    return torch.from_numpy(_moved(residual.numpy(), bead, z_um, 1.0))


def _moved(
    images: NDArray[np.float64],
    bead: BeadParameters,
    z_um: Sequence[float],
    way: float,
) -> NDArray[np.float64]:
    """Return images (Z, K, K) moved by a bead's place: to it (1) or from it (-1).

    Between planes by linear interpolation; beyond the outermost these are repeated.
    """
    by = torch.tensor([[way * bead.row, way * bead.column]], dtype=torch.float64)
    moved = shifted(torch.from_numpy(images), by.expand(len(images), 2)).numpy()
    planes = np.asarray(z_um)
    rising = planes if planes[-1] > planes[0] else planes[::-1]
    moved = moved if planes[-1] > planes[0] else moved[::-1]
    wanted = np.clip(rising - way * bead.z_um, rising[0], rising[-1])
    upper = np.clip(np.searchsorted(rising, wanted), 1, len(rising) - 1)
    low, high = rising[upper - 1], rising[upper]
    share = ((wanted - low) / (high - low))[:, None, None]
    result: NDArray[np.float64] = (1 - share) * moved[upper - 1] + share * moved[upper]
    return result if planes[-1] > planes[0] else result[::-1].copy()
