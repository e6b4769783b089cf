"""The relatives of Richardson–Lucy: what each must keep, and where it must end."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

from deepblur_live.acquisition.specimen import load_specimen
from deepblur_live.blur import Convolution
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.optics import psnr

TOOLS = Path(__file__).parents[2] / "tools"
FAMILY = ZernikeFamily()
POINT = torch.zeros(3, 3)
POINT[1, 1] = 1


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("evaluation.richardson_lucy")


@pytest.fixture
def plain(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("evaluation.classical").richardson_lucy


@pytest.fixture(scope="module")
def scene():
    """A sharp specimen, a PSF, and the specimen blurred periodically."""
    sharp = torch.as_tensor(np.array(load_specimen())).float()[100:196, 100:196]
    sharp = sharp / sharp.max()
    psf = FAMILY.psf(FAMILY.sample(1, torch.Generator().manual_seed(5))[0])
    blurred = Convolution(psf, (96, 96)).forward(sharp).clamp(min=0)
    return sharp, psf, blurred


def shot(clean, electrons, seed=0):
    chance = torch.Generator().manual_seed(seed)
    return torch.poisson(clean * electrons, generator=chance) / electrons


def test_without_a_blur_the_frame_itself_is_the_estimate(peers, scene):
    frame = shot(scene[2], 100) + 0.01
    for found in (
        peers.tv_richardson_lucy(frame, POINT, 3, weight=0),
        peers.accelerated_richardson_lucy(frame, POINT, 3),
    ):
        assert torch.allclose(found, frame, atol=1e-4)


def test_estimates_are_positive_and_have_the_light_of_the_frame(peers, scene):
    _, psf, blurred = scene
    frame = shot(blurred, 200)
    found = {
        "accelerated": peers.accelerated_richardson_lucy(frame, psf),
        "consensus": peers.consensus_richardson_lucy(frame, psf, 200),
        "tv": peers.tv_richardson_lucy(frame, psf),
    }
    allowed = {"accelerated": 1e-4, "consensus": 0.01, "tv": 0.02}
    for name, image in found.items():
        assert float(image.min()) >= 0, name
        light = float(image.mean() / frame.mean())
        assert light == pytest.approx(1, abs=allowed[name]), name


def test_each_iteration_explains_the_frame_better(peers, plain, scene):
    _, psf, blurred = scene
    frame = shot(blurred, 200)
    found = [peers.log_likelihood(plain(frame, psf, n), frame, psf) for n in range(8)]
    assert found == sorted(found)


def test_acceleration_saves_half_of_the_iterations(peers, plain, scene):
    _, psf, blurred = scene
    frame = shot(blurred, 2000)
    goal = peers.log_likelihood(plain(frame, psf, 50), frame, psf)
    quick = peers.accelerated_richardson_lucy(frame, psf, 25)
    assert peers.log_likelihood(quick, frame, psf) >= goal


def test_level_lines_of_a_cone_are_curved_by_one_over_their_radius(peers):
    # div(∇x/|∇x|) of a cone is -1/r.
    place = torch.arange(-40.0, 41.0)
    radius = torch.hypot(place[:, None], place)
    found = peers._curvature(60 - radius)
    ring = (radius > 15) & (radius < 30)
    assert torch.allclose(found[ring] * radius[ring], torch.tensor(-1.0), atol=0.1)


def test_total_variation_is_reduced(peers, plain, scene):
    _, psf, blurred = scene
    frame = shot(blurred, 100)

    def variation(x):
        return float(sum((x.roll(-1, axis) - x).abs().sum() for axis in (0, 1)))

    smooth = variation(peers.tv_richardson_lucy(frame, psf))
    assert smooth < 0.7 * variation(plain(frame, psf, 20))


def test_with_countless_photons_all_halves_agree(peers, plain, scene):
    _, psf, blurred = scene
    found = peers.consensus_richardson_lucy(blurred, psf, 1e9, 20)
    assert psnr(found.numpy(), plain(blurred, psf, 20).numpy()) > 50


def test_consensus_stops_where_noise_would_be_amplified(peers, plain, scene):
    sharp, psf, blurred = scene
    frame = shot(blurred, 100)
    scores = [
        psnr(peers.consensus_richardson_lucy(frame, psf, 100, n).numpy(), sharp.numpy())
        for n in (30, 100)
    ]
    assert scores[1] > scores[0] - 0.5
    assert scores[1] > psnr(plain(frame, psf, 100).numpy(), sharp.numpy()) + 3
