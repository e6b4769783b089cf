"""Maximum-likelihood fits of beads through a stack, in batches."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.calibration.least_squares import LeastSquares, border
from deepblur_live.calibration.model import BeadParameters
from deepblur_live.calibration.unknowns import ToFit, Unknowns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from deepblur_live.calibration.least_squares import PixelNoise
    from deepblur_live.calibration.model import StackModel

__all__ = ["StackFit", "ToFit", "fit_beads", "start_of"]

_log = logging.getLogger(__name__)

# Crops that are fitted together: more need more memory, and are not quicker
# (docs/decisions/0246-cost-of-a-calibration.md).
_BATCH = 4


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
        (P+5, P+5) of the parameters, from the Fisher information: the effect of noise
        alone. Zero for parameters that were not fitted.
    chi2
        Mean squared residual over its variance.
    objective
        Half the weighted sum of squares and of the logarithms of the variance.
    model, residual
        (Z, K, K) the expected light of the bead without background, and what is left
        of the crop without background, this and neighbours.
    beside
        (Z, K, K) the light of neighbours fitted together with it; None if it is
        isolated.
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


def fit_beads(
    model: StackModel,
    crops: Sequence[ToFit],
    noise: PixelNoise,
    *,
    fit_blur: bool = True,
    fit_coefficients: bool = True,
    steps: int = 25,
    on_fitted: Callable[[int], None] = lambda count: None,
) -> list[StackFit | None]:
    """Fit beads separately; None for each bead whose fit fails.

    Parameters
    ----------
    model
        Images of beads.
    crops
        The beads to fit: their light and the start of each fit.
    noise
        Noise of a pixel.
    fit_blur, fit_coefficients
        Whether these are unknowns, or as in the starts.
    steps
        Largest number of steps.
    on_fitted
        Called with the number of beads that are done.
    """

    def fitted(some: Sequence[ToFit]) -> list[StackFit | None]:
        try:
            return _fitted(model, some, noise, fit_blur, fit_coefficients, steps)
        except Exception as error:
            # One bad bead must not end the calibration, nor the fits of the others.
            if len(some) > 1:
                return [fit for one in some for fit in fitted([one])]
            _log.info("a bead cannot be fitted: %r", error)
            return [None]

    found: dict[int, StackFit | None] = {}
    counts = [len(one.neighbours) for one in crops]
    for count in sorted(set(counts)):
        alike = [k for k, n in enumerate(counts) if n == count]
        for first in range(0, len(alike), _BATCH):
            batch = alike[first : first + _BATCH]
            fits = fitted([crops[k] for k in batch])
            found |= zip(batch, fits, strict=True)
            on_fitted(len(found))
    return [found[k] for k in range(len(crops))]


def _fitted(
    model: StackModel,
    crops: Sequence[ToFit],
    noise: PixelNoise,
    fit_blur: bool,
    fit_coefficients: bool,
    steps: int,
) -> list[StackFit | None]:
    """Return the fits of a batch, see `fit_beads`; None if one is not finite."""
    unknowns = Unknowns(model, crops, fit_blur, fit_coefficients)
    free, start = unknowns.free, unknowns.starts(crops)
    least = LeastSquares(
        unknowns.light, unknowns.light_and_slopes, unknowns.bounded, free
    )
    data = torch.stack([one.crop for one in crops]).double()
    solved = least.solve(data.to(model.dtype), noise, start, border(data), steps)
    covariance = torch.zeros(*start.shape, start.shape[1], dtype=torch.float64)
    covariance[:, free[:, None], free] = solved.covariance
    beside = [one.beside for one in crops]
    if crops[0].neighbours:
        beside = [
            near if known is None else near + known
            for near, known in zip(unknowns.others(solved.theta), beside, strict=True)
        ]
    size = len(model.noll) + 5
    return [
        _finished(
            solved.theta[k, :size],
            solved.background[k],
            covariance[k, :size, :size],
            data[k],
            solved.light[k].double(),
            noise,
            beside[k],
        )
        for k in range(len(crops))
    ]


def _finished(
    theta: torch.Tensor,
    background: torch.Tensor,
    covariance: torch.Tensor,
    data: torch.Tensor,
    light: torch.Tensor,
    noise: PixelNoise,
    beside: torch.Tensor | None,
) -> StackFit | None:
    """Return the fit of one crop, if it is finite."""
    variance = noise.variance(light)
    squares = (data - light) ** 2 / variance
    objective = 0.5 * float((squares + variance.log()).sum())
    if not (math.isfinite(objective) and theta.isfinite().all()):
        return None
    own = light - background[:, None, None]
    return StackFit(
        BeadParameters.of(theta),
        background.numpy(),
        covariance.numpy(),
        float(squares.mean()),
        objective,
        (own if beside is None else own - beside).numpy(),
        (data - light).numpy(),
        beside,
    )
