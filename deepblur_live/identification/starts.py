"""Starts without prior knowledge: the PSFs of a library that fit a spectrum best.

Two criteria, as each misses blurs that the other finds: a robust misfit of the
frequencies above the noise, and the likelihood of a model with much larger errors,
which tolerates that the library's nearest PSF is not very near.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from deepblur_live.identification.observed import ObservedSpectrum

__all__ = ["best_of_library", "fitted_specimen"]

# Additional standard deviation of each bin in the second criterion
# (docs/decisions/0092-search.md).
_MODEL_ERROR = 1.0
_CLIP = 3.0
# Library points that are evaluated at a time: the whole library is a hundred megabytes.
_BATCH = 500


def fitted_specimen(
    rows: torch.Tensor, basis: torch.Tensor, correlated: float
) -> torch.Tensor:
    """Return (..., S, Q): the b that fit weighted rows best, b standard normal.

    Parameters
    ----------
    rows, basis
        (..., S, N) log-spectrum minus mean and OTF, and (..., N, Q) patterns, both
        times the weights.
    correlated
        Number of neighbouring bins that count as one.
    """
    gram = basis.mT @ basis / correlated
    gram = gram + torch.eye(basis.shape[-1], dtype=basis.dtype)
    fitted: torch.Tensor = torch.linalg.solve(gram, basis.mT @ rows.mT / correlated).mT
    return fitted


def best_of_library(
    gamma: torch.Tensor,
    logs: torch.Tensor,
    data: ObservedSpectrum,
    count: int,
    correlated: float,
) -> torch.Tensor:
    """Return the (count, P) coefficients of a library that fit a spectrum best.

    The library is coefficients (L, P) and their log|ĥ|² over all bins, (L, N).
    """
    precise = data.signal.weight.flatten()[data.keep]
    use = precise > 0
    precise = precise[use]
    bins = torch.zeros_like(data.keep)
    bins[data.keep] = use
    observed = data.signal.log_signal.flatten()[bins] - data.mean[use]
    basis = data.basis[use]

    def fitted(
        rows: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        weighted = basis * weight[:, None]
        rows = rows * weight
        b = fitted_specimen(rows, weighted, correlated)
        return torch.addmm(rows, b, weighted.T, alpha=-1), b

    criteria = []
    for part in torch.split(logs, _BATCH):
        rows = observed - part[:, bins]
        residual, _ = fitted(rows, precise)
        robust = residual.abs_().clamp_(max=_CLIP).mean(1)
        residual, b = fitted(rows, 1 / torch.sqrt(precise**-2 + _MODEL_ERROR**2))
        likelihood = residual.square_().sum(1) / correlated + b.square().sum(1)
        criteria.append(torch.stack([robust, likelihood]))
    robust, likelihood = torch.cat(criteria, 1)
    half = count // 2
    first = torch.topk(robust, half, largest=False).indices
    second = torch.topk(likelihood, count - half, largest=False).indices
    return gamma[torch.cat([first, second])]
