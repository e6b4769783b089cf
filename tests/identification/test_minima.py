"""Which minimum is chosen, the effect of competing ones, and the verdict."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from specimens import FAMILY, fit_of

from deepblur_live.identification.minima import competing_scatter, most_central_first
from deepblur_live.identification.verdict import judge

ALONE = torch.tensor([0.12, -0.1, 0.1, 0.12, -0.1, 0.08, 0.1])
ONE = torch.tensor([-0.02, 0.1, 0.1, -0.1, 0.1, 0.02, -0.05])
TWO = ONE + 0.01


def first(gamma, objective):
    objective = torch.tensor(objective)
    order = torch.argsort(objective)
    return int(most_central_first(FAMILY, torch.stack(gamma), objective, order)[0])


def test_of_equally_good_minima_the_most_central_is_chosen():
    assert first([ALONE, ONE, TWO], [0.0, 0.1, 0.1]) in (1, 2)
    assert first([ALONE, ONE, TWO], [0.0, 10.0, 10.0]) == 0


def test_equivalent_coefficients_are_the_same_minimum():
    even = torch.from_numpy(FAMILY.even)
    for same in (torch.where(even, -TWO, TWO), torch.where(even, TWO, -TWO)):
        assert first([ALONE, ONE, same], [0.0, 0.1, 0.1]) in (1, 2)


def test_competing_minima_add_scatter_weighted_by_likelihood():
    gamma = torch.stack([ONE, ONE + 0.02])
    near = competing_scatter(FAMILY, gamma, torch.tensor([0.0, 0.0]), 4.0)
    np.testing.assert_allclose(near, np.full((7, 7), 0.5 * 0.02**2), rtol=1e-4)
    # Relative likelihood e^(-1/4): 1 / (1 + e^(1/4)) of the weight.
    less = competing_scatter(FAMILY, gamma, torch.tensor([0.0, 1.0]), 4.0)
    np.testing.assert_allclose(less, near * 2 / (1 + np.exp(1 / 4)), rtol=1e-4)


def test_a_prior_mean_that_fits_as_well_adds_the_distance_to_it():
    gamma, zero = ONE[None], torch.zeros(1)
    offset = np.outer(ONE.double(), ONE.double())
    for centre, share in ((0.0, 0.5), (4.0, 1 / (1 + np.e)), (np.inf, 0.0)):
        found = competing_scatter(FAMILY, gamma, zero, 4.0, centre)
        np.testing.assert_allclose(found, share * offset, rtol=1e-6, atol=1e-12)


def test_equivalents_of_a_competing_minimum_add_the_same_scatter():
    even = torch.from_numpy(FAMILY.even)
    other = ONE + torch.linspace(-0.03, 0.03, 7)
    expected = competing_scatter(FAMILY, torch.stack([ONE, other]), torch.zeros(2), 4.0)
    for signs in (torch.where(even, -1.0, 1.0), torch.where(even, 1.0, -1.0)):
        found = competing_scatter(
            FAMILY, torch.stack([ONE, signs * other]), torch.zeros(2), 4.0
        )
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def _verdict(largest=0.1, error=0.01, misfit=0.5):
    gamma = np.full((1, 7), 0.05)
    gamma[0, 0] = largest
    alone = error**2 * np.eye(7)
    return judge(FAMILY, fit_of(gamma, np.zeros(1), alone, np.zeros((7, 7)), misfit))


@pytest.mark.parametrize(
    ("fit", "reason"),
    [
        ({}, ""),
        ({"largest": 0.18}, ""),
        ({"largest": 0.28}, "the blur is outside the family's range"),
        # A precise fit may have a larger misfit, and a good fit a larger error.
        ({"misfit": 0.8, "error": 0.04}, ""),
        ({"error": 0.07}, ""),
        ({"misfit": 0.8, "error": 0.1}, "no blur of the family fits the frame"),
        # No stated error makes up for a misfit that right answers do not have.
        ({"misfit": 0.87, "error": 0.001}, "no blur of the family fits the frame"),
        ({"misfit": 0.75, "error": 0.14}, "the blur is too uncertain"),
    ],
)
def test_an_estimate_that_is_more_likely_wrong_is_not_trusted(fit, reason):
    found = _verdict(**fit)
    assert (found.trusted, found.reason) == (not reason, reason)


@pytest.mark.parametrize("part", ["coefficients", "curvature"])
def test_a_fit_that_is_not_finite_is_not_trusted(part):
    fit = fit_of(
        np.full((1, 7), 0.1), np.zeros(1), 1e-4 * np.eye(7), np.eye(7) * 0, 0.5
    )
    broken = replace(fit, **{part: getattr(fit, part) * np.nan})
    assert judge(FAMILY, fit).trusted
    assert not judge(FAMILY, broken).trusted


def test_competing_minima_make_an_estimate_too_uncertain():
    gamma, half = np.full((1, 7), 0.1), np.diag(np.square(FAMILY.half_ranges))
    fit = fit_of(gamma, np.zeros(1), 1e-4 * np.eye(7), half, 0.5)
    assert judge(FAMILY, fit).reason == "the blur is too uncertain"
