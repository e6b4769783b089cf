"""Run lengths and limits: published tables and simulation."""

from __future__ import annotations

import numpy as np
import pytest

from deepblur_live.drift.run_length import (
    cusum_arl,
    cusum_limit,
    mewma_arl,
    mewma_limit,
)


@pytest.mark.parametrize(
    ("h", "shift", "published"),
    [
        # Montgomery, Introduction to Statistical Quality Control, table 9.3 (two-sided
        # tabular CUSUM, k = 1/2); Hawkins & Olwell (1998) give the same.
        (4, 0.0, 168),
        (4, 0.5, 26.6),
        (4, 1.0, 8.38),
        (4, 2.0, 3.34),
        (5, 0.0, 465),
        (5, 0.25, 139),
        (5, 0.5, 38.0),
        (5, 1.0, 10.4),
        (5, 2.0, 4.01),
    ],
)
def test_cusum_is_as_published(h, shift, published):
    assert cusum_arl(0.5, h, shift) == pytest.approx(published, rel=0.005)


@pytest.mark.parametrize(
    ("weight", "limit"), [(0.05, 2.615), (0.1, 2.814), (0.25, 2.998), (0.4, 3.054)]
)
def test_mewma_of_one_variable_is_the_published_ewma(weight, limit):
    """Lucas & Saccucci, Technometrics 32 (1990), table 3: each has an ARL of 500."""
    assert mewma_arl(1, weight, limit**2) == pytest.approx(500, rel=0.003)


@pytest.mark.parametrize(
    ("p", "limit"), [(2, 8.64), (4, 12.73), (6, 16.24), (10, 22.67)]
)
def test_mewma_is_as_published(p, limit):
    """Prabhu & Runger, J. Quality Technology 29 (1997): λ = 0.1, ARL 200."""
    assert mewma_arl(p, 0.1, limit) == pytest.approx(200, rel=0.01)


def test_mewma_limit_is_rigdons():
    """Rigdon (1995), table 1: p = 4, λ = 0.25, ARL 500."""
    assert mewma_limit(4, 0.25, 500.0) == pytest.approx(16.38, abs=0.005)


def test_limits_give_the_run_length_they_were_solved_for():
    for arl in (20.0, 500.0, 50_000.0, 1e9):
        assert cusum_arl(0.5, cusum_limit(0.5, arl)) == pytest.approx(arl, rel=0.01)
        assert mewma_arl(7, 0.1, mewma_limit(7, 0.1, arl)) == pytest.approx(
            arl, rel=0.01
        )
    assert cusum_limit(0.5, 50_000.0) == pytest.approx(9.66, abs=0.01)


def test_mewma_run_length_agrees_with_simulation():
    rng = np.random.default_rng(1)
    p, weight, runs = 7, 0.2, 2000
    limit = mewma_limit(p, weight, 50.0)
    average, lengths = np.zeros((runs, p)), np.zeros(runs)
    for k in range(1, 1000):
        average = (1 - weight) * average + weight * rng.normal(size=(runs, p))
        squared = np.sum(average**2, axis=1) * (2 - weight) / weight
        lengths[(lengths == 0) & (squared > limit)] = k
    assert lengths.all()
    # The standard error of a mean of geometric lengths.
    assert lengths.mean() == pytest.approx(50, abs=3 * 50 / np.sqrt(runs))


def test_impossible_run_length_is_rejected():
    with pytest.raises(ValueError, match="run length"):
        cusum_limit(0.5, 1.0)
