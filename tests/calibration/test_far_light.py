"""Beads beyond the crop leave light in it, which is known once all are fitted."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_neighbours import GAMMA, MODEL, NM, NOISE, Z

from deepblur_live.calibration import far_light
from deepblur_live.calibration.detect import FoundBead
from deepblur_live.calibration.far_light import fit_beside_far_light
from deepblur_live.calibration.fit import fit_beads
from deepblur_live.calibration.model import BeadParameters
from deepblur_live.calibration.neighbours import Crop, Neighbour, to_fit

# 19 pixels apart: the crops of 25 overlap, and no bead's middle is in the other's.
FOUND = (FoundBead(40, 40, 1.0), FoundBead(42, 59, 1.0), FoundBead(300, 40, 1.0))


def bead(row, column, brightness):
    return BeadParameters(torch.from_numpy(GAMMA), row, column, 0.05, brightness, 0.4)


def light_in(k):
    """All beads' light in the crop of one, without noise."""
    light = torch.full((len(Z), 25, 25), 20.0, dtype=torch.float64)
    for other, brightness in zip(FOUND, (2e4, 3e4, 2e4), strict=True):
        row, column = other.row - FOUND[k].row, other.column - FOUND[k].column
        if max(abs(row), abs(column)) < 60:
            light += MODEL.image(bead(row + 0.3, column - 0.2, brightness)).double()
    return light


@pytest.fixture(scope="module")
def fitted():
    crops = {k: Crop(light_in(k)) for k in range(3)}
    starts = [to_fit(MODEL, crop) for crop in crops.values()]
    return crops, dict(enumerate(fit_beads(MODEL, starts, NOISE)))


def error_nm(fit):
    return NM * np.linalg.norm(fit.coefficients - GAMMA)


def test_its_light_is_that_of_a_larger_crop():
    """The model holds beyond its crop."""
    larger = replace(MODEL, side=65)
    whole = larger.image(bead(2.3, 18.8, 1.0)).double()
    part = MODEL.image(bead(2.3, 18.8, 1.0)).double()
    assert torch.allclose(part, whole[:, 20:45, 20:45], atol=5e-5)
    assert part.sum() > 0.01 * whole.sum()


def test_a_bead_with_others_farther_off_is_measured_as_well_as_one_alone(fitted):
    crops, fits = fitted
    again = fit_beside_far_light(MODEL, FOUND, crops, fits, NOISE)
    assert error_nm(fits[2]) < 0.1
    for k in (0, 1):
        assert error_nm(fits[k]) > 1.0
        assert error_nm(again[k]) < 0.25 * error_nm(fits[k])
    # No other's crop overlaps its own.
    assert again[2] is fits[2]


def test_a_neighbour_in_the_fit_is_not_counted_again(fitted):
    crops, fits = fitted
    together = {**crops, 0: crops[0]._replace(neighbours=(Neighbour(2, 19, 1.0),))}
    again = fit_beside_far_light(MODEL, FOUND, together, fits, NOISE)
    assert again[0] is fits[0]
    assert again[1] is not fits[1]


def test_a_refit_that_fails_keeps_the_first(fitted, monkeypatch):
    crops, fits = fitted
    monkeypatch.setattr(
        far_light, "fit_beads", lambda _, starts, *__: [None for _ in starts]
    )
    assert fit_beside_far_light(MODEL, FOUND, crops, fits, NOISE) == fits
