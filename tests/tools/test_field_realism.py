"""Frames of fields as real microscopes make them."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

TOOLS = Path(__file__).parents[2] / "tools"
SIDE, MARGIN, HALF = 128, 96, 31


@pytest.fixture
def realism(monkeypatch):
    """The module."""
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("evaluation.field_realism")


def gaussian(sigma):
    point = np.zeros((2 * HALF + 1, 2 * HALF + 1))
    point[HALF, HALF] = 1
    return ndimage.gaussian_filter(point, sigma)


def picture():
    return np.random.default_rng(0).random((SIDE + 2 * MARGIN,) * 2)


def test_one_psf_everywhere_is_a_convolution(realism):
    effects = importlib.import_module("evaluation.effects")
    sharp, psf = picture(), gaussian(1.5)
    found = realism.varying(sharp, lambda row, column: psf)
    np.testing.assert_allclose(found, effects.convolved(sharp, psf), atol=1e-12)


def test_a_point_shows_the_psf_of_its_place(realism):
    sharp = np.zeros((SIDE + 2 * MARGIN,) * 2)
    # At places where PSFs are computed: a quarter down; left, and right.
    row, columns = MARGIN + 32, (MARGIN, MARGIN + SIDE - 1)
    sharp[row, list(columns)] = 1
    # Blurred more to the right; rows differ too, or they might be exchanged.
    blurred = realism.varying(sharp, lambda y, x: gaussian(1 + 2 * x + 0.4 * y))
    for column, x in zip(columns, (0, 1), strict=True):
        peak = blurred[row, column]
        expected = gaussian(1 + 2 * x + 0.4 * 32 / (SIDE - 1))[HALF, HALF]
        assert peak == pytest.approx(expected, rel=0.03)


def test_only_a_clear_field_where_there_is_none_is_an_imitation(realism):
    uniform = realism.CONDITIONS["one PSF: two pictures, half each"]
    varying = realism.CONDITIONS["field: baseline"]
    tilted = realism.CONDITIONS["field: tilted thick specimen"]
    assert realism.imitated(uniform, True, 3.0)
    assert not realism.imitated(uniform, True, 1.0)
    assert not realism.imitated(uniform, False, 3.0)
    assert not realism.imitated(varying, True, 3.0)
    assert not realism.imitated(tilted, True, 3.0)


def test_a_specimen_gets_smoother_to_the_right(realism, monkeypatch):
    monkeypatch.setattr(realism, "_alike", lambda *args: picture())
    side = SIDE + 2 * MARGIN
    found = realism._smoother(None, None, side)
    rough = np.abs(np.diff(found, axis=0)).mean(0)
    assert rough[:40].mean() > 2 * rough[-40:].mean()
    np.testing.assert_allclose(found[:, 0], picture()[:, 0])
