"""The fits of all beads of a slide."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.calibration.fit import ToFit, fit_beads
from deepblur_live.calibration.held_out import with_fits
from deepblur_live.calibration.neighbours import to_fit
from deepblur_live.calibration.pooled import measured_gain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from deepblur_live.calibration.fit import StackFit
    from deepblur_live.calibration.held_out import Bead
    from deepblur_live.calibration.model import StackModel
    from deepblur_live.calibration.neighbours import Crop
    from deepblur_live.calibration.stack import BeadStack

__all__ = ["fit_all", "refitted", "with_noise"]

# Beads that the noise is measured from.
_FOR_NOISE = 6


def with_noise(model: StackModel, stack: BeadStack, crops: Iterable[Crop]) -> BeadStack:
    """Return the stack with its noise measured, unless the camera is calibrated."""
    if stack.calibrated:
        return stack
    alone_first = sorted(crops, key=lambda crop: len(crop.neighbours))
    starts = [to_fit(model, crop) for crop in alone_first[:_FOR_NOISE]]
    for _ in range(2):
        tried = zip(starts, fit_beads(model, starts, stack.noise), strict=True)
        good = [(start, fit) for start, fit in tried if fit is not None]
        if not good:
            return stack
        gain = measured_gain([fit for _, fit in good], stack.noise)
        stack = replace(stack, noise=stack.noise._replace(gain=gain))
        starts = [start._replace(start=fit.bead) for start, fit in good]
    return stack


def fit_all(
    model: StackModel,
    stack: BeadStack,
    crops: dict[int, Crop],
    progress: Callable[[str, float], None],
    span: tuple[float, float],
) -> dict[int, StackFit]:
    """Return the fits by the bead's number; a bead that cannot be fitted is left out.

    Each from an ideal pupil, and from the median of all if that is better: a wrong
    minimum is one bead's own, the median is not.
    """

    def on_fitted(count: int) -> None:
        share = span[0] + (span[1] - span[0]) * count / len(crops)
        progress(f"fitting beads: {count} of {len(crops)}", share)

    on_fitted(0)
    starts = [to_fit(model, crop) for crop in crops.values()]
    tried = fit_beads(model, starts, stack.noise, on_fitted=on_fitted)
    fits = {k: fit for k, fit in zip(crops, tried, strict=True) if fit is not None}
    if not fits:
        return fits
    gammas = [fit.coefficients for fit in fits.values()]
    median = torch.from_numpy(np.median(gammas, axis=0))
    worst = float(np.median([fit.chi2 for fit in fits.values()])) * 1.3
    doubtful = {k: fit for k, fit in fits.items() if fit.chi2 > worst}
    starts = [
        to_fit(model, crops[k], median, fit.bead.blur) for k, fit in doubtful.items()
    ]
    for k, again in zip(doubtful, fit_beads(model, starts, stack.noise), strict=True):
        if again is not None and again.objective < fits[k].objective:
            fits[k] = again
    return fits


def refitted(
    model: StackModel, stack: BeadStack, beads: dict[int, Bead], blur: float
) -> dict[int, Bead]:
    """Return the beads fitted with the shared Gaussian, without those that fail."""
    starts = [
        ToFit(bead.crop, bead.fit.bead._replace(blur=blur), beside=bead.fit.beside)
        for bead in beads.values()
    ]
    return with_fits(beads, fit_beads(model, starts, stack.noise, fit_blur=False))
