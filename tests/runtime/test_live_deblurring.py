"""What the pipeline gives the network: noise, uncertain blur, centred frames."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.blur import Convolution, family_from_profile, marginal_kernels
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.deblurring import UnrolledFista
from deepblur_live.drift import TrackState
from deepblur_live.optics import NoiseModel, extend, frame_part, margin
from deepblur_live.profile import Camera, Profile
from deepblur_live.runtime.best import BestExecutor
from deepblur_live.runtime.calibration import scale
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.frame import Frame, FrameState
from deepblur_live.runtime.guard import Verdict
from deepblur_live.runtime.pack import load_pack
from deepblur_live.runtime.pipeline import DeblurPipeline

SHAPE = (128, 141)
CAMERA = {"offset_adu": 100.0, "gain_e_per_adu": 0.5, "read_noise_e": 1.5}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pixels():
    return SimulatedSample(shape=SHAPE).frame(0.0).pixels


@pytest.fixture(scope="module")
def network():
    """A small network, random but for its scale, that takes every input."""
    torch.manual_seed(0)
    network = UnrolledFista(4, 8, exact=1, noise_map=True).eval()
    torch.nn.init.normal_(network.proximal.layers[-1].weight, std=0.05)
    return network


@pytest.fixture(scope="module")
def pack(network):
    return dataclasses.replace(load_pack("zernike7"), deblurring=network)


@pytest.fixture
def pipeline(pack):
    """A pipeline that knows the blur and does not identify it."""
    family = family_from_profile(Profile())
    identifier = SimpleNamespace(
        spectrum=SimpleNamespace(average_s=5.0, frames=1),
        take_notes=list,
        noise_sigma=0.01,
        solve=None,
    )
    executor = BestExecutor(TorchExecutor(pack, family, CPU, half=False))
    made = DeblurPipeline(family, identifier, None, executor, Camera(**CAMERA))
    made._reset_if_geometry_changed = made._identify = lambda *_: None
    count = family.n_coefficients
    covariance = 0.02**2 * (np.eye(count) + 0.5)
    made._identification.track = TrackState(
        0.0, np.full(count, 0.02), covariance, np.nan, True
    )
    yield made
    made.close()


def judge(pipeline, strength, reason=""):
    """Make the guard show so much of each frame."""
    pipeline._blur = None
    pipeline._guard.strength = lambda _: strength
    pipeline._guard.judge = lambda *_: Verdict(strength, reason)


def test_the_result_is_that_of_the_network_with_all_its_inputs(
    pipeline, network, pixels
):
    judge(pipeline, 1.0)
    result = pipeline.submit(Frame(pixels, 0, 0.0)).result()
    assert result.state is FrameState.DEBLURRED, result.reason
    family, track = pipeline.family, result.track
    # By hand, from the camera's numbers and the track.
    scaled = scale(pixels, cutoff=family.cutoff)
    variance = (CAMERA["read_noise_e"] / CAMERA["gain_e_per_adu"]) ** 2
    grey = NoiseModel(
        torch.tensor([1 / CAMERA["gain_e_per_adu"]]),
        torch.tensor([variance - CAMERA["offset_adu"] / CAMERA["gain_e_per_adu"]]),
        torch.tensor([variance]),
    )
    noise = grey.scaled(torch.tensor([scaled.low]), torch.tensor([scaled.span]))
    border, image = margin(family.window), scaled.image[None]
    y, sigma = extend(image, border), extend(noise.map(image), border)
    gamma, covariance = (
        torch.tensor(part).float() for part in (track.coefficients, track.covariance)
    )
    shape = (y.shape[-2], y.shape[-1])
    with torch.no_grad():
        psf, spread = marginal_kernels(family.psf, gamma, covariance)
        sharp = network(y, Convolution(psf, shape, SHAPE, spread), sigma)
        known = network(y, Convolution(psf, shape, SHAPE), sigma)
    expected = scaled.restore(sharp[0][frame_part(shape, SHAPE)]).numpy()
    off = np.abs(result.deblurred - expected).max() / scaled.span
    assert off < 1e-4
    # The uncertainty of this estimate matters, or the test shows nothing.
    assert float((sharp - known).abs().max()) > 1e-3


def test_kernels_are_computed_once_for_each_state_of_the_track(pack, monkeypatch):
    calls = []
    kernels = ZernikeFamily.expected_kernels

    def counted(*arguments):
        calls.append(arguments)
        return kernels(*arguments)

    monkeypatch.setattr(ZernikeFamily, "expected_kernels", counted)
    family = ZernikeFamily()
    executor = TorchExecutor(pack, family, CPU, half=False)
    gamma, one = torch.full((7,), 0.02), torch.eye(7)
    image, noise = torch.rand(64, 70), NoiseModel.white(0.01)
    for scale_of in (1e-4, 1e-4, 4e-4, 4e-4):
        executor.deblur(image, gamma.clone(), scale_of * one, noise)
    assert len(calls) == 2


@pytest.mark.parametrize("uncertain", [1e-4, 1e6, float("inf"), float("nan")])
def test_no_covariance_spoils_a_frame(pack, uncertain):
    executor = TorchExecutor(pack, ZernikeFamily(), CPU, half=False)
    image = torch.rand(64, 70, generator=torch.Generator().manual_seed(0))
    covariance = torch.eye(7) * uncertain
    sharp = executor.deblur(image, torch.zeros(7), covariance, NoiseModel.white(0.01))
    assert sharp.isfinite().all()
    assert float(sharp.mean()) == pytest.approx(float(image.mean()), rel=0.05)


def test_small_frames_take_the_largest_window(pack):
    """Where the uncertainty's kernel is larger than the extended frame."""
    family = ZernikeFamily(numerical_aperture=0.8)
    assert 2 * family.window - 1 > 64 + margin(family.window)
    executor = TorchExecutor(pack, family, CPU, half=False)
    count = family.n_coefficients
    image = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
    sharp = executor.deblur(
        image, torch.zeros(count), 4e-4 * torch.eye(count), NoiseModel.white(0.01)
    )
    assert sharp.shape == image.shape
    assert sharp.isfinite().all()


def test_a_verdict_of_half_strength_shows_half_of_it(pipeline, pixels):
    frame = Frame(pixels, 0, 0.0)
    judge(pipeline, 1.0)
    whole = pipeline.submit(frame).result()
    assert (whole.strength, whole.reason) == (1.0, "")
    judge(pipeline, 0.5, "the blur is uncertain")
    half = pipeline.submit(frame).result()
    assert half.state is FrameState.DEBLURRED
    assert (half.strength, half.reason) == (0.5, "the blur is uncertain")
    assert half.outcome.strength == 0.5
    off = np.abs(half.deblurred - (pixels + whole.deblurred) / 2)
    # But for hot and dead pixels, which are repaired in both.
    assert np.mean(off > 0.05) < 1e-3
    assert half.notes == ()
