"""The score of a PSF against real beads, on beads whose PSF is known."""

import importlib
from pathlib import Path

import numpy as np
import pytest

TOOLS = Path(__file__).parents[2] / "tools"
SHAPE = (160, 160)
PLACES = np.array([[35.3, 40.8], [40.2, 110.4], [115.7, 45.1], [120.4, 118.6]])


@pytest.fixture
def beads(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("evaluation.bead_scores")


def gaussian(place, sigma, shape=SHAPE):
    row, column = np.indices(shape)
    square = (row - place[0]) ** 2 + (column - place[1]) ** 2
    return np.exp(-square / (2 * sigma**2)) / (2 * np.pi * sigma**2)


def slide(sigma):
    frame = sum(gaussian(place, sigma) for place in PLACES)
    # Two beads side by side are not isolated.
    return 7 + 5000 * (frame + gaussian((80, 80), sigma) + gaussian((80, 90), sigma))


def test_isolated_beads_are_found_and_their_mean_is_one_of_them(beads):
    places = beads.bead_places(slide(2.0))
    assert sorted(map(tuple, places)) == sorted(map(tuple, np.round(PLACES)))
    mean = beads.mean_bead(slide(2.5), places)
    assert mean.shape == (31, 31)
    assert mean.sum() == pytest.approx(5000, rel=0.01)
    psf = gaussian((20, 20), 2.5, (41, 41))
    assert beads.bead_snr(psf, mean, 0.0) > 40


def test_a_wrong_psf_scores_what_it_deserves(beads):
    mean = beads.mean_bead(slide(2.5), np.round(PLACES).astype(int))
    narrow = gaussian((20, 20), 2.0, (41, 41))
    # The energy of the difference of two Gaussians, at the best amplitude.
    overlap = 2 * 2.5 * 2.0 / (2.5**2 + 2.0**2)
    expected = -10 * np.log10(1 - overlap**2)
    assert beads.bead_snr(narrow, mean, 0.0) == pytest.approx(expected, abs=0.3)
    # The Gaussian that is missing makes it right.
    assert beads.bead_snr(narrow, mean, 0.0, blurred=True) > 35


def test_the_table_of_a_bead_slide_has_the_scores_of_its_psfs(beads):
    tables = importlib.import_module("evaluation.stack_tables")
    stack = importlib.import_module("evaluation.stacks").STACKS["beads"]
    keys = ("bead_snr", "bead_snr_blurred")
    keys += ("bead_snr_in_focus", "bead_snr_in_focus_blurred")
    row = dict(zip(keys, (12.04, 29.8, 8.6, 20.0), strict=True))
    row |= {"stage": 0.0, "found": 0.08, "wrong": False, "method": "bead size given"}
    rows = [
        row | {"z_um": z, "answered": answered}
        for z, answered in ((0.0, True), (0.6, False), (1.5, True))
    ]
    text = tables.stack_table(rows, stack)
    assert "| z, µm | perfect objective in focus | bead size given |" in text
    assert "| 0.00 | 8.6 / 20.0 | 12.0 / 29.8 |" in text
    assert "| 0.60 | 8.6 / 20.0 | (12.0 / 29.8) |" in text
    assert "| 1.50 | 8.6" not in text
