"""The paper's family, the shipped error model, and simulated estimates."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from deepblur_live.blur import ErrorModel, Estimate
from deepblur_live.blur.zernike import ZernikeFamily

# The room's simulated spectra.
sys.path.insert(0, str(Path(__file__).parent))

MANIFEST = Path(__file__).parents[2] / "engines/zernike7/manifest.json"


@dataclass(frozen=True)
class Identification:
    """Draws estimates around a truth; if `ambiguous`, of either sign at random."""

    family: ZernikeFamily
    covariance: NDArray[np.float64]
    rng: np.random.Generator
    ambiguous: bool = False

    def __call__(self, truth: NDArray[np.float64]) -> Estimate:
        noisy = self.rng.multivariate_normal(truth, self.covariance)
        covariance = self.covariance
        if self.ambiguous and self.rng.random() < 0.5:
            signs = np.where(self.family.even, -1.0, 1.0)
            noisy, covariance = signs * noisy, signs[:, None] * covariance * signs
        return Estimate(noisy, covariance, quality=1.0)


@pytest.fixture
def family() -> ZernikeFamily:
    return ZernikeFamily()


@pytest.fixture(scope="session")
def errors() -> ErrorModel:
    """The error model of the shipped identification."""
    return ErrorModel.model_validate(json.loads(MANIFEST.read_text())["error_model"])


@pytest.fixture
def covariance(family: ZernikeFamily) -> NDArray[np.float64]:
    """Standard deviations of 5 to 11 milliwaves, neighbouring modes correlated."""
    n = family.n_coefficients
    sigma = np.linspace(0.005, 0.011, n)
    correlation = 0.4 ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    return sigma[:, None] * correlation * sigma


@pytest.fixture
def identification(family: ZernikeFamily) -> Callable[..., Identification]:
    """Build one by ``identification(covariance, seed, ambiguous=False)``."""

    def build(
        covariance: NDArray[np.float64], seed: int, ambiguous: bool = False
    ) -> Identification:
        return Identification(
            family, covariance, np.random.default_rng(seed), ambiguous
        )

    return build
