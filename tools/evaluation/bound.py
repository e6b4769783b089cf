"""How well a frame's spectrum determines its blur at best: the Cramér–Rao bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.identification import PowerSpectrum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evaluation.case import Case

__all__ = ["allowed_snr", "drawn_at_bound"]


def _bound(case: Case, spectrum: PowerSpectrum | None) -> NDArray[np.float64]:
    """Return the covariance (P, P) that a spectrum allows at the truth.

    When None, the spectrum of the one frame.
    """
    if spectrum is None:
        spectrum = PowerSpectrum(0.0, case.family.cutoff)
        spectrum.add(case.frame.observed, 0.0)
    refiner, average = case.identifier(network=False).refiner, spectrum.average
    data = refiner.prepare(average.power, average.averages, spectrum.frames)
    return refiner.bound(data, case.frame.coefficients)


def drawn_at_bound(case: Case) -> torch.Tensor:
    """Return γ (P,) with an error drawn from the bound: a best possible estimate's."""
    gamma = case.frame.coefficients
    rng = np.random.default_rng(case.spec.number)
    error = rng.multivariate_normal(np.zeros(len(gamma)), _bound(case, None))
    return gamma + torch.from_numpy(error).float()


def allowed_snr(case: Case, spectrum: PowerSpectrum | None = None) -> float:
    """Return the PSF SNR in dB that a spectrum allows, to first order in γ.

    By default the spectrum of the one frame. It is that of the mean squared error: a
    mean of decibels over frames may lie above it.
    """
    gamma, covariance = case.frame.coefficients, _bound(case, spectrum)
    _, jacobian = case.family.psf_and_jacobian(gamma)
    slopes = jacobian.flatten(1).double().numpy()
    error = float(np.trace(slopes.T @ (covariance @ slopes)))
    return float(-10 * np.log10(error / float(case.psf.double().square().sum())))
