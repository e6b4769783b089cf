"""How well a frame's spectrum can tell its blur at best: the Cramér–Rao bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.identification import Identifier
    from evaluation.case import Case

__all__ = ["allowed_snr", "drawn_at_bound"]


def _bound(case: Case, observer: Identifier | None = None) -> NDArray[np.float64]:
    """Return the covariance (P, P) that a spectrum allows at the truth.

    The spectrum of what an identifier has observed; of the one frame without.
    """
    identifier = observer or case.identifier(network=False)
    if observer is None:
        identifier.observe(case.frame.observed, 0.0)
    spectrum, refiner = identifier.spectrum, identifier.refiner
    seen = spectrum.average
    data = refiner.prepare(seen.power, seen.looks, spectrum.frames)
    return refiner.bound(data, case.frame.coefficients)


def drawn_at_bound(case: Case) -> torch.Tensor:
    """Return γ (P,) with an error drawn from the bound: a best possible estimate's."""
    gamma = case.frame.coefficients
    rng = np.random.default_rng(case.spec.number)
    error = rng.multivariate_normal(np.zeros(len(gamma)), _bound(case))
    return gamma + torch.from_numpy(error).float()


def allowed_snr(case: Case, observer: Identifier | None = None) -> float:
    """Return the PSF SNR in dB that a spectrum allows, to first order in γ.

    The spectrum of what an identifier has observed; of the one frame without. Of the
    mean squared error: a mean of decibels, some frames lucky, may lie above it.
    """
    gamma, covariance = case.frame.coefficients, _bound(case, observer)
    _, jacobian = case.family.psf_and_jacobian(gamma)
    slopes = jacobian.flatten(1).double().numpy()
    error = float(np.trace(slopes.T @ (covariance @ slopes)))
    return float(-10 * np.log10(error / float(case.psf.double().square().sum())))
