"""Residuals with structure: what chance leaves, and what a wrong model leaves."""

from dataclasses import replace

import numpy as np
import torch
from specimens import ERRORS, FAMILY

from deepblur_live.identification import welch
from deepblur_live.identification.observed import residual_structure
from deepblur_live.identification.refine import SpectralRefiner
from deepblur_live.identification.spectrum import WINDOW, frequencies, windowed
from deepblur_live.identification.verdict import judge


def data():
    image = torch.rand(256, 256, generator=torch.Generator().manual_seed(0))
    power, averages = welch(image)
    return SpectralRefiner(FAMILY, ERRORS, library=8).prepare(power, averages, 1.0)


def residuals(observed, plane):
    return plane.flatten()[observed.keep]


def test_chance_leaves_none_though_the_window_correlates_neighbours():
    observed = data()
    noise = torch.randn(WINDOW, WINDOW // 2 + 1, generator=torch.manual_seed(1))
    everywhere = torch.ones(int(observed.keep.sum()))
    for plane in (noise, windowed(noise)):
        found = residual_structure(observed, residuals(observed, plane), everywhere)
        assert abs(found) < 0.1


def test_a_wrong_model_leaves_bands():
    observed = data()
    radius, _ = frequencies(torch.device("cpu"))
    rings = torch.cos(2 * np.pi * radius * 6)
    noise = 0.3 * torch.randn(rings.shape, generator=torch.manual_seed(2))
    everywhere = torch.ones(int(observed.keep.sum()))
    found = residual_structure(observed, residuals(observed, rings + noise), everywhere)
    assert found > 0.5


def test_bins_of_noise_do_not_count():
    observed = data()
    radius, _ = frequencies(torch.device("cpu"))
    rings = residuals(observed, torch.cos(2 * np.pi * radius * 6))
    signal = residuals(observed, (radius < 0.02).float())
    assert residual_structure(observed, rings, signal) == 0.0


def test_structure_lowers_the_odds_and_is_named():
    observed = data()
    fit = SpectralRefiner(FAMILY, ERRORS, library=8).fit(
        observed, torch.zeros(1, FAMILY.n_coefficients)
    )
    verdict = ERRORS.verdict.model_copy(
        update={"intercept": 5.0, "structure": 100.0, "usual_structure": 0.05}
    )
    errors = ERRORS.model_copy(update={"verdict": verdict})
    for structure, trusted in ((0.0, True), (0.5, False)):
        changed = replace(
            fit,
            error_model=errors,
            structure=structure,
            curvature=1e-4 * np.eye(FAMILY.n_coefficients),
            competing=0 * fit.competing,
            coefficients=0 * fit.coefficients,
            quality=0.5,
        )
        found = judge(FAMILY, changed)
        assert found.trusted is trusted
    assert "systematic" in found.reason
