"""The simulated bead slide: balls of the right size, brightness and place."""

import numpy as np
import pytest

from deepblur_live.acquisition.bead_slide import bead_picture, bead_slide
from deepblur_live.blur import family_from_profile
from deepblur_live.profile import Profile


def test_a_ball_has_its_light_place_and_width():
    place, diameter = np.array([[20.3, 17.8]]), 6.0
    picture = bead_picture((40, 36), place, np.array([2.0]), diameter).astype(float)
    # Longest way 2, volume of a ball over its diameter: π d² / 6.
    assert picture.sum() == pytest.approx(2 * np.pi * diameter**2 / 6, rel=0.01)
    rows, columns = np.indices(picture.shape)
    middle = [(picture * axis).sum() / picture.sum() for axis in (rows, columns)]
    np.testing.assert_allclose(middle, place[0], atol=0.01)
    # Variance d²/20 of the ball along an axis, 1/12 of a pixel.
    width = (picture * (rows - middle[0]) ** 2).sum() / picture.sum()
    assert width == pytest.approx(diameter**2 / 20 + 1 / 12, rel=0.02)


def test_a_ball_at_the_edge_is_cut_off():
    whole = bead_picture((9, 9), np.array([[0.0, 4.0]]), np.ones(1), 4.0)
    assert whole[0, 4] > 0.9
    assert whole[5:].max() == 0


def test_the_slide_is_at_rest_and_in_focus():
    family = family_from_profile(Profile())
    slide = bead_slide(family, beads=4, shape=(48, 48))
    still = slide.coefficients(0.0)
    assert still[family.names.index("defocus")] == 0
    assert np.abs(still).max() > 0.02
    np.testing.assert_array_equal(slide.coefficients(1000.0), still)
    np.testing.assert_array_equal(
        slide.expected_image(1000.0), slide.expected_image(0.0)
    )
