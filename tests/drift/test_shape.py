"""The fitted shape of a change over time."""

from __future__ import annotations

import numpy as np
import pytest

from deepblur_live.blur import ChangeShape
from deepblur_live.drift.shape import fit_shape

TIMES = np.arange(60) * 30.0
CHANGES = {
    ChangeShape.STEP: 0.06 * (TIMES > 900),
    ChangeShape.RAMP: 0.06 * np.maximum(TIMES - 600, 0) / 1200,
    ChangeShape.SETTLING: 0.06 * -np.expm1(-np.maximum(TIMES - 300, 0) / 250),
}


@pytest.mark.parametrize("shape", CHANGES)
def test_shape_is_identified(shape):
    rng = np.random.default_rng(1)
    for _ in range(10):
        noisy = CHANGES[shape] + rng.normal(0, 0.003, len(TIMES))
        fit = fit_shape(TIMES, noisy, 0.003)
        assert fit.shape is shape
    if shape is ChangeShape.RAMP:
        assert fit.rate == pytest.approx(0.06 / 1200, rel=0.1)
    if shape is ChangeShape.SETTLING:
        assert fit.time_constant == pytest.approx(250, rel=0.4)


@pytest.mark.parametrize("count", [5, 12])
def test_shape_of_few_or_noisy_points_is_unclear(count):
    rng = np.random.default_rng(2)
    amounts = np.linspace(0, 0.01, count) + rng.normal(0, 0.01, count)
    fit = fit_shape(TIMES[:count], amounts, 0.01)
    assert fit.shape is ChangeShape.UNCLEAR
    assert np.isnan(fit.rate) and np.isnan(fit.time_constant)
