"""The noise of a frame as given to the network: calibrated, measured, or white."""

import numpy as np
import pytest
import torch

from deepblur_live.optics import CameraNoise
from deepblur_live.profile import Camera
from deepblur_live.runtime.calibration import Scaled, scale
from deepblur_live.runtime.frame_noise import FrameNoise

UNKNOWN = Camera()
EMPTY = torch.zeros(64, 64)


def stated(image, low, span, camera=UNKNOWN, sigma=0.0, *, whole=True):
    """Return the standard deviation (H, W) in grey values, before any measurement."""
    scaled = Scaled((image - low) / span, low, span)
    noise = FrameNoise(camera, 0.26).of(scaled, sigma, whole=whole).used
    return noise.map(scaled.image[None])[0] * span


def test_a_calibrated_camera_states_the_noise_of_its_frames():
    camera = CameraNoise(offset_adu=100.0, gain_e_per_adu=0.5, read_noise_e=1.5)
    generator = torch.Generator().manual_seed(0)
    electrons = torch.cat([torch.full((200, 200), e) for e in (5.0, 400.0)], 1)
    grey = camera.sample(electrons, generator)
    profile = Camera(offset_adu=100.0, gain_e_per_adu=0.5, read_noise_e=1.5)
    sigma = stated(grey, 90.0, 1100.0, profile)
    for part in (slice(0, 190), slice(210, 400)):
        found = float(sigma[:, part].square().mean().sqrt())
        assert found == pytest.approx(float(grey[:, part].std()), rel=0.03)


def test_below_the_offset_the_read_noise_is_left():
    profile = Camera(offset_adu=100.0, gain_e_per_adu=0.5, read_noise_e=1.5)
    sigma = stated(torch.full((64, 64), 60.0), 50.0, 500.0, profile)
    torch.testing.assert_close(sigma, torch.full_like(sigma, 1.5 / 0.5))


def test_without_a_calibration_it_is_white_and_no_less_than_rounding():
    values = 5.0 + EMPTY
    assert stated(values, 0.0, 200.0, sigma=0.02) == pytest.approx(4.0)
    for sigma, whole, expected in ((0.0, True, 12**-0.5), (0.0, False, 2e-4)):
        found = stated(values, 0.0, 200.0, sigma=sigma, whole=whole)
        assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("size", [1e-300, 1e-20, 1e20, 1e300])
def test_frames_of_any_size_have_a_finite_noise(size):
    pixels = size * np.random.default_rng(0).random((64, 64))
    scaled = scale(pixels)
    for camera in (UNKNOWN, Camera(gain_e_per_adu=0.5, read_noise_e=1.0)):
        noise = FrameNoise(camera, 0.26)
        noise.measure(scaled, 0.0, whole=False)
        sigma = noise.of(scaled, 0.01, whole=False).used.map(scaled.image[None])
        assert sigma.isfinite().all()
        assert sigma.min() > 0


def lit(seed, exposure=1.0):
    """Return grey values (256, 256) of a scene with dark and bright parts."""
    generator = torch.Generator().manual_seed(seed)
    camera = CameraNoise(offset_adu=100.0, gain_e_per_adu=0.5, read_noise_e=1.5)
    row = torch.linspace(0, 6.28, 256)
    electrons = exposure * (10 + 300 * (1 + torch.sin(row)[:, None] * torch.sin(row)))
    return camera.sample(electrons, generator).round(), camera, electrons


def test_without_a_calibration_it_is_measured_and_follows_the_light():
    noise = FrameNoise(UNKNOWN, 0.26, every_s=1.0)
    scaled = scale(lit(1)[0].numpy().astype(np.uint16))
    noise.measure(scaled, 0.0, whole=True)
    # The line is kept for a frame of another brightness, just after.
    pixels, camera, electrons = lit(2, exposure=0.5)
    scaled = scale(pixels.numpy().astype(np.uint16))
    noise.measure(scaled, 0.1, whole=True)
    found, none = noise.of(scaled, 0.5, whole=True)
    assert none is None
    sigma = found.map(scaled.image[None])[0] * scaled.span
    ratio = sigma / camera.variance(electrons).sqrt()
    # The light of single pixels is known to chance only.
    low, high = ratio.flatten().quantile(torch.tensor([0.05, 0.95]))
    assert 0.85 < float(low) < 1 < float(high) < 1.15
    noise.reset()
    white = noise.of(scaled, 0.5, whole=True).used
    assert float(white.map(scaled.image[None]).max()) == pytest.approx(0.5)


def test_a_line_that_a_dark_frame_does_not_show_is_not_kept_for_a_bright_one():
    noise = FrameNoise(UNKNOWN, 0.26, every_s=1.0)
    dark = CameraNoise(offset_adu=100.0, gain_e_per_adu=0.5, read_noise_e=1.5)
    flat = dark.sample(torch.full((256, 256), 0.1), torch.Generator().manual_seed(0))
    scaled = scale(flat.round().clamp(min=0).numpy().astype(np.uint16))
    noise.measure(scaled, 0.0, whole=True)
    pixels, camera, electrons = lit(2)
    scaled = scale(pixels.numpy().astype(np.uint16))
    noise.measure(scaled, 0.1, whole=True)
    used = noise.of(scaled, 0.5, whole=True).used
    ratio = used.map(scaled.image[None])[0] * scaled.span
    ratio = ratio / camera.variance(electrons).sqrt()
    assert float(ratio.median()) == pytest.approx(1, abs=0.1)


def test_a_calibration_is_used_and_the_measurement_is_kept_too():
    profile = Camera(offset_adu=100.0, gain_e_per_adu=0.5, read_noise_e=1.5)
    noise = FrameNoise(profile, 0.26)
    scaled = scale(lit(1)[0].numpy().astype(np.uint16))
    noise.measure(scaled, 0.0, whole=True)
    used, measured = noise.of(scaled, 0.5, whole=True)
    assert float(used.slope) == pytest.approx(2 / scaled.span)
    assert float(measured.slope) == pytest.approx(float(used.slope), rel=0.1)


def test_optics_that_leave_no_frequencies_have_white_noise():
    noise = FrameNoise(UNKNOWN, 0.45)
    scaled = scale(lit(1)[0].numpy().astype(np.uint16))
    noise.measure(scaled, 0.0, whole=True)
    assert float(noise.of(scaled, 0.1, whole=True).used.slope) == 0
