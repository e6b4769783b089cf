"""How well a model made of half of the beads explains the other half."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from deepblur_live.calibration.fit import ToFit, fit_beads
from deepblur_live.calibration.registered import mean_residual, moved_to
from deepblur_live.calibration.trend import fit_trend

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deepblur_live.calibration.fit import StackFit
    from deepblur_live.calibration.least_squares import PixelNoise
    from deepblur_live.calibration.model import StackModel
    from deepblur_live.calibration.trend import LinearTrend

__all__ = ["Bead", "HeldOut", "held_out", "shared_residual", "with_fits"]

# Fewest beads that can be split.
_FEWEST = 4


class Bead(NamedTuple):
    """A bead that is used: its light, its place in the frame, its fit."""

    crop: torch.Tensor  # (Z, K, K)
    place: tuple[float, float]  # row and column in the frame, pixels
    fit: StackFit


def with_fits(
    beads: Mapping[int, Bead], fits: Sequence[StackFit | None]
) -> dict[int, Bead]:
    """Return beads with new fits, in the same order; without those that have none."""
    return {
        k: bead._replace(fit=fit)
        for (k, bead), fit in zip(beads.items(), fits, strict=True)
        if fit is not None
    }


class HeldOut(NamedTuple):
    """Energy of held-out beads over that of what is not explained, dB; noise included.

    Parameters
    ----------
    pupil_db
        Median, explained by the pupil with the other half's coefficients and Gaussian.
    total_db
        Median, with their mean residual as well; `pupil_db` if the residual explains
        less, as that of few or dim beads may.
    lowest_db
        Energy of the worst-explained bead over that of its residual, dB.
    """

    pupil_db: float
    total_db: float
    lowest_db: float


def _shared_fits(
    model: StackModel,
    beads: Sequence[Bead],
    noise: PixelNoise,
    trend: LinearTrend,
    blur: float,
    residual: torch.Tensor | None = None,
) -> list[StackFit | None]:
    """Return the fits of beads' places, focus, brightness and background alone."""
    starts = []
    for bead in beads:
        gamma = torch.from_numpy(trend.at(np.array(bead.place)))
        start = bead.fit.bead._replace(coefficients=gamma, blur=blur)
        extra = None if residual is None else moved_to(residual, start, model.z_um)
        starts.append(ToFit(bead.crop, start, extra=extra, beside=bead.fit.beside))
    return fit_beads(model, starts, noise, fit_blur=False, fit_coefficients=False)


def shared_residual(
    model: StackModel,
    beads: Sequence[Bead],
    noise: PixelNoise,
    trend: LinearTrend,
    blur: float,
) -> torch.Tensor:
    """Return the mean residual (Z, K, K) of beads after the shared fit."""
    fits = _shared_fits(model, beads, noise, trend, blur)
    return mean_residual([fit for fit in fits if fit is not None], model)


def held_out(
    model: StackModel,
    beads: Sequence[Bead],
    noise: PixelNoise,
    shape: tuple[int, int],
) -> HeldOut | None:
    """Return how well every other bead explains the rest, and the reverse.

    None for fewer than four beads. A bead whose place cannot be fitted is left out.

    Parameters
    ----------
    model, noise
        Those of the fits.
    beads
        Beads, each fitted with its own coefficients and Gaussian.
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
        residual = shared_residual(model, known, noise, trend, blur)
        fits = _shared_fits(model, unknown, noise, trend, blur)
        moved = list(with_fits(dict(enumerate(unknown)), fits).values())
        fits = _shared_fits(model, moved, noise, trend, blur, residual)
        for bead, fit in zip(moved, fits, strict=True):
            if fit is not None:
                pupil.append(bead.fit.snr_db)
                total.append(fit.snr_db)
    if not pupil:
        return None
    best = max(pupil, total, key=np.median)
    return HeldOut(float(np.median(pupil)), float(np.median(best)), min(best))
