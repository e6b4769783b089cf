"""Fisher scoring of a stack's light, with a background in each plane.

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
    """Where a fit has ended.

    Parameters
    ----------
    theta
        (T,) the unknowns.
    background
        (Z,) light of each plane's background.
    covariance
        (T, T) from the Fisher information; zero for what was not fitted.
    light
        (Z, K, K) expected, with background.
    """

    theta: torch.Tensor
    background: torch.Tensor
    covariance: torch.Tensor
    light: torch.Tensor


@dataclass(frozen=True)
class LeastSquares:
    """A model of a stack's light without background, and its unknowns (T,).

    Parameters
    ----------
    light
        Unknowns → (Z, K, K).
    light_and_slopes
        Unknowns → the same and its derivatives (T, Z, K, K).
    bounded
        Puts unknowns into their range.
    free
        (T,) which are fitted.
    """

    light: Callable[[torch.Tensor], torch.Tensor]
    light_and_slopes: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
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
        """Fit `data` (Z, K, K) from unknowns `theta` (T,) and background (Z,).

        In at most so many steps.

        Notes
        -----
        Reweighted least squares with the model's own variance: at the end the score of
        the Poisson likelihood (shifted by the read noise) is zero.
        """
        free, damping = self.free, _DAMPING
        for _ in range(steps):
            image, slopes = self.light_and_slopes(theta)
            expected = image + background[:, None, None]
            weight = 1 / noise.variance(expected)
            before = 0.5 * float(((data - expected) ** 2 * weight).sum())
            equations = _equations(data - expected, slopes[free], weight)
            gain = 0.0
            while damping < _LARGEST:
                step, lift = _solve(*equations, damping)
                moved = theta.clone()
                moved[free] += step
                moved, there = self.bounded(moved), background + lift
                trial = self.light(moved) + there[:, None, None]
                after = 0.5 * float(((data - trial) ** 2 * weight).sum())
                if after < before:
                    gain, theta, background = before - after, moved, there
                    damping *= _BETTER
                    break
                damping *= _WORSE
            if gain < _CONVERGED + _NEGLIGIBLE * before:
                break
        image, slopes = self.light_and_slopes(theta)
        expected = image + background[:, None, None]
        hessian, cross, own, *_ = _equations(
            data - expected, slopes[free], 1 / noise.variance(expected)
        )
        covariance = torch.zeros(len(theta), len(theta), dtype=torch.float64)
        inverse = torch.linalg.pinv(hessian - (cross / own) @ cross.T, hermitian=True)
        places = torch.nonzero(free)[:, 0]
        covariance[places[:, None], places] = inverse
        return Solved(theta, background, covariance, expected)


def border(crop: torch.Tensor) -> torch.Tensor:
    """Return the median light (Z,) along the border of a crop (Z, K, K)."""
    rows = torch.cat([crop[:, 0], crop[:, -1]], 1)
    columns = torch.cat([crop[:, :, 0], crop[:, :, -1]], 1)
    return torch.cat([rows, columns], 1).median(1).values


def _equations(
    residual: torch.Tensor, slopes: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the normal equations: of the unknowns, cross terms, of the background.

    (F, F), (F, Z), (Z,), and the right sides (F,), (Z,).
    """
    flat, weights = slopes.flatten(2), weight.flatten(1)
    weighted = flat * weights
    hessian = weighted.flatten(1) @ flat.flatten(1).T
    gradient = weighted.flatten(1) @ residual.flatten()
    level = (weights * residual.flatten(1)).sum(1)
    return hessian, weighted.sum(2), weights.sum(1), gradient, level


def _solve(
    hessian: torch.Tensor,
    cross: torch.Tensor,
    own: torch.Tensor,
    gradient: torch.Tensor,
    level: torch.Tensor,
    damping: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the steps of the unknowns (F,) and of the background (Z,)."""
    damped = hessian + damping * torch.diag(hessian.diagonal())
    reduced = damped - (cross / own) @ cross.T
    step = torch.linalg.lstsq(reduced, gradient - cross @ (level / own)).solution
    return step, (level - cross.T @ step) / own
