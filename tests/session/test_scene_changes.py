"""Another place is seen in the frames; blur, noise, light and moving cells are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deepblur_live.acquisition.specimen import load_specimen
from deepblur_live.blur import Convolution
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.session.comparability import SceneChanges

pytestmark = pytest.mark.usefixtures("no_pictures")

ANOTHER = "the frames show another place"
SPECIMEN = load_specimen()


@pytest.fixture
def camera():
    """Takes a frame of the specimen at (y, x), with photons' noise, 16 bits."""
    rng = np.random.default_rng(0)

    def take(y=100, x=100, *, electrons=300.0, picture=SPECIMEN, side=256):
        place = picture[y : y + side, x : x + side]
        return (rng.poisson(electrons * place) + 100).astype(np.uint16)

    return take


def changes(frames):
    """Return the numbers of the frames that show another place."""
    scene = SceneChanges()
    return [k for k, frame in enumerate(frames) if scene.check(frame)]


@pytest.mark.parametrize("electrons", [300.0, 20.0])
def test_a_stage_that_does_not_report_its_moves(camera, electrons):
    there = [camera(electrons=electrons) for _ in range(12)]
    elsewhere = [camera(230, 210, electrons=electrons) for _ in range(12)]
    scene = SceneChanges()
    reasons = [scene.check(frame) for frame in there + elsewhere]
    assert [k for k, reason in enumerate(reasons) if reason] == [12]
    assert reasons[12] == ANOTHER


def test_a_move_at_the_very_beginning_is_not_reported(camera):
    assert changes([camera(), camera(), camera(230, 210), camera(230, 210)]) == []


def test_blur_light_and_a_slow_stage_are_not_another_place(camera):
    family = ZernikeFamily()
    sharp = torch.from_numpy(SPECIMEN.copy())
    strong = torch.tensor([0.25, 0.0, 0.0, 0.2, 0.0, 0.0, 0.2])
    blurred = Convolution(family.psf(strong), sharp.shape).forward(sharp)
    still = [camera() for _ in range(10)]
    stepped = [camera(picture=blurred.clamp(min=0).numpy()) for _ in range(10)]
    dimmed = [camera(electrons=30.0) for _ in range(10)]
    crept = [camera(100 + k, 100 + k) for k in range(60)]
    assert changes(still + stepped + still + dimmed + still + crept) == []


def test_frames_that_never_correlate_report_no_change():
    rng = np.random.default_rng(1)
    assert changes(rng.integers(0, 200, (200, 128, 128), dtype=np.uint8)) == []


@pytest.mark.parametrize("shape", [(1, 1), (64, 64), (70, 300)])
def test_any_shape_and_a_flat_frame(shape):
    flat = np.full(shape, 7, np.uint16)
    assert changes([flat] * 20) == []
