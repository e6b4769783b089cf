"""What an identification reports of a blur, and the model of its errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field
from scipy.special import stdtrit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ErrorModel", "Estimate", "VerdictModel"]

# Share of errors within one stated standard deviation: that of a normal distribution.
_ONE_DEVIATION = 0.6827


@dataclass(frozen=True)
class Estimate:
    """One identification of the blur of a frame (or of an average of frames).

    Parameters
    ----------
    coefficients
        (P,) blur coefficients γ, in the family's unit. Meaningless where ``trusted`` is
        False.
    covariance
        (P, P) covariance of `coefficients`, same units squared; intervals follow from
        it by `ErrorModel.coverage_factor`.
    quality
        Residual of the fit over its expected size: 0.4 to 0.8 for a good fit, more when
        the frame is outside the family.
    trusted
        False when the blur cannot be identified from the frame; ``reason`` says why.
    reason
        Empty, or why the estimate is not trusted, in words.
    provisional
        Whether it is one PSF for the whole frame, until a field is known.
    """

    coefficients: NDArray[np.float64]
    covariance: NDArray[np.float64]
    quality: float
    trusted: bool = True
    reason: str = ""
    provisional: bool = False


class _Constants(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False
    )


class VerdictModel(_Constants):
    """When a fit is trusted: a logistic regression, and what counts as usual.

    The log-odds that an estimate is right are ``intercept - misfit·quality -
    error·log(relative error) - beyond·(gauge - range_tolerance)₊``; errors are relative
    to the family's prior scale.

    Parameters
    ----------
    intercept, misfit, error, beyond
        Coefficients of the regression.
    range_tolerance
        Gauge of the admissible set up to which coefficients count as in range.
    least_error, largest_error
        Relative errors: smaller ones count as the first, and an estimate above the
        second is not trusted.
    usual_error, usual_misfit
        The excess over these decides which reason is reported.
    poor_misfit
        95 % of well identified frames have less; an estimate above it is not trusted.
    """

    intercept: float
    misfit: float
    error: float
    beyond: float
    range_tolerance: float = Field(gt=0)
    least_error: float = Field(gt=0)
    largest_error: float = Field(gt=0)
    usual_error: float = Field(gt=0)
    usual_misfit: float = Field(gt=0)
    poor_misfit: float = Field(gt=0)


class ErrorModel(_Constants):
    """The errors of a model's estimates, compared with what their fit implies.

    Fitted on validation pictures by ``tools/fit_error_model.py``; its numbers stand in
    the model's manifest, under ``error_model``, and nowhere else.

    Parameters
    ----------
    curvature
        Factor of the covariance that the curvature of the fit implies.
    competing
        Factor of the covariance that competing local minima add.
    floor
        Least standard deviation of a coefficient, relative to the family's prior scale.
    competing_temperature
        Temperature of the weights of competing minima; 1 for those of their likelihood.
    network
        Factor of the standard deviations that the network predicts.
    usual_scatter, least_scatter, usual_misfit
        Scatter of residuals that are as large as the model predicts; lower limit of the
        scatter relative to it; and the misfit above which errors grow with the misfit.
    few_averages, many_averages, largest_excess
        Excess of the squared misfit of frames with few averages, times their number;
        the number from which there is none; and the largest excess.
    orientation
        Number of standard deviations by which the evidence must exceed chance before
        the 180° ambiguity counts as resolved.
    tail_dof
        Degrees of freedom of the errors' Student's t distribution.
    systematic, fluctuating
        Variance of the part of the error that all estimates of one specimen share, and
        of the rest, over the stated variance.
    track_floor
        Standard deviation added to each estimate in the tracker, relative to the
        family's prior scale.
    largest_nis
        Mean normalised innovation squared, relative to its expectation, above which
        estimates scatter more than they state, and no baseline is made.
    significance
        Number of standard deviations that a change must have to count as evident.
    light_creep
        Share of the stated error by which the systematic part changes when the
        logarithm of the light changes by one.
    verdict
        When an estimate is trusted.
    """

    curvature: float = Field(ge=0)
    competing: float = Field(ge=0)
    floor: float = Field(ge=0)
    competing_temperature: float = Field(gt=0)
    network: float = Field(ge=0)
    usual_scatter: float = Field(gt=0)
    least_scatter: float = Field(ge=0)
    usual_misfit: float = Field(gt=0)
    few_averages: float = Field(ge=0)
    many_averages: float = Field(gt=0)
    largest_excess: float = Field(ge=0)
    orientation: float = Field(ge=0)
    tail_dof: float = Field(gt=0)
    systematic: float = Field(ge=0)
    fluctuating: float = Field(ge=0)
    track_floor: float = Field(gt=0)
    largest_nis: float = Field(gt=0)
    significance: float = Field(gt=0)
    light_creep: float = Field(ge=0)
    verdict: VerdictModel

    def coverage_factor(self, share: float) -> float:
        """Return how many stated standard deviations contain a share of the errors.

        Errors have longer tails than a normal's: most estimates are right to within
        what their fit implies, and a few belong to another blur. A stated deviation
        contains 68 % of the errors, as a normal's does; with four degrees of freedom
        95 % are within 2.43 of them, not 1.96.

        Parameters
        ----------
        share
            Between 0 and 1.
        """
        tail, unit = (
            stdtrit(self.tail_dof, (1 + p) / 2) for p in (share, _ONE_DEVIATION)
        )
        return float(tail / unit)
