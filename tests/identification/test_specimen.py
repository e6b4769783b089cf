"""The prior of specimens' own spectra: learned, smooth, of beads; what it gains."""

import math

import numpy as np
import pytest
import skimage.data
import torch
from specimens import ERRORS, FAMILY, blurred, other_sign, rotated

from deepblur_live.identification import Identifier, SpecimenSpectrum
from deepblur_live.identification.spectrum import frequencies, windowed
from deepblur_live.optics import psf_snr
from deepblur_live.runtime.pack import load_pack

RADIUS = frequencies(torch.device("cpu"))[0].flatten()


def coloured(count, seed=0):
    """Power spectra whose logarithm is known: |f|^-2 tilted by a random amount."""
    generator = torch.Generator().manual_seed(seed)
    tilt = torch.randn(count, 1, generator=generator)
    level = 5 * torch.randn(count, 1, generator=generator)
    logs = level + (tilt * 0.5 - 2) * torch.log(RADIUS)
    logs = logs + 0.1 * torch.randn(count, len(RADIUS), generator=generator)
    return torch.exp(logs).view(count, 64, 33)


def test_what_specimens_share_is_found_and_the_rest_is_left():
    prior = SpecimenSpectrum.learned(coloured(400), patterns=1)
    band = RADIUS > 0.05
    mean = prior.mean + 2 * torch.log(RADIUS)
    assert (mean[band] - mean[band].mean()).abs().max() < 0.1
    # One pattern of size 0.5 log|f|, whatever its sign.
    pattern = prior.basis[:, 1] * torch.sign(prior.basis[-1, 1])
    expected = 0.5 * torch.log(RADIUS)
    expected = expected - expected[(RADIUS > 0.05) & (RADIUS < 0.4)].mean()
    assert (pattern - expected)[band].abs().max() < 0.1
    assert prior.deviation[band].median() == pytest.approx(0.1, rel=0.1)


def test_mirrored_and_transposed_specimens_are_equally_likely():
    spectra = coloured(50)
    spectra[:, :3] *= 50  # a grating along one axis
    prior = SpecimenSpectrum.learned(spectra, patterns=2)
    image = prior.mean.view(64, 33)
    assert torch.allclose(image[1:32], image[33:].flip(0), atol=1e-4)
    assert torch.allclose(image[1:32, 1:32], image[1:32, 1:32].T, atol=1e-4)


def test_a_ball_has_the_spectrum_of_its_picture():
    diameter, side = 9.0, 64
    # Summed over fine cells: a camera pixel's share of the ball.
    fine = (torch.arange(side * 8) + 0.5) / 8 - side / 2
    rho2 = fine[:, None] ** 2 + fine[None] ** 2
    ball = (diameter**2 / 4 - rho2).clamp(min=0).sqrt()
    spectrum = torch.fft.rfft2(ball.double())[:, :33]
    rows = torch.cat([spectrum[:32], spectrum[-32:]])
    measured = windowed(rows.abs().square() / rows[0, 0].abs() ** 2)
    expected = torch.exp(SpecimenSpectrum.beads(diameter).mean.view(64, 33))
    weak = (RADIUS > 1 / 64).view(64, 33)
    assert (measured - expected)[weak].abs().max() < 3e-4


def beads(diameter, seed):
    """Equal balls at random places, as bright as each other."""
    generator = torch.Generator().manual_seed(seed)
    side = 256 + FAMILY.window - 1
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    image = torch.zeros(side, side)
    for _ in range(60):
        cy, cx = torch.rand(2, generator=generator) * side
        image += (diameter**2 / 4 - (y - cy) ** 2 - (x - cx) ** 2).clamp(min=0).sqrt()
    return image / image.max()


def test_a_slide_of_equal_beads_calibrates_when_their_size_is_known():
    scores = {"known": [], "unknown": []}
    for seed in range(2):
        truth = FAMILY.sample(1, torch.Generator().manual_seed(40 + seed))[0]
        frame = blurred(beads(7.0, seed), truth, 0.002, seed)
        for name, prior in (("known", SpecimenSpectrum.beads(7.0)), ("unknown", None)):
            identifier = Identifier(FAMILY, ERRORS, specimen=prior)
            identifier.observe(frame, 0.0)
            found = identifier.estimate(frame)
            gamma = torch.tensor(np.stack([found.coefficients, truth.numpy()])).float()
            h, reference = FAMILY.psf(gamma)
            scores[name].append(float(psf_snr(h, reference)))
    assert np.mean(scores["known"]) > 15
    assert np.mean(scores["known"]) > np.mean(scores["unknown"]) + 5


def test_it_survives_its_file_and_refuses_another():
    prior = SpecimenSpectrum.smooth()
    again = SpecimenSpectrum.from_tensors(prior.tensors())
    assert torch.equal(again.basis, prior.basis)
    with pytest.raises(ValueError, match="no basis and no deviation"):
        SpecimenSpectrum.from_tensors({"mean": prior.mean})
    with pytest.raises(ValueError, match="2112 bins: got a mean of 7"):
        SpecimenSpectrum(torch.zeros(7), torch.zeros(7, 2), torch.zeros(7))
    with pytest.raises(ValueError, match="bead diameter 0"):
        SpecimenSpectrum.beads(0)


@pytest.mark.slow
def test_a_model_knows_specimens_better_than_a_smooth_surface():
    """Of a held-out picture: coefficient errors, whatever the verdict."""
    picture = torch.from_numpy(skimage.data.camera()).float() / 255
    errors = {"model": [], "smooth": []}
    for seed in range(3):
        truth = FAMILY.sample(1, torch.Generator().manual_seed(seed))[0]
        frame = blurred(picture, truth, 0.005, seed)
        same = [truth.double().numpy(), other_sign(truth.double().numpy())]
        same = np.concatenate([same, rotated(same)])
        for name, prior in (
            ("model", load_pack("zernike7").specimen),
            ("smooth", None),
        ):
            identifier = Identifier(FAMILY, ERRORS, specimen=prior)
            identifier.observe(frame, 0.0)
            found = identifier.estimate(frame).coefficients
            errors[name].append(min(math.dist(found, each) for each in same))
    assert np.mean(errors["model"]) < 0.07
    assert np.mean(errors["model"]) < 0.8 * np.mean(errors["smooth"])
