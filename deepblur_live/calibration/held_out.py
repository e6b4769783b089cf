"""How well a model made of half of the beads explains the other half."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from deepblur_live.calibration.fit import fit_bead
from deepblur_live.calibration.registered import mean_residual, moved_to
from deepblur_live.calibration.trend import fit_trend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepblur_live.calibration.fit import StackFit
    from deepblur_live.calibration.least_squares import PixelNoise
    from deepblur_live.calibration.model import StackModel
    from deepblur_live.calibration.trend import LinearTrend

__all__ = ["Bead", "HeldOut", "explained", "held_out", "shared_fit"]

# Fewest beads that can be split.
_FEWEST = 4


class Bead(NamedTuple):
    """A bead that is used: its light, its place in the frame, its fit."""

    crop: torch.Tensor  # (Z, K, K)
    place: tuple[float, float]  # row and column in the frame, pixels
    fit: StackFit


class HeldOut(NamedTuple):
    """Energy of held-out beads over that of what is not explained, dB; noise included.

    Parameters
    ----------
    pupil_db
        By the pupil with the other half's coefficients and Gaussian; median.
    total_db
        With their mean residual as well, unless it explains less, as that of few or dim
        beads: it is then left out, and this is `pupil_db`. Median.
    lowest_db
        Of the bead that is explained worst.
    """

    pupil_db: float
    total_db: float
    lowest_db: float


def shared_fit(
    model: StackModel,
    bead: Bead,
    noise: PixelNoise,
    trend: LinearTrend,
    blur: float,
    residual: torch.Tensor | None = None,
) -> StackFit:
    """Return the fit of a bead's place, focus, brightness and background alone."""
    gamma = torch.from_numpy(trend.at(np.array(bead.place)))
    start = bead.fit.bead._replace(coefficients=gamma, blur=blur)
    extra = None
    if residual is not None:
        extra = moved_to(residual, start, model.z_um)
    return fit_bead(
        model,
        bead.crop,
        noise,
        start,
        fit_blur=False,
        fit_coefficients=False,
        extra=extra,
        beside=bead.fit.beside,
    )


def explained(
    model: StackModel,
    beads: Sequence[Bead],
    noise: PixelNoise,
    trend: LinearTrend,
    blur: float,
) -> tuple[torch.Tensor, list[StackFit]]:
    """Return what beads show beside what they share, (Z, K, K), and their fits."""
    fits = [shared_fit(model, bead, noise, trend, blur) for bead in beads]
    return mean_residual(fits, model.z_um), fits


def held_out(
    model: StackModel,
    beads: Sequence[Bead],
    noise: PixelNoise,
    shape: tuple[int, int],
) -> HeldOut | None:
    """Return how well every other bead explains the rest, and the reverse.

    None for fewer than four beads.

    Parameters
    ----------
    model, noise
        As for the fits.
    beads
        With their own fits, free coefficients and Gaussian.
    shape
        (H, W) of the frame.
    """
    if len(beads) < _FEWEST:
        return None
    pupil, total = [], []
    for first in (0, 1):
        known, unknown = beads[first::2], beads[1 - first :: 2]
        gammas = np.array([bead.fit.coefficients for bead in known])
        trend = fit_trend(gammas, np.array([bead.place for bead in known]), shape)
        blur = float(np.median([bead.fit.bead.blur for bead in known]))
        residual, _ = explained(model, known, noise, trend, blur)
        for bead in unknown:
            alone = shared_fit(model, bead, noise, trend, blur)
            pupil.append(alone.snr_db)
            moved = bead._replace(fit=alone)
            total.append(shared_fit(model, moved, noise, trend, blur, residual).snr_db)
    best = max(pupil, total, key=np.median)
    return HeldOut(float(np.median(pupil)), float(np.median(best)), min(best))
