"""Beads that share a crop: fitted together, as accurate as alone."""

import numpy as np
import pytest
import torch
from stack_slides import MODES, PROFILE

from deepblur_live.calibration.detect import FoundBead
from deepblur_live.calibration.fit import ToFit, fit_beads
from deepblur_live.calibration.least_squares import PixelNoise
from deepblur_live.calibration.model import BeadParameters, StackModel
from deepblur_live.calibration.neighbours import (
    Crop,
    Neighbour,
    neighbours_of,
    to_fit,
)

Z = tuple(np.linspace(-0.75, 0.75, 5))
MODEL = StackModel(PROFILE.optics, MODES, 100.0, Z, 25)
GAMMA = np.array([0.03, -0.04, 0.02, 0.03, -0.02, 0.01, 0.03])
NOISE = PixelNoise(1.6**2)
NM = PROFILE.optics.wavelength_nm


def crop(*others, seed=0):
    """A bead in the middle, and others at rows, columns and relative brightness."""
    rng = np.random.default_rng(seed)
    light = torch.full((len(Z), 25, 25), 20.0, dtype=torch.float64)
    for row, column, share in ((0.3, -0.2, 1.0), *others):
        place = BeadParameters(
            torch.from_numpy(GAMMA), row, column, 0.05, 2e4 * share, 0.4
        )
        light += MODEL.image(place).double()
    data = rng.poisson(light.numpy()) + rng.normal(0, 1.6, light.shape)
    near = tuple(Neighbour(round(r), round(c), s) for r, c, s in others)
    return Crop(torch.from_numpy(data), near)


@pytest.mark.parametrize(
    "others",
    [
        [],
        [(3.4, 2.2, 0.8)],
        [(-6.3, 1.6, 2.0)],
        [(8.2, 5.7, 0.6), (-1.5, -9.4, 1.2)],
        # Its middle is beyond the crop.
        [(-13.2, 3.0, 1.5)],
    ],
)
def test_a_bead_with_neighbours_is_measured_as_well_as_one_alone(others):
    (found,) = fit_beads(MODEL, [to_fit(MODEL, crop(*others))], NOISE)
    error = NM * np.linalg.norm(found.coefficients - GAMMA)
    stated = NM * np.linalg.norm(found.sigma)
    assert stated < 1.6
    assert error < 2 * stated
    assert found.bead.row == pytest.approx(0.3, abs=0.05)
    assert found.bead.brightness == pytest.approx(2e4, rel=0.03)
    assert found.chi2 == pytest.approx(1, abs=0.1)
    assert (found.beside is None) == (not others)


def test_without_the_neighbour_the_fit_is_wrong():
    blind = crop((-6.3, 1.6, 2.0))._replace(neighbours=())
    (blind,) = fit_beads(MODEL, [to_fit(MODEL, blind)], NOISE)
    assert NM * np.linalg.norm(blind.coefficients - GAMMA) > 20


def test_a_refit_keeps_the_neighbours_light():
    both = crop((4.4, 2.2, 0.8))
    (found,) = fit_beads(MODEL, [to_fit(MODEL, both)], NOISE)
    start = ToFit(both.light, found.bead, beside=found.beside)
    (again,) = fit_beads(MODEL, [start], NOISE)
    assert NM * np.linalg.norm(again.coefficients - found.coefficients) < 1.5
    assert again.beside is found.beside
    # What is left and the bead's own light are the crop without neighbour.
    own = torch.from_numpy(again.model + again.residual) + found.beside
    own += torch.from_numpy(again.background)[:, None, None]
    assert torch.allclose(own, both.light)


def test_only_neighbours_that_can_be_told_apart_are_fitted():
    bead = FoundBead(50, 50, 100.0)

    def near(*others):
        found = [bead, *(FoundBead(*place) for place in others)]
        return neighbours_of(bead, found, 2.0, 25)

    assert near() == ()
    assert near((50, 56, 50.0)) == (Neighbour(0.0, 6.0, 0.5),)
    # Too dim to matter, and too far.
    assert near((50, 56, 2.0), (50, 66, 100.0)) == ()
    assert near((51, 52, 50.0)) is None
    assert near((50, 56, 50.0), (44, 50, 50.0), (56, 50, 50.0)) is None
