"""Fisher scoring of the light of several stacks, with a background in each plane.

The background of each plane only meets the other unknowns in its own plane, and is
eliminated from the normal equations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LeastSquares", "PixelNoise", "Solved", "border"]

# Levenberg's damping: first value, factors after a good and a bad step, largest.
_DAMPING, _BETTER, _WORSE, _LARGEST = 1e-3, 0.2, 5.0, 1e6
# A step that improves half of the weighted sum of squares by less is the last:
# absolute, and relative, as a misfit of the model may exceed the noise a hundred times.
_CONVERGED, _NEGLIGIBLE = 1e-2, 1e-5
# A variance is at least this share of the background's.
_LEAST_VARIANCE = 0.1


class PixelNoise(NamedTuple):
    """Variance of a pixel: `floor` + `gain` · (its light - `level`).

    Parameters
    ----------
    floor
        Variance at the level.
    gain
        Variance per light: 1 for light in electrons.
    level
        With a calibrated camera 0, and the floor is the read noise's; otherwise the
        background, whose noise is measured.
    """

    floor: float
    gain: float = 1.0
    level: float = 0.0

    def variance(self, light: torch.Tensor) -> torch.Tensor:
        """Return the variance of pixels of this expected light."""
        least = max(_LEAST_VARIANCE * self.floor, 1e-6)
        return (self.floor + self.gain * (light - self.level)).clamp(min=least)


class Solved(NamedTuple):
    """Where the fits of n stacks have ended.

    Parameters
    ----------
    theta
        (n, T) the unknowns.
    background
        (n, Z) light of each plane's background.
    covariance
        (n, F, F) of the free unknowns, from the Fisher information; NaN where it is
        singular.
    light
        (n, Z, K, K) expected, with background.
    """

    theta: torch.Tensor
    background: torch.Tensor
    covariance: torch.Tensor
    light: torch.Tensor


class _Equations(NamedTuple):
    """Normal equations of n stacks, in float64."""

    hessian: torch.Tensor  # (n, F, F) of the unknowns
    cross: torch.Tensor  # (n, F, Z) of unknowns and background
    own: torch.Tensor  # (n, Z) of the background
    gradient: torch.Tensor  # (n, F) right side of the unknowns
    level: torch.Tensor  # (n, Z) right side of the background

    def of(self, stacks: torch.Tensor) -> _Equations:
        """Return those of some stacks."""
        return _Equations(*(part[stacks] for part in self))


@dataclass(frozen=True)
class LeastSquares:
    """A model of stacks' light without background, and its unknowns (T,).

    Parameters
    ----------
    light
        Unknowns (b, T) and which b of the stacks they are of → (b, Z, K, K).
    light_and_slopes
        The same and its derivatives in the free unknowns (b, F, Z, K, K).
    bounded
        Puts unknowns (b, T) into their range.
    free
        (F,) places of those that are fitted.
    """

    light: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    light_and_slopes: Callable[
        [torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]
    ]
    bounded: Callable[[torch.Tensor], torch.Tensor]
    free: torch.Tensor

    def solve(
        self,
        data: torch.Tensor,
        noise: PixelNoise,
        theta: torch.Tensor,
        background: torch.Tensor,
        steps: int,
    ) -> Solved:
        """Fit n stacks from unknowns `theta` (n, T) and `background` (n, Z).

        A stack whose fit has ended is left out of further steps.

        Parameters
        ----------
        data
            (n, Z, K, K).

        Notes
        -----
        Reweighted least squares with the model's own variance: at the end the score of
        the Poisson likelihood (shifted by the read noise) is zero.
        """
        theta, background = theta.clone(), background.clone()
        covariance = data.new_zeros(len(data), *[len(self.free)] * 2).double()
        light = torch.zeros_like(data)
        damping = torch.full((len(data),), _DAMPING, dtype=torch.float64)
        left = torch.arange(len(data))
        for _ in range(steps):
            image, slopes = self.light_and_slopes(theta[left], left)
            light[left] = image + _of_planes(background[left], image)
            weight = 1 / noise.variance(light[left])
            residual = data[left] - light[left]
            before = _misfit(residual, weight)
            equations = _equations(residual, slopes, weight)
            covariance[left] = _covariance(equations)
            gain = torch.zeros(len(left), dtype=torch.float64)
            # Stacks without a good step yet, as places in `left`.
            trying = torch.arange(len(left))
            while len(trying):
                who = left[trying]
                step, lift = _step(equations.of(trying), damping[who])
                moved, there = theta[who], background[who] + lift
                moved[:, self.free] += step
                moved = self.bounded(moved)
                trial = self.light(moved, who)
                trial = trial + _of_planes(there, trial)
                gained = before[trying] - _misfit(data[who] - trial, weight[trying])
                good = gained > 0
                gain[trying[good]] = gained[good]
                theta[who[good]], background[who[good]] = moved[good], there[good]
                light[who[good]] = trial[good]
                damping[who] *= torch.where(good, _BETTER, _WORSE)
                trying = trying[~good & (damping[who] < _LARGEST)]
            left = left[gain >= _CONVERGED + _NEGLIGIBLE * before]
            if not len(left):
                break
        return Solved(theta, background, covariance, light)


def border(crop: torch.Tensor) -> torch.Tensor:
    """Return the median light (..., Z) along the border of crops (..., Z, K, K)."""
    rows = torch.cat([crop[..., 0, :], crop[..., -1, :]], -1)
    columns = torch.cat([crop[..., 0], crop[..., -1]], -1)
    return torch.cat([rows, columns], -1).median(-1).values


def _of_planes(background: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Return a background (b, Z) as light (b, Z, 1, 1) of the type of `image`."""
    return background[..., None, None].to(image.dtype)


def _misfit(residual: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return half of the weighted sum of squares (n,) of residuals (n, Z, K, K)."""
    return 0.5 * (residual**2 * weight).sum((1, 2, 3), dtype=torch.float64)


def _equations(
    residual: torch.Tensor, slopes: torch.Tensor, weight: torch.Tensor
) -> _Equations:
    weighted = slopes * weight[:, None]
    cross, weighted = weighted.sum((3, 4)), weighted.flatten(2)
    return _Equations(
        (weighted @ slopes.flatten(2).mT).double(),
        cross.double(),
        weight.sum((2, 3)).double(),
        (weighted @ residual.flatten(1)[..., None])[..., 0].double(),
        (weight * residual).sum((2, 3)).double(),
    )


def _step(
    equations: _Equations, damping: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the steps of the unknowns (n, F) and of the background (n, Z).

    Not finite where the equations cannot be solved.
    """
    hessian, cross, own, gradient, level = equations
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    damped = hessian + torch.diag_embed(damping[:, None] * diagonal)
    shares = cross / own[:, None]
    wanted = gradient - (shares @ level[..., None])[..., 0]
    step, _ = torch.linalg.solve_ex(damped - shares @ cross.mT, wanted)
    return step, (level - (cross.mT @ step[..., None])[..., 0]) / own


def _covariance(equations: _Equations) -> torch.Tensor:
    """Return the covariance (n, F, F) of the unknowns; NaN where it is singular."""
    hessian, cross, own, *_ = equations
    reduced = hessian - (cross / own[:, None]) @ cross.mT
    # Unknowns of very different sizes: with a diagonal of 1 rounding does no harm.
    size = reduced.diagonal(dim1=1, dim2=2).sqrt()
    size = size[:, :, None] * size[:, None]
    factor, failed = torch.linalg.cholesky_ex(reduced / size)
    covariance = torch.cholesky_inverse(factor) / size
    covariance[failed != 0] = torch.nan
    return covariance
