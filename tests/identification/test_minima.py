"""Which minimum of a fit is told, how rivals widen it, and when it is not believed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from specimens import FAMILY

from deepblur_live.identification.fit import Fit
from deepblur_live.identification.minima import most_central_first, rival_spread
from deepblur_live.identification.verdict import judge

ALONE = torch.tensor([0.12, -0.1, 0.1, 0.12, -0.1, 0.08, 0.1])
ONE = torch.tensor([-0.02, 0.1, 0.1, -0.1, 0.1, 0.02, -0.05])
TWO = ONE + 0.01


def first(gamma, objective):
    objective = torch.tensor(objective)
    order = torch.argsort(objective)
    return int(most_central_first(FAMILY, torch.stack(gamma), objective, order)[0])


def test_of_minima_alike_the_most_central_is_told():
    assert first([ALONE, ONE, TWO], [0.0, 0.1, 0.1]) in (1, 2)
    assert first([ALONE, ONE, TWO], [0.0, 10.0, 10.0]) == 0


def test_a_twin_and_a_turned_psf_are_the_same_minimum():
    even = torch.from_numpy(FAMILY.even)
    for same in (torch.where(even, -TWO, TWO), torch.where(even, TWO, -TWO)):
        assert first([ALONE, ONE, same], [0.0, 0.1, 0.1]) in (1, 2)


def test_rivals_widen_as_far_as_they_lie_and_are_believed():
    gamma = torch.stack([ONE, ONE + 0.02])
    near = rival_spread(FAMILY, gamma, torch.tensor([0.0, 0.0]))
    np.testing.assert_allclose(near, np.full((7, 7), 0.5 * 0.02**2), rtol=1e-4)
    # e to the -1/4 as much believed: 1 / (1 + e^(1/4)) of the weight.
    less = rival_spread(FAMILY, gamma, torch.tensor([0.0, 1.0]))
    np.testing.assert_allclose(less, near * 2 / (1 + np.exp(1 / 4)), rtol=1e-4)


def test_a_rivals_twin_widens_no_other_way():
    even = torch.from_numpy(FAMILY.even)
    rival = ONE + torch.linspace(-0.03, 0.03, 7)
    expected = rival_spread(FAMILY, torch.stack([ONE, rival]), torch.zeros(2))
    for signs in (torch.where(even, -1.0, 1.0), torch.where(even, 1.0, -1.0)):
        found = rival_spread(FAMILY, torch.stack([ONE, signs * rival]), torch.zeros(2))
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def _verdict(largest=0.1, error=0.01, misfit=0.5):
    gamma = np.full((1, 7), 0.05)
    gamma[0, 0] = largest
    alone = error**2 * np.eye(7)
    return judge(FAMILY, Fit(gamma, np.zeros(1), alone, np.zeros((7, 7)), misfit))


@pytest.mark.parametrize(
    ("fit", "reason"),
    [
        ({}, ""),
        ({"largest": 0.18}, ""),
        ({"largest": 0.28}, "the blur is out of the family's range"),
        # A misfit alone is forgiven a sure fit, and a large error one that fits.
        ({"misfit": 1.1}, ""),
        ({"error": 0.07}, ""),
        ({"misfit": 2.5}, "no blur of the family fits the frame"),
        ({"misfit": 1.1, "error": 0.07}, "no blur of the family fits the frame"),
        ({"misfit": 0.75, "error": 0.14}, "the blur is too uncertain"),
    ],
)
def test_what_is_more_likely_wrong_is_not_believed(fit, reason):
    found = _verdict(**fit)
    assert (found.trusted, found.reason) == (not reason, reason)


@pytest.mark.parametrize("part", ["coefficients", "curvature"])
def test_numbers_that_are_none_are_not_believed(part):
    fit = Fit(np.full((1, 7), 0.1), np.zeros(1), 1e-4 * np.eye(7), np.eye(7) * 0, 0.5)
    broken = replace(fit, **{part: getattr(fit, part) * np.nan})
    assert judge(FAMILY, fit).trusted
    assert not judge(FAMILY, broken).trusted


def test_rivals_make_an_answer_too_uncertain():
    gamma, half = np.full((1, 7), 0.1), np.diag(np.square(FAMILY.half_ranges))
    fit = Fit(gamma, np.zeros(1), 1e-4 * np.eye(7), half, 0.5)
    assert judge(FAMILY, fit).reason == "the blur is too uncertain"
