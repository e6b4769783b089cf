"""A fit that continues from the last frame's: fewer exact OTFs, the same answer."""

import numpy as np
import pytest
import torch
from specimens import ERRORS, FAMILY, blurred, cells

from deepblur_live.identification import (
    SpectralRefiner,
    otf,
    refine,
    spectral_model,
    welch,
)


@pytest.fixture(scope="module")
def continued():
    """A refiner, the second frame's data, and where the first frame's fit ended."""
    truth = FAMILY.sample(1, torch.Generator().manual_seed(4))[0]
    refiner = SpectralRefiner(FAMILY, ERRORS)
    first, second = (
        refiner.prepare(*welch(blurred(cells(seed=5), truth.numpy(), 0.01, k)), 1)
        for k in range(2)
    )
    found = refiner.fit(first, truth[None])
    return refiner, second, torch.tensor(found.coefficients[:1]).float(), found.nuisance


def exact_evaluations(monkeypatch):
    """Count the PSFs and derivatives that are computed from now on."""
    calls, exact = [], otf.log_otf_and_slopes
    for module in (otf, spectral_model):
        monkeypatch.setattr(
            module, "log_otf_and_slopes", lambda *a: calls.append(a) or exact(*a)
        )
    return calls


def test_linear_models_save_evaluations_and_keep_the_answer(continued, monkeypatch):
    refiner, data, start, nuisance = continued
    with monkeypatch.context() as patch:
        # Each evaluation is exact.
        patch.setattr(refine, "_LINEAR", -1.0)
        before = exact_evaluations(patch)
        exact = refiner.fit(data, start, nuisance=nuisance)
        count = len(before)
        best = refiner.fit(data, start, None, 60, nuisance=nuisance, improvement=1e-7)
    with monkeypatch.context() as patch:
        after = exact_evaluations(patch)
        fit = refiner.fit(data, start, nuisance=nuisance)
        assert len(after) < count
    sigma = np.sqrt(np.diag(best.covariance))
    # The frame's noise has moved the minimum by more than the linear models err.
    assert np.abs((start.numpy()[0] - best.coefficients[0]) / sigma).max() > 0.3
    assert np.abs((fit.coefficients[0] - best.coefficients[0]) / sigma).max() < 0.1
    np.testing.assert_allclose(np.diag(fit.covariance) ** 0.5, sigma, rtol=0.03)
    assert fit.quality == pytest.approx(exact.quality, abs=0.002)


def test_a_linear_model_is_replaced_when_the_fit_leaves_it(continued, monkeypatch):
    refiner, data, start, nuisance = continued
    best = refiner.fit(data, start, None, 60, nuisance=nuisance, improvement=1e-7)
    # Two standard deviations off: further than one linear model is taken.
    sigma = np.sqrt(np.diag(best.covariance))
    off = torch.tensor(best.coefficients[:1] + 2 * sigma).float()
    calls = exact_evaluations(monkeypatch)
    fit = refiner.fit(data, off, nuisance=nuisance)
    assert len(calls) >= 2
    assert np.abs((fit.coefficients[0] - best.coefficients[0]) / sigma).max() < 0.2
