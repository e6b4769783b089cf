"""Isolated spots of one shape are distinguished from other specimens."""

import numpy as np
import pytest
from bead_slides import FAMILY, slide

from deepblur_live.identification.beads import BeadModel, equal_spots

FWHM = BeadModel(FAMILY, 0.4).fwhm
SHARP = np.array([0.05, -0.03, 0.02, 0.04, -0.04, 0.02, -0.01, 0.03])
DEFOCUSED = np.array([0.3, 0, 0, 0, 0, 0, 0, 0.03])


@pytest.mark.parametrize("gamma", [SHARP, DEFOCUSED])
def test_beads_are_equal_spots(gamma):
    frame, _ = slide(gamma, rows=4)
    assert equal_spots(frame, FWHM) == 16


def test_spots_of_several_sizes_are_not():
    frame, _ = slide(SHARP, rows=4)
    large, _ = slide(SHARP, rows=4, diameter=12.0)
    larger, _ = slide(SHARP, rows=4, diameter=20.0)
    half = frame.shape[0] // 2
    frame[:, half:] = large[:, half:]
    frame[half:] = larger[half:]
    assert equal_spots(frame, FWHM) == 0


def test_spots_in_a_structured_specimen_are_not():
    frame, _ = slide(SHARP, rows=4)
    rows, columns = np.indices(frame.shape)
    bands = 0.5 * frame.max() * (1 + np.sin(rows / 9) * np.sin(columns / 13))
    assert equal_spots(frame + bands, FWHM) == 0


def test_few_spots_and_small_frames_are_not():
    frame, _ = slide(SHARP)
    assert equal_spots(frame, FWHM) == 0
    assert equal_spots(frame[:20, :20], FWHM) == 0
    assert equal_spots(np.zeros((100, 100)), FWHM) == 0
