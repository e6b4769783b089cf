"""Which minimum of a fit is told, how rivals widen it, and when it is not believed."""

import numpy as np
import pytest
import torch
from specimens import FAMILY

from deepblur_live.identification.minima import most_central_first, rival_spread
from deepblur_live.identification.refine import Fit
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
    # e⁻¹ as much believed: 1 / (1 + e) of the weight.
    less = rival_spread(FAMILY, gamma, torch.tensor([0.0, 4.0]))
    np.testing.assert_allclose(less, near * 2 / (1 + np.e), rtol=1e-4)


def test_a_rivals_twin_widens_no_other_way():
    even = torch.from_numpy(FAMILY.even)
    rival = ONE + torch.linspace(-0.03, 0.03, 7)
    expected = rival_spread(FAMILY, torch.stack([ONE, rival]), torch.zeros(2))
    for signs in (torch.where(even, -1.0, 1.0), torch.where(even, 1.0, -1.0)):
        found = rival_spread(FAMILY, torch.stack([ONE, signs * rival]), torch.zeros(2))
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("gamma", "reason"),
    [
        (np.full(7, 0.1), ""),
        # One mode may go to twice its range, all together not beyond what draws have.
        (np.array([0.29, 0, 0, 0, 0, 0, 0]), ""),
        (np.array([0.31, 0, 0, 0, 0, 0, 0]), "the blur is out of the family's range"),
        (np.full(7, 0.13), "the blur is out of the family's range"),
    ],
)
def test_what_is_far_out_of_range_is_not_believed(gamma, reason):
    fit = Fit(gamma[None], np.zeros(1), 1e-4 * np.eye(7), 0.5)
    assert judge(FAMILY, fit).reason == reason


def test_a_misfit_is_not_believed():
    fit = Fit(np.full((1, 7), 0.1), np.zeros(1), 1e-4 * np.eye(7), 0.86)
    assert judge(FAMILY, fit).reason == "no blur of the family fits the frame"
