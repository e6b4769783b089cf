"""The blur of an identified γ with its uncertainty: E[A], and what E[AᵀA] adds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.blur.family import BlurFamily

__all__ = ["expected_kernels", "marginal_change", "marginal_kernels", "sigma_points"]

# Standard deviation of a wide prior over its scale, as in the Zernike family.
_PRIOR_SIGMA = 0.6


def expected_kernels(
    family: BlurFamily, coefficients: torch.Tensor, covariance: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Return what the operator of an uncertain γ is made of, for `operator_from`.

    From the family's optional member of this name; without it the kernels of A(γ). The
    uncertainty counts up to that of the family's prior, or of one as wide as its scale:
    a PSF that is wider than its window cannot be described.

    Parameters
    ----------
    family
        The rig's blurs.
    coefficients
        γ (P,), on the device where the kernels are wanted.
    covariance
        Σ (P, P), on the CPU.
    """
    member = getattr(family, "expected_kernels", None)
    if member is None:
        return family.kernels(coefficients[None])
    prior = torch.from_numpy(family.prior.covariance).to(covariance)
    if not bool(covariance.isfinite().all()):
        covariance = prior
    # A learned prior may be narrower than the tracker lets γ be uncertain.
    scale = torch.from_numpy(family.prior.scale).to(covariance)
    largest = torch.maximum(prior.diagonal(), (_PRIOR_SIGMA * scale).square())
    excess = float((covariance.diagonal() / largest).max())
    kernels: tuple[torch.Tensor, ...] = member(
        coefficients[None], (covariance / max(1.0, excess))[None]
    )
    return kernels


def sigma_points(covariance: torch.Tensor) -> torch.Tensor:
    """Return deviations (..., 2P, P) of mean 0 and of this covariance (..., P, P).

    They are ±√P times the columns of a square root of the covariance, which is mixed by
    a cosine transform: each point then moves all coefficients at once, as a draw does.

    References
    ----------
    Arasaratnam & Haykin, *Cubature Kalman filters*, IEEE Trans. Automatic Control 54(6)
    2009. How well the rule does: docs/decisions/0151-uncertain-psf.md.
    """
    count = covariance.shape[-1]
    variances, axes = torch.linalg.eigh(covariance)
    root = axes * variances.clamp(min=0).sqrt()[..., None, :]
    place = torch.arange(count, dtype=root.dtype, device=root.device)
    mixing = torch.cos(math.pi / count * (place + 0.5) * place[:, None])
    mixing = mixing / mixing.norm(dim=1, keepdim=True)
    points = math.sqrt(count) * (root @ mixing).mT
    return torch.cat([points, -points], -2)


def marginal_kernels(
    psf: Callable[[torch.Tensor], torch.Tensor],
    coefficients: torch.Tensor,
    covariance: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the kernels of the expected operator of an uncertain γ.

    The steps that minimise E‖A x - y‖² need E[ĥ] and E|ĥ|² = |E[ĥ]|² + E|ĥ - E[ĥ]|².

    Parameters
    ----------
    psf
        γ (..., P) → PSFs (..., K, K), K odd.
    coefficients, covariance
        γ (..., P) and its covariance (..., P, P), in the family's unit. The covariance
        may lie on the CPU, where its square root is quicker.

    Returns
    -------
    tuple
        The expected PSF (..., K, K), and the mean autocorrelation (..., 2K - 1, 2K - 1)
        of the deviations from it: the last term's kernel.
    """
    points = sigma_points(covariance).to(coefficients, non_blocking=True)
    psfs = psf(coefficients[..., None, :] + points)
    mean = psfs.mean(-3)
    side = psfs.shape[-1]
    size = (2 * side, 2 * side)
    spectra = torch.fft.rfft2(psfs - mean[..., None, :, :], s=size)
    power = (spectra.real.square() + spectra.imag.square()).mean(-3)
    correlation = torch.fft.irfft2(power, s=size).roll((side - 1, side - 1), (-2, -1))
    return mean, correlation[..., :-1, :-1]


def marginal_change(
    psf: Callable[[torch.Tensor], torch.Tensor],
    coefficients: torch.Tensor,
    covariance: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return by how much the expected PSF differs from that of γ, and `spread`.

    `marginal_kernels` less the PSF: zero where γ is certain. Parameters as there.
    """
    expected, spread = marginal_kernels(psf, coefficients, covariance)
    return expected - psf(coefficients), spread
