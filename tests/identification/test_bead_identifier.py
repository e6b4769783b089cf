"""A stream of frames of a bead slide: from its beads if it can, else its spectrum."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from bead_slides import FAMILY, slide
from specimens import ERRORS

from deepblur_live.identification import BeadIdentifier, Identifier, Solution
from deepblur_live.identification.beads import BeadModel
from deepblur_live.identification.verdict import no_signal

GAMMA = np.array([0.05, -0.03, 0.02, 0.04, -0.04, 0.02, -0.01, 0.03])


@pytest.fixture(scope="module")
def identifier():
    return BeadIdentifier(FAMILY, ERRORS, 1.0)


def scaled(frame):
    low, high = np.percentile(frame, (0.1, 99.9))
    return torch.from_numpy((frame - low) / (high - low)).float()


def test_a_bead_slide_is_identified_from_its_beads(identifier):
    identifier.reset()
    identifier.take_notes()
    prediction = None
    for number in range(2):
        frame, _ = slide(GAMMA, seed=number)
        image = scaled(frame)
        identifier.observe(image, float(number))
        found = identifier.estimate(image, prediction)
        assert found.trusted
        # Coma and trefoil with their sign: no 180° ambiguity. Defocus is positive.
        assert np.linalg.norm(found.coefficients - GAMMA) < 0.02
        prediction = found.coefficients
    (note,) = identifier.take_notes()
    assert note == "the blur is fitted to beads: 9 of 9 beads are used"
    assert identifier.take_notes() == []


def test_equal_spots_of_unknown_size_are_fitted_as_points():
    """The Gaussian of the fit takes up their size, and a note says what is done."""
    identifier = BeadIdentifier(FAMILY, ERRORS, None)
    prediction = None
    for number in range(2):
        frame, _ = slide(GAMMA, seed=number, rows=4, diameter=2.0)
        image = scaled(frame)
        identifier.observe(image, float(number))
        found = identifier.estimate(image, prediction)
        assert found.trusted
        assert np.linalg.norm(found.coefficients - GAMMA) < 0.02
        prediction = found.coefficients
    (note,) = identifier.take_notes()
    assert note.startswith("the frame shows isolated spots of one shape")
    assert note.endswith("If they are beads, set model.bead_diameter_nm")


@pytest.mark.parametrize("diameter", [1.0, None])
def test_processed_frames_are_refused_before_any_bead_is_fitted(diameter):
    identifier = BeadIdentifier(FAMILY, ERRORS, diameter)
    frame, _ = slide(GAMMA, rows=4)
    # Every other row is read two pixels later.
    frame[1::2] = np.roll(frame[1::2], 2, axis=1)
    image = scaled(frame)
    identifier.observe(image, 0.0)
    found = identifier.estimate(image)
    assert not found.trusted
    assert "interlaced" in found.reason
    # Neither beads nor spectrum were fitted, and the next frame is looked at again.
    assert identifier.take_notes() == []
    assert identifier.prepare(image, GAMMA).search is not None


def test_without_equal_spots_the_spectrum_is_fitted(monkeypatch):
    identifier = BeadIdentifier(FAMILY, ERRORS, None)
    image = scaled(np.random.default_rng(0).normal(size=(210, 210)).cumsum(0))
    identifier.observe(image, 0.0)
    of_spectrum = no_signal(FAMILY)
    monkeypatch.setattr(
        Identifier, "_identify", lambda _, problem: Solution(problem, of_spectrum, None)
    )
    assert identifier.estimate(image) is of_spectrum
    assert identifier.take_notes() == []


def test_too_few_beads_are_left_to_the_spectrum_and_the_user_is_informed(
    identifier, monkeypatch
):
    identifier.reset()
    frame, _ = slide(GAMMA, photons=1e5)
    frame[70:] = np.random.default_rng(0).poisson(20, (140, 210))
    frame[:, :70] = np.random.default_rng(1).poisson(20, (210, 70))
    image = scaled(frame)
    identifier.take_notes()
    identifier.observe(image, 0.0)
    # The fit of the spectrum itself is tested elsewhere, and slow.
    of_spectrum = no_signal(FAMILY)
    monkeypatch.setattr(
        Identifier, "_identify", lambda _, problem: Solution(problem, of_spectrum, None)
    )
    assert identifier.estimate(image) is of_spectrum
    (note,) = identifier.take_notes()
    assert note == (
        "the blur is fitted to the spectrum of the frames, not to beads: fewer than 3 "
        "beads are isolated: 2 of 2 beads are used"
    )


def test_beads_are_not_fitted_on_coarse_pixels():
    """A PSF that the pixels do not sample cannot be shifted by a part of a pixel."""
    coarse = replace(FAMILY, pixel_size_nm=140.0)
    assert "needs at least 3.5" in BeadModel.unsuitable(coarse, 1.0)
    assert "too large" in BeadModel.unsuitable(FAMILY, 30.0)
    assert BeadModel.unsuitable(FAMILY, 1.0) == ""
    assert BeadIdentifier(coarse, ERRORS, 1.0).beads is None


def test_the_noise_of_a_calibrated_camera_is_used(identifier):
    identifier.reset()
    frame, _ = slide(GAMMA)
    image = scaled(frame)
    identifier.observe(image, 0.0)
    problem = identifier.prepare(image, noise=lambda level: 0.01 + 0.02 * level)
    assert problem.noise.known
    assert problem.noise.gain == pytest.approx(0.02)
    assert problem.noise.floor == pytest.approx(0.01 + 0.02 * float(image.median()))
    assert identifier.prepare(image).noise is None
