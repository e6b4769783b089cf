"""Measured states of a microscope → its family of blurs, with a shrunk covariance.

A state is the microscope at one temperature, collar setting, day: the modes measured on
a bead slide then, at one place of the field or averaged over it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import chdtri

from deepblur_live.blur.calibrated import CalibratedZernikeFamily
from deepblur_live.blur.learned_prior import LearnedPrior

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from deepblur_live.blur.zernike import ZernikeFamily

__all__ = ["WIDE_MODES", "learn_family", "shrunk_covariance"]

WIDE_MODES = (4, 11)
"""Noll indices of defocus and spherical aberration: focus and specimen change them, and
beads on glass do not show by how much."""

# Share of new states of a normal distribution that the admissible ellipsoid holds, if
# the measured states do not reach farther.
_HELD = 0.99
# Least prior standard deviation of a direction, waves rms: what optics and model of
# the pupil leave uncertain of a measured mode, 2 nm at 540 nm.
_LEAST_DEVIATION = 0.004


def shrunk_covariance(
    states: NDArray[np.float64],
) -> tuple[NDArray[np.float64], float]:
    """Return the covariance (R, R) of states (S, R), S ≥ 2, and how much it is shrunk.

    The sample covariance C of n = S - 1 degrees of freedom is mixed with its mean
    variance μ: (1 - ρ)·C + ρ·μ·I. ρ is the estimate of the share that minimises the
    mean square error, b²/d², with d² = ‖C - μI‖² and b² = Σ ‖xxᵀ - C‖² / n².

    References
    ----------
    Ledoit & Wolf, *A well-conditioned estimator for large-dimensional covariance
    matrices*, J. Multivariate Analysis 88 (2004). Compared with two others:
    docs/decisions/0186-calibrated-family.md.
    """
    offsets = states - states.mean(0)
    n, size = len(states) - 1, states.shape[1]
    sample = offsets.T @ offsets / n
    level = np.trace(sample) / size * np.eye(size)
    distance = float(((sample - level) ** 2).sum())
    # Σ ‖xxᵀ - C‖² without the (R, R) matrix of each state.
    square = np.square(offsets).sum(1)
    along = np.einsum("si,ij,sj->s", offsets, sample, offsets)
    scatter = np.square(square) - 2 * along + float((sample**2).sum())
    share = float(scatter.sum()) / n**2 / distance if distance > 0 else 1.0
    share = min(1.0, share)
    mixed: NDArray[np.float64] = (1 - share) * sample + share * level
    return mixed, share


def learn_family(
    states: NDArray[np.float64],
    local: ZernikeFamily,
    covariances: NDArray[np.float64] | None = None,
    *,
    directions: int | None = None,
    hull: bool = False,
    wide: Sequence[int] = WIDE_MODES,
    assumed: float = 0.0,
    field: NDArray[np.float64] | None = None,
) -> CalibratedZernikeFamily:
    """Return the family of blurs of a microscope from S measured states.

    With all directions the coefficients are the modes themselves, with a correlated
    prior; fewer are the principal components of the states, and what is beyond them is
    no blur of the family.

    Parameters
    ----------
    states
        (S, M) modes of each state, waves rms; S ≥ 2, or 1 with `assumed`.
    local
        The Zernike family of the optics, with M modes.
    covariances
        (S, M, M) of the states' errors. Their mean is taken off the covariance, as far
        as that stays positive.
    directions
        Number of learned directions; all when None.
    hull
        Whether the admissible set is the convex hull of the states instead of the
        ellipsoid.
    wide
        Noll indices of the modes that keep the prior and range of `local`.
    assumed
        Rms change of the wavefront that is assumed between two states, waves,
        equal in all learned modes. It counts as one degree of freedom in addition to
        the S - 1 of the states: with one state it is the only one.
    field
        (M, M) covariance of the modes over the field, if a state is their mean over it
        and the place is not known. This is added.

    Raises
    ------
    ValueError
        When shapes are wrong, numbers are not finite, or there are too few states.
    """
    states = np.asarray(states, dtype=np.float64)
    modes = local.n_coefficients
    least = 1 if assumed > 0 else 2
    if states.ndim != 2 or states.shape[1] != modes or len(states) < least:
        raise ValueError(
            f"states of shape {states.shape}: give at least {least} states of the "
            f"{modes} modes {local.noll}"
        )
    if not np.isfinite(states).all():
        raise ValueError("states: not finite")
    kept = [local.noll.index(noll) for noll in wide if noll in local.noll]
    learned = [mode for mode in range(modes) if mode not in kept]
    most = len(learned) if directions is None else directions
    if not 0 < most <= len(learned):
        raise ValueError(
            f"directions {directions}: from 1 to {len(learned)}, the modes that are "
            "not wide"
        )
    if hull and most >= len(states):
        raise ValueError(
            f"the hull of {len(states)} states has no inside in {most} directions: "
            f"give at most {len(states) - 1} directions, or use the ellipsoid"
        )
    part = states[:, learned]
    spread = np.zeros((len(learned), len(learned)))
    if len(states) > 1:
        spread, _ = shrunk_covariance(part)
        if covariances is not None:
            spread = _without_errors(spread, covariances, states.shape, learned)
        # The next state differs from the mean of these by the mean's own error, too.
        spread = spread * (1 + 1 / len(states))
    if assumed > 0:
        share = 1 / len(states)
        alike = assumed**2 / len(learned) * np.eye(len(learned))
        spread = (1 - share) * spread + share * alike
    if field is not None:
        spread = spread + field[np.ix_(learned, learned)]
    variances, axes = np.linalg.eigh(spread)
    if directions is None:
        turned = np.eye(len(learned))
    else:
        turned = axes[:, ::-1][:, :most]
    covariance = np.zeros((len(kept) + most, len(kept) + most))
    floor = _LEAST_DEVIATION**2
    bounded = (axes * np.maximum(variances, floor)) @ axes.T
    covariance[len(kept) :, len(kept) :] = turned.T @ bounded @ turned
    covariance[: len(kept), : len(kept)] = local.prior.covariance[np.ix_(kept, kept)]
    basis = np.zeros((modes, len(kept) + most))
    basis[kept, range(len(kept))] = 1
    basis[np.ix_(learned, range(len(kept), len(kept) + most))] = turned
    mean = np.zeros(modes)
    mean[learned] = part.mean(0)
    inside = (part - part.mean(0)) @ turned
    own = covariance[len(kept) :, len(kept) :]
    farthest = float((np.linalg.solve(own, inside.T).T * inside).sum(1).max())
    radius = math.sqrt(max(farthest, float(chdtri(most, 1 - _HELD))))
    return CalibratedZernikeFamily(
        local,
        LearnedPrior(
            local.noll,
            mean,
            basis,
            (covariance + covariance.T) / 2,
            radius,
            tuple(kept),
            len(states),
            inside if hull else None,
        ),
    )


def _without_errors(
    spread: NDArray[np.float64],
    covariances: NDArray[np.float64],
    shape: tuple[int, ...],
    learned: list[int],
) -> NDArray[np.float64]:
    """Return a covariance (R, R) of measured states less that of their errors.

    Raises
    ------
    ValueError
        When the errors' covariances are not finite or not (S, M, M).
    """
    errors = np.asarray(covariances, dtype=np.float64)
    if errors.shape != (*shape, shape[1]) or not np.isfinite(errors).all():
        raise ValueError(
            f"covariances of shape {errors.shape}: must be finite, of shape "
            f"{(*shape, shape[1])}"
        )
    less: NDArray[np.float64] = spread - errors.mean(0)[np.ix_(learned, learned)]
    return less
