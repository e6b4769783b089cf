"""Beads in a live frame: counts with reasons, and advice."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from deepblur_live.calibration import CalibrationError
from deepblur_live.calibration.stack import crop_side
from deepblur_live.identification.beads.detect import Refusal
from deepblur_live.profile import Camera, Profile
from deepblur_live.session.bead_search import beads_in_view

GAIN, LIGHT = 0.5, 8000.0
PROFILE = Profile(camera=Camera(gain_e_per_adu=GAIN, offset_adu=100.0))
ALONE = [(40, 40), (40, 100), (100, 40), (150, 150)]
CROWD = [(100, 100), (106, 103), (100, 108), (94, 104)]
PAIR = CROWD[:2]
EDGE = [(3, 70)]


def frame(places, sigma=1.1, light=LIGHT, size=190):
    """Spots of the width of a bead in focus, with the grey values of `light`."""
    image = np.zeros((size, size))
    for row, column in places:
        image[row, column] = light
    noise = np.random.default_rng(0).normal(0, 2.0, image.shape)
    return np.round(gaussian_filter(image, sigma) + 100 + noise).astype(np.uint16)


def test_beads_are_counted_with_reasons():
    found = beads_in_view(frame(ALONE + CROWD + EDGE), PROFILE, 200.0)
    assert found.usable == 4
    assert found.refused(Refusal.CROWDED) == 4
    assert found.text == (
        "4 usable, 1 too near the edge of the frame, 4 too near another bead"
    )
    assert found.side == crop_side(PROFILE.optics)
    assert found.photons == pytest.approx(GAIN * LIGHT, rel=0.1)
    assert [item.split(":")[0] for item in found.advice] == [
        f"A bead has about {found.photons:.0f} photons",
        "Fewer than 10 beads can be used",
        "Many beads are too close together",
    ]


def test_neighbours_that_are_fitted_together_can_be_used():
    found = beads_in_view(frame(ALONE + PAIR), PROFILE, 200.0)
    assert found.text == "6 usable"


def test_nothing_is_to_be_done_where_all_is_well():
    places = [(r, c) for r in (30, 75, 120, 165) for c in (30, 75, 120, 165)]
    found = beads_in_view(frame(places, light=3 * LIGHT), PROFILE, 200.0)
    assert found.usable == 16
    assert found.advice == ()
    # Photons are not guessed.
    plain = beads_in_view(frame(places, light=300.0), Profile(), 200.0)
    assert np.isnan(plain.photons)
    assert plain.advice == ()


def test_saturated_beads_and_a_wrong_focus_are_named():
    clipped = np.minimum(frame(ALONE, light=40 * LIGHT), 4095)
    found = beads_in_view(clipped, PROFILE, 200.0)
    assert found.refused(Refusal.SATURATED) == len(ALONE)
    assert found.advice[0] == "Beads are saturated: reduce the exposure."
    wide = beads_in_view(frame(ALONE, sigma=3.5, light=5 * LIGHT), PROFILE, 200.0)
    assert "times as wide as in focus" in wide.advice[0]


def test_no_beads():
    found = beads_in_view(frame([]), PROFILE, 200.0)
    assert found.text == "no beads found"
    assert found.advice == ("Focus on the beads, and check exposure and diameter.",)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((190, 190)), np.zeros((190, 190, 3)), np.zeros((30, 190))],
    ids=["constant", "colour", "small"],
)
def test_frames_without_use_are_refused(pixels):
    with pytest.raises(CalibrationError):
        beads_in_view(pixels, PROFILE, 200.0)
