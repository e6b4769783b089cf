"""Maximum-likelihood fit of one bead through a stack, by Fisher scoring.

The background of each plane only meets the other unknowns in its own plane, and is
eliminated from the normal equations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from deepblur_live.calibration.model import BeadParameters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.calibration.model import StackModel

__all__ = ["PixelNoise", "StackFit", "fit_bead", "start_of"]

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


@dataclass(frozen=True)
class StackFit:
    """A bead's blur and place, with their uncertainty.

    Parameters
    ----------
    bead
        The fitted parameters.
    background
        (Z,) light of the background in each plane.
    covariance
        (P+5, P+5) of the parameters, from the Fisher information: what noise alone
        does. Zero for what was not fitted.
    chi2
        Mean squared residual over its variance.
    objective
        Half the weighted sum of squares and of the logarithms of the variance.
    model, residual
        (Z, K, K) the expected light without background, and crop minus model.
    """

    bead: BeadParameters
    background: NDArray[np.float64]
    covariance: NDArray[np.float64]
    chi2: float
    objective: float
    model: NDArray[np.float64]
    residual: NDArray[np.float64]

    @property
    def coefficients(self) -> NDArray[np.float64]:
        """(P,) γ, waves rms."""
        return self.bead.coefficients.numpy()

    @property
    def sigma(self) -> NDArray[np.float64]:
        """(P,) standard deviation of γ that noise causes, waves rms."""
        p = len(self.bead.coefficients)
        deviations: NDArray[np.float64] = np.sqrt(np.diag(self.covariance)[:p])
        return deviations

    @property
    def unexplained(self) -> float:
        """Energy of the residual over that of the bead; noise included."""
        energy = float(np.square(self.model).sum())
        return float(np.square(self.residual).sum()) / max(energy, 1e-12)

    @property
    def snr_db(self) -> float:
        """How well the fit explains the bead's images; noise included."""
        return -10 * math.log10(max(self.unexplained, 1e-12))


def start_of(
    model: StackModel,
    crop: torch.Tensor,
    coefficients: torch.Tensor | None = None,
    blur: float = 0.25,
) -> BeadParameters:
    """Return where the fit of a crop (Z, K, K) begins.

    In the plane in which the bead is brightest, at its centroid.

    Parameters
    ----------
    coefficients
        (P,) γ; no aberrations when None.
    blur
        Variance of the Gaussian, pixels².
    """
    light = crop.double() - _border(crop.double())[:, None, None]
    half = model.side // 2
    middle = light[:, half - 2 : half + 3, half - 2 : half + 3].clamp(min=0)
    best = int(middle.sum((1, 2)).argmax())
    core = middle[best]
    total = float(core.sum().clamp(min=1e-9))
    places = torch.arange(-2, 3).double()
    gamma = torch.zeros(len(model.noll)) if coefficients is None else coefficients
    return BeadParameters(
        gamma.double(),
        float((core.sum(1) * places).sum()) / total,
        float((core.sum(0) * places).sum()) / total,
        model.z_um[best],
        max(float(light[best].sum()), 1e-3),
        blur,
    )


def _border(crop: torch.Tensor) -> torch.Tensor:
    """Return the median light (Z,) along the border of a crop (Z, K, K)."""
    rows = torch.cat([crop[:, 0], crop[:, -1]], 1)
    columns = torch.cat([crop[:, :, 0], crop[:, :, -1]], 1)
    return torch.cat([rows, columns], 1).median(1).values


