"""How well a frame's spectrum can tell its blur at best: the Cramér–Rao bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from evaluation.case import Case

__all__ = ["allowed_snr"]


def allowed_snr(case: Case) -> float:
    """Return the PSF SNR in dB that one frame's spectrum allows, to first order in γ.

    Of the mean squared error: a mean of decibels, some frames lucky, may lie above it.
    """
    identifier = case.identifier(network=False)
    identifier.observe(case.frame.observed, 0.0)
    spectrum, refiner = identifier.spectrum, identifier.refiner
    data = refiner.prepare(spectrum.value, spectrum.looks, spectrum.frames)
    gamma = case.frame.coefficients
    covariance = refiner.bound(data, gamma)
    _, jacobian = case.family.psf_and_jacobian(gamma)
    slopes = jacobian.flatten(1).double().numpy()
    error = float(np.trace(slopes.T @ (covariance @ slopes)))
    return float(-10 * np.log10(error / float(case.psf.double().square().sum())))
