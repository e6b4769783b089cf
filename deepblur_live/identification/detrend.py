"""Removing the specimen's own spectrum: smooth in log|f| and angle."""

from __future__ import annotations

from functools import lru_cache

import torch

from deepblur_live.identification.spectrum import frequencies

__all__ = ["detrend", "smooth_basis"]


@lru_cache(maxsize=8)
def smooth_basis(device: torch.device) -> torch.Tensor:
    """Return (N, Q) smooth functions over the N bins of a spectrum.

    A cubic in log|f| with second and fourth angular harmonics, which describes the
    spectra of most specimens. The minima of an OTF are not in its span.
    """
    radius, angle = frequencies(device)
    log_radius = torch.log(radius) + 1.5
    columns = [log_radius**p for p in range(4)]
    for harmonic in (2, 4):
        for power in (0, 1):
            columns.append(torch.cos(harmonic * angle) * log_radius**power)
            columns.append(torch.sin(harmonic * angle) * log_radius**power)
    return torch.stack([c.expand(radius.shape).flatten() for c in columns], 1)


def detrend(
    values: torch.Tensor, weight: torch.Tensor, keep: torch.Tensor | None = None
) -> torch.Tensor:
    """Return weight·(values - weighted smooth fit).

    Parameters
    ----------
    values
        (..., R, N) rows over the N flattened bins.
    weight
        (..., N).
    keep
        Mask of the N bins among all; all when None.
    """
    basis = smooth_basis(values.device).to(values.dtype)
    if keep is not None:
        basis = basis[keep]
    basis = basis * weight[..., None]
    # A small ridge keeps the fit defined with few bins.
    gram = basis.mT @ basis
    gram = gram + 1e-6 * torch.eye(
        gram.shape[-1], dtype=gram.dtype, device=gram.device
    ) * gram.diagonal(dim1=-2, dim2=-1).amax(-1)[..., None, None].clamp(min=1e-12)
    weighted = values * weight[..., None, :]
    fit = torch.linalg.solve(gram, basis.mT @ weighted.mT)
    residual: torch.Tensor = weighted - (basis @ fit).mT
    return residual