def fit_bead(
    model: StackModel,
    crop: torch.Tensor,
    noise: PixelNoise,
    start: BeadParameters,
    *,
    fit_blur: bool = True,
    fit_coefficients: bool = True,
    extra: torch.Tensor | None = None,
    steps: int = 25,
) -> StackFit:
    """Fit one bead.

    Parameters
    ----------
    model
        Images of beads.
    crop
        (Z, K, K) light, a bead near the middle.
    noise
        Of a pixel.
    start
        Where the fit begins, from `start_of`.
    fit_blur, fit_coefficients
        Whether these are unknowns, or as in `start`.
    extra
        (Z, K, K) what a bead of brightness 1 shows besides the model, at its place.
    steps
        Largest number of steps.

    Notes
    -----
    Reweighted least squares with the model's own variance: at the end the score of the
    Poisson likelihood (shifted by the read noise) is zero.
    """
    data = crop.double()
    theta = start.vector()
    p = len(start.coefficients)
    free = torch.ones(len(theta), dtype=torch.bool)
    free[:p] = fit_coefficients
    free[-1] = fit_blur
    if len(model.z_um) == 1:
        free[p + 2] = False
    background = _border(data)
    damping = _DAMPING
    for _ in range(steps):
        light, slopes = _expected(model, theta, background, extra, fit_coefficients)
        variance = noise.variance(light)
        weight = 1 / variance
        before = 0.5 * float(((data - light) ** 2 * weight).sum())
        equations = _equations(data - light, slopes[free], weight)
        gain = 0.0
        while damping < _LARGEST:
            step, lift = _solve(*equations, damping)
            moved = theta.clone()
            moved[free] += step
            moved[p + 3] = moved[p + 3].clamp(min=1e-6)
            moved[-1] = moved[-1].clamp(0.0, model.largest_blur)
            there = background + lift
            trial = _light(model, moved, there, extra)
            after = 0.5 * float(((data - trial) ** 2 * weight).sum())
            if after < before:
                gain, theta, background = before - after, moved, there
                damping *= _BETTER
                break
            damping *= _WORSE
        if gain < _CONVERGED + _NEGLIGIBLE * before:
            break
    return _finished(model, data, noise, theta, background, free, extra)


def _light(
    model: StackModel,
    theta: torch.Tensor,
    background: torch.Tensor,
    extra: torch.Tensor | None,
) -> torch.Tensor:
    bead = BeadParameters.of(theta)
    image = model.images(bead).double()
    if extra is not None:
        image = image + bead.brightness * extra
    return image + background[:, None, None]


def _expected(
    model: StackModel,
    theta: torch.Tensor,
    background: torch.Tensor,
    extra: torch.Tensor | None,
    by_modes: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the light (Z, K, K) and its derivatives (P+5, Z, K, K)."""
    bead = BeadParameters.of(theta)
    images = model.images_and_slopes(bead, by_modes=by_modes)
    image, slopes = images.image.double(), images.slopes.double()
    if extra is not None:
        image = image + bead.brightness * extra
        slopes[-2] += extra
    return image + background[:, None, None], slopes


def _equations(
    residual: torch.Tensor, slopes: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the normal equations: of the bead, cross terms, of the background.

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
    """Return the steps of the bead's unknowns (F,) and of the background (Z,)."""
    damped = hessian + damping * torch.diag(hessian.diagonal())
    reduced = damped - (cross / own) @ cross.T
    step = torch.linalg.lstsq(reduced, gradient - cross @ (level / own)).solution
    return step, (level - cross.T @ step) / own


def _finished(
    model: StackModel,
    data: torch.Tensor,
    noise: PixelNoise,
    theta: torch.Tensor,
    background: torch.Tensor,
    free: torch.Tensor,
    extra: torch.Tensor | None,
) -> StackFit:
    by_modes = bool(free[0])
    light, slopes = _expected(model, theta, background, extra, by_modes)
    variance = noise.variance(light)
    hessian, cross, own, *_ = _equations(data - light, slopes[free], 1 / variance)
    covariance = torch.zeros(len(theta), len(theta), dtype=torch.float64)
    inverse = torch.linalg.pinv(hessian - (cross / own) @ cross.T, hermitian=True)
    places = torch.nonzero(free)[:, 0]
    covariance[places[:, None], places] = inverse
    squares = (data - light) ** 2 / variance
    return StackFit(
        BeadParameters.of(theta),
        background.numpy(),
        covariance.numpy(),
        float(squares.mean()),
        0.5 * float((squares + variance.log()).sum()),
        (light - background[:, None, None]).numpy(),
        (data - light).numpy(),
    )
