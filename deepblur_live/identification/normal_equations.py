"""Derivatives of log-spectra, and the normal equations of their weighted fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from deepblur_live.identification.observed import ObservedSpectrum

__all__ = ["Slopes", "downhill", "normal_equations"]


class Slopes(NamedTuple):
    """Weighted derivatives of S log-spectra in γ, the specimen's b and log σ².

    Parameters
    ----------
    by_gamma
        (S, P, N), of log|ĥ|²; times `signal` they are those of the spectrum.
    signal
        (S, N): the specimen's share of the power, times the weight of each bin. The
        derivatives in b are the basis times this.
    noise
        (S, N): the noise's share, times the weight: the derivatives in log σ².
    """

    by_gamma: torch.Tensor
    signal: torch.Tensor
    noise: torch.Tensor


def normal_equations(
    data: ObservedSpectrum,
    slopes: Slopes,
    weights: torch.Tensor,
    residual: torch.Tensor,
    curvature: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the normal equations of weighted least squares, of each of S starts.

    With J (P+Q+1, N) the derivatives of one start, w its weights and r its residual
    (S, N), these are J w Jᵀ (S, P+Q+1, P+Q+1) and J w r (S, P+Q+1). One start at a
    time: its derivatives fit into the processor's cache, which halves the time. With
    the `curvature` (S, Q+1, Q+1) in b and log σ² of a point nearby, only that in γ is
    new: most of the time goes into products of the specimen's many patterns.
    """
    by_gamma, signal, noise = slopes
    starts, p, bins = by_gamma.shape
    basis = data.basis.T.to(signal.dtype)
    unknowns = p + len(basis) + 1
    hessian = signal.new_empty(starts, unknowns, unknowns)
    gradient = signal.new_empty(starts, unknowns)
    root = weights.sqrt()
    signal, noise, residual = signal * root, noise * root, residual * root
    jacobian = signal.new_empty(unknowns, bins)
    new = unknowns if curvature is None else p
    for start in range(starts):
        torch.mul(by_gamma[start], signal[start], out=jacobian[:p])
        torch.mul(basis, signal[start], out=jacobian[p:-1])
        jacobian[-1] = noise[start]
        torch.mm(jacobian[:new], jacobian.T, out=hessian[start, :new])
        torch.mv(jacobian, residual[start], out=gradient[start])
    if curvature is not None:
        hessian[:, p:, :p] = hessian[:, :p, p:].mT
        hessian[:, p:, p:] = curvature
    return hessian, gradient


def downhill(
    data: ObservedSpectrum,
    slopes: Slopes,
    weights: torch.Tensor,
    residual: torch.Tensor,
) -> torch.Tensor:
    """Return J w r (S, P+Q+1) alone, of `normal_equations`: a tenth of the time."""
    pull = residual * weights
    signal = slopes.signal * pull
    by_gamma = (slopes.by_gamma @ signal[..., None])[..., 0]
    noise = (slopes.noise * pull).sum(1, keepdim=True)
    return torch.cat([by_gamma, signal @ data.basis.to(signal.dtype), noise], 1)
