"""Measured PSFs of a microscope's states → its family in PSF space."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import chdtri

from deepblur_live.blur.psf_family import PsfFamily
from deepblur_live.calibration.learning import shrunk_covariance

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["learn_psf_family"]

_MOST = 100
# Share of new states of a normal distribution that the admissible ellipsoid holds.
_HELD = 0.99
# A component weaker than this share of the strongest is rounding.
_LEAST = 1e-6


def learn_psf_family(
    psfs: NDArray[np.float64], cutoff: float, directions: int | None = None
) -> PsfFamily:
    """Return the mean PSF and the eigen-PSFs of a microscope from S measured PSFs.

    Where modes describe the PSFs, learn them instead: they are identified far better
    (`deepblur_live.calibration.learning`, docs/decisions/0189-psf-space.md).

    Parameters
    ----------
    psfs
        (S, K, K), K odd, registered to each other to a fraction of a pixel; their
        background is 0. S ≥ 3.
    cutoff
        Coherent cut-off NA·px/λ, cycles per pixel.
    directions
        Number of eigen-PSFs, at most S - 1; as many as there are, up to 100, when None.

    Raises
    ------
    ValueError
        When shapes are wrong, numbers are not finite, a PSF has no light, or the PSFs
        do not differ.
    """
    psfs = np.asarray(psfs, dtype=np.float64)
    if psfs.ndim != 3 or len(psfs) < 3 or psfs.shape[1] != psfs.shape[2]:
        raise ValueError(f"PSFs of shape {psfs.shape}: give at least 3 square PSFs")
    light = psfs.sum((1, 2), keepdims=True)
    if not (np.isfinite(psfs).all() and (light > 0).all()):
        raise ValueError("PSFs: must be finite, with more light than background")
    psfs = psfs / light
    mean = psfs.mean(0)
    size = float(np.linalg.norm(mean))
    _, lengths, vectors = np.linalg.svd(
        (psfs - mean).reshape(len(psfs), -1), full_matrices=False
    )
    # The mean takes one of the S degrees of freedom.
    there = int((lengths > max(_LEAST * lengths[0], _LEAST * size)).sum())
    most = min(there, len(psfs) - 1, _MOST)
    count = most if directions is None else directions
    if not 0 < count <= most:
        raise ValueError(f"directions {directions}: these PSFs have {most}")
    eigen = size * vectors[:count].reshape(count, *mean.shape)
    states = (psfs - mean).reshape(len(psfs), -1) @ vectors[:count].T / size
    covariance, _ = shrunk_covariance(states)
    covariance = covariance * (1 + 1 / len(psfs))
    farthest = float((np.linalg.solve(covariance, states.T).T * states).sum(1).max())
    radius = math.sqrt(max(farthest, float(chdtri(count, 1 - _HELD))))
    return PsfFamily(mean, eigen, covariance, radius, cutoff, len(psfs))
