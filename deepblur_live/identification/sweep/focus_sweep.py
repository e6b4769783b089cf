"""Absolute γ from a focus sweep: planes of one specimen at known positions.

The specimen's spectrum is the same in all planes and drops out, so no prior on
specimens is needed; the known positions give the sign of the even modes, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.blur import focus_direction, focus_weights
from deepblur_live.identification.orientation import Orientation
from deepblur_live.identification.sweep.checks import (
    check_detail,
    check_motion,
    check_stage,
    check_steps,
    plane_coherences,
    thickness,
)
from deepblur_live.identification.sweep.fit import SweepPrior
from deepblur_live.identification.sweep.problem import sweep_problem
from deepblur_live.identification.sweep.registration import lateral_shifts, registered
from deepblur_live.identification.sweep.search import search_sweep

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily, ErrorModel
    from deepblur_live.identification.sweep.problem import SweepProblem

__all__ = ["SweepResult", "identify_sweep"]

# Bins of the spectra: for the search, and for the last steps where the frame allows
# (docs/decisions/0115-focus-sweep-method.md).
_COARSE, _FINE, _FINE_SIDE = 64, 128, 512
# Prior of γ: the family's, narrower by this factor, and wider along the focus by this
# many micrometres.
_NARROWER, _FOCUS_UM = 0.67, 0.4
# Model error of real frames: this many of the prior's scales per unit of χ² above 1.1.
_MODEL_ERROR, _USUAL_CHI2 = 0.08, 1.1


@dataclass(frozen=True)
class SweepResult:
    """The result of a focus sweep.

    Parameters
    ----------
    coefficients
        (P,) γ at z = 0.
    covariance
        (P, P) of `coefficients`, model error included.
    refocus_um
        By how much to move the stage from z = 0 to the best focus, µm.
    refocus_sigma_um
        Standard deviation of `refocus_um`, µm.
    chi2
        Mean square of the weighted residuals per bin; 1 for a specimen that the model
        describes.
    thick
        Empty, or why the specimen is too thick: then only the sign of `refocus_um` is
        meaningful.
    turn_known
        Whether the image decided between γ and its rotation by 180° (all odd modes).
    shifts
        (K, 2) lateral shift of each plane, pixels, that was compensated.
    """

    coefficients: NDArray[np.float64]
    covariance: NDArray[np.float64]
    refocus_um: float
    refocus_sigma_um: float
    chi2: float
    thick: str
    turn_known: bool
    shifts: NDArray[np.int64]

    @property
    def sigma(self) -> NDArray[np.float64]:
        """(P,) standard deviations of the coefficients."""
        deviations: NDArray[np.float64] = np.sqrt(np.diag(self.covariance))
        return deviations


def identify_sweep(
    family: BlurFamily,
    planes: torch.Tensor,
    z_um: NDArray[np.float64],
    errors: ErrorModel,
    progress: Callable[[float], None] = lambda share: None,
) -> SweepResult:
    """Return γ of planes at known positions.

    Parameters
    ----------
    family
        The blurs; its ``focus_direction`` is needed.
    planes
        (K, H, W) frames of one specimen, from 3 to 7, in the same linear unit.
    z_um
        (K,) their positions, µm, in the direction in which the focus moves deeper into
        the specimen; γ is stated at z = 0.
    errors
        Gives the significance from which the 180° ambiguity counts as resolved.
    progress
        Called with the share that is done, 0 to 1.

    Raises
    ------
    SweepError
        The planes are not a sweep, show too little, or not the same specimen.
    ValueError
        The family cannot be swept, or the frames are too small.
    """
    per_um = focus_direction(family)
    z_um = np.asarray(z_um, dtype=np.float64)
    check_steps(z_um, per_um, family.prior.scale)
    planes = planes.double()
    z, direction = torch.from_numpy(z_um), torch.from_numpy(per_um)
    check_detail(sweep_problem(family, planes, z, direction, _COARSE))
    shifts = lateral_shifts(planes, len(planes) // 2, family.cutoff)
    planes = registered(planes, shifts)
    agreement = plane_coherences(planes, family.cutoff)
    check_motion(shifts, min(planes.shape[-2:]), *agreement)
    coarse = sweep_problem(family, planes, z, direction, _COARSE)
    check_stage(coarse)
    fine = coarse
    if min(planes.shape[-2:]) >= _FINE_SIDE - max(_COARSE, int(shifts.abs().max())):
        fine = sweep_problem(family, planes, z, direction, _FINE)
    covariance = _NARROWER**2 * family.prior.covariance
    covariance = covariance + _FOCUS_UM**2 * np.outer(per_um, per_um)
    prior = SweepPrior(
        torch.from_numpy(family.prior.mean), torch.from_numpy(covariance)
    )
    fit = search_sweep(coarse, fine, prior, progress)
    expected = coarse.coherence(fit.gamma[0])
    gamma = fit.gamma[0].numpy()
    curvature = fit.information.numpy() + np.linalg.inv(covariance)
    stated = np.linalg.inv(curvature) * max(1.0, fit.chi2)
    floor = _MODEL_ERROR * family.prior.scale * max(0.0, fit.chi2 - _USUAL_CHI2)
    stated = stated + np.diag(floor**2)
    gamma, known = _oriented(family, planes, fine, gamma, errors)
    weights = -focus_weights(family)
    return SweepResult(
        gamma,
        stated,
        float(weights @ gamma),
        float(np.sqrt(weights @ stated @ weights)),
        fit.chi2,
        thickness(fit.chi2, *agreement, expected),
        known,
        shifts.numpy(),
    )


def _oriented(
    family: BlurFamily,
    planes: torch.Tensor,
    problem: SweepProblem,
    gamma: NDArray[np.float64],
    errors: ErrorModel,
) -> tuple[NDArray[np.float64], bool]:
    """Return γ (P,) or its rotation by 180°, and whether that is resolved.

    Each plane has a vote; the rotation changes the same coefficients in all of them.
    """
    orientation = Orientation(family, errors, memory=1.0)
    for plane, offset, variance in zip(
        planes.float(), problem.offsets.numpy(), problem.variance, strict=True
    ):
        there = orientation.decide(plane, gamma + offset, float(variance) ** 0.5)
        gamma = there - offset
    return gamma, orientation.resolved(gamma)
