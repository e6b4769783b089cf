"""The paper's family, and estimates drawn with the covariance they claim."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from deepblur_live.optics import Estimate, ZernikeFamily


@dataclass(frozen=True)
class Identification:
    """Draws estimates around a truth, in a random one of its twins."""

    family: ZernikeFamily
    covariance: NDArray[np.float64]
    rng: np.random.Generator
    twins: bool = False

    def __call__(self, truth: NDArray[np.float64]) -> Estimate:
        noisy = self.rng.multivariate_normal(truth, self.covariance)
        covariance = self.covariance
        if self.twins and self.rng.random() < 0.5:
            signs = np.where(self.family.even, -1.0, 1.0)
            noisy, covariance = signs * noisy, signs[:, None] * covariance * signs
        return Estimate(noisy, covariance, quality=1.0)


@pytest.fixture
def family() -> ZernikeFamily:
    return ZernikeFamily()


@pytest.fixture
def covariance(family: ZernikeFamily) -> NDArray[np.float64]:
    """Standard deviations of 5 to 11 milliwaves, neighbouring modes correlated."""
    n = family.n_coefficients
    sigma = np.linspace(0.005, 0.011, n)
    correlation = 0.4 ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    return sigma[:, None] * correlation * sigma


@pytest.fixture
def identification(family: ZernikeFamily) -> Callable[..., Identification]:
    """Build an identification: ``identification(covariance, seed, twins=False)``."""

    def build(
        covariance: NDArray[np.float64], seed: int, twins: bool = False
    ) -> Identification:
        return Identification(family, covariance, np.random.default_rng(seed), twins)

    return build
