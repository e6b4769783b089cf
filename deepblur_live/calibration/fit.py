"""Maximum-likelihood fit of one bead through a stack."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.calibration.least_squares import LeastSquares, border
from deepblur_live.calibration.model import BeadParameters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.calibration.least_squares import PixelNoise, Solved
    from deepblur_live.calibration.model import StackModel

__all__ = ["StackFit", "finished", "fit_bead", "start_of"]


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
        (Z, K, K) the expected light of the bead without background, and what is left
        of the crop without background, this and neighbours.
    beside
        (Z, K, K) the light of neighbours that was fitted beside it; None if it stands
        alone.
    """

    bead: BeadParameters
    background: NDArray[np.float64]
    covariance: NDArray[np.float64]
    chi2: float
    objective: float
    model: NDArray[np.float64]
    residual: NDArray[np.float64]
    beside: torch.Tensor | None = None

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
        """Energy of the residual over that of bead and neighbours; noise included."""
        light = self.model if self.beside is None else self.model + self.beside.numpy()
        energy = float(np.square(light).sum())
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
    light = crop.double() - border(crop.double())[:, None, None]
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


def fit_bead(
    model: StackModel,
    crop: torch.Tensor,
    noise: PixelNoise,
    start: BeadParameters,
    *,
    fit_blur: bool = True,
    fit_coefficients: bool = True,
    extra: torch.Tensor | None = None,
    beside: torch.Tensor | None = None,
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
    beside
        (Z, K, K) light of neighbours, see `StackFit`.
    steps
        Largest number of steps.
    """
    data = crop.double()
    theta = start.vector()
    p = len(start.coefficients)
    free = torch.ones(len(theta), dtype=torch.bool)
    free[:p] = fit_coefficients
    free[-1] = fit_blur
    if len(model.z_um) == 1:
        free[p + 2] = False

    def light(theta: torch.Tensor) -> torch.Tensor:
        bead = BeadParameters.of(theta)
        image = model.images(bead).double()
        if extra is not None:
            image = image + bead.brightness * extra
        return image if beside is None else image + beside

    def light_and_slopes(theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        bead = BeadParameters.of(theta)
        images = model.images_and_slopes(bead, by_modes=fit_coefficients)
        image, slopes = images.image.double(), images.slopes.double()
        if extra is not None:
            image = image + bead.brightness * extra
            slopes[-2] += extra
        return image if beside is None else image + beside, slopes

    def bounded(theta: torch.Tensor) -> torch.Tensor:
        theta[p + 3] = theta[p + 3].clamp(min=1e-6)
        theta[-1] = theta[-1].clamp(0.0, model.largest_blur)
        return theta

    least = LeastSquares(light, light_and_slopes, bounded, free)
    solved = least.solve(data, noise, theta, border(data), steps)
    return finished(solved, solved.theta, solved.covariance, data, noise, beside)


def finished(
    solved: Solved,
    theta: torch.Tensor,
    covariance: torch.Tensor,
    data: torch.Tensor,
    noise: PixelNoise,
    beside: torch.Tensor | None,
) -> StackFit:
    """Return the fit of a bead with parameters (P+5,) and covariance (P+5, P+5).

    `solved` is what its crop `data` (Z, K, K) was fitted by, `beside` (Z, K, K) the
    light of its neighbours.
    """
    light = solved.light
    variance = noise.variance(light)
    squares = (data - light) ** 2 / variance
    own = light - solved.background[:, None, None]
    return StackFit(
        BeadParameters.of(theta),
        solved.background.numpy(),
        covariance.numpy(),
        float(squares.mean()),
        0.5 * float((squares + variance.log()).sum()),
        (own if beside is None else own - beside).numpy(),
        (data - light).numpy(),
        beside,
    )
