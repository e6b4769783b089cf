"""A fixed Gaussian blur: measured on beads, then part of every identification."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from bead_slides import FAMILY as BEADS
from bead_slides import slide
from specimens import ERRORS, FAMILY, cells

from deepblur_live.identification import (
    BeadIdentifier,
    Identifier,
    SpectralRefiner,
    welch,
)
from deepblur_live.identification.signal_bins import SignalBins
from deepblur_live.identification.spectrum import frequencies
from deepblur_live.optics import psf_snr

GAMMA = np.array([0.03, -0.03, 0.02, 0.04, -0.04, 0.02, -0.01, 0.03])


def notes_of_a_slide(family):
    """The notes of two frames of beads with a Gaussian of 90 nm."""
    identifier = BeadIdentifier(family, ERRORS, 1.0, pixel_size_nm=100.0)
    for number in range(2):
        frame, _ = slide(GAMMA, photons=3e4, seed=number, sigma=0.9)
        low, high = np.percentile(frame, (0.1, 99.9))
        image = torch.from_numpy((frame - low) / (high - low)).float()
        identifier.observe(image, float(number))
        found = identifier.estimate(image, GAMMA)
        assert found.trusted
        assert np.linalg.norm(found.coefficients - GAMMA) < 0.02
    return [note for note in identifier.take_notes() if "extra_blur_nm" in note]


def test_the_blur_of_a_bead_slide_is_reported_once():
    (note,) = notes_of_a_slide(BEADS)
    assert "set optics.extra_blur_nm = 90 in the profile" in note
    assert "the profile states 0 nm" in note


@pytest.mark.parametrize(("stated", "notes"), [(90.0, 0), (130.0, 1)])
def test_a_stated_blur_is_confirmed_or_corrected(stated, notes):
    found = notes_of_a_slide(replace(BEADS, extra_blur_nm=stated))
    assert len(found) == notes
    assert all(f"the profile states {stated:.0f} nm" in note for note in found)
    assert all("extra_blur_nm = 90 " in note for note in found)


def frame_of(family, truth, seed=0):
    specimen = cells(seed=seed)
    shape = (specimen.shape[0], specimen.shape[1])
    frame = family.operator(truth.float(), shape).forward(specimen)
    cut = FAMILY.window // 2
    frame = frame[cut:-cut, cut:-cut]
    generator = torch.Generator().manual_seed(seed)
    return frame + 0.003 * torch.randn(frame.shape, generator=generator)


def test_a_known_blur_is_not_taken_for_aberrations():
    family = replace(FAMILY, extra_blur_nm=90.0)
    scores = {family: [], FAMILY: []}
    for seed, truth in enumerate(
        FAMILY.sample(4, torch.Generator().manual_seed(3)).double()
    ):
        spectrum, averages = welch(frame_of(family, truth, seed))
        for told, score in scores.items():
            refiner = SpectralRefiner(told, ERRORS)
            data = refiner.prepare(spectrum, averages, 1)
            found = refiner.fit(data, truth.float()[None]).coefficients[0]
            psfs = told.psf(torch.tensor(found)), family.psf(truth)
            score.append(float(psf_snr(*psfs)))
    assert np.median(scores[family]) > np.median(scores[FAMILY]) + 4


def test_the_network_reads_a_spectrum_without_the_fixed_blur():
    """It was trained without one: the spectrum of a sharp and a blurred scene."""
    family = replace(FAMILY, extra_blur_nm=60.0)
    radius, _ = frequencies(torch.device("cpu"))
    sharp = torch.randn(radius.shape, generator=torch.Generator().manual_seed(0))
    inputs = []

    def network(spectrum):
        inputs.append(spectrum)
        return torch.zeros(7), torch.ones(7)

    for told, loss in ((FAMILY, 0.0), (family, (2 * np.pi * 0.6 * radius) ** 2)):
        signal = SignalBins(sharp - loss, torch.ones_like(sharp), torch.tensor(1e-4))
        Identifier(told, ERRORS, network).network_estimate(signal)
    torch.testing.assert_close(inputs[0], inputs[1], rtol=0, atol=1e-4)
