"""The noise measured from one frame against cameras of known gain, offset and noise."""

from dataclasses import replace

import pytest
import torch

from deepblur_live.optics import CameraNoise, NoiseModel
from deepblur_live.optics.noise_fit import contradiction, measure_noise

CUTOFF = 0.26
SIDE = 320


def specimen(dark: bool, side: int = SIDE) -> torch.Tensor:
    """Return light (H, W) in [0, 1] that a lens with this cut-off can pass."""
    chance = torch.Generator().manual_seed(5)
    rows, columns = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)
    radius = torch.hypot(rows, columns)
    passed = (1 - radius / (2 * CUTOFF)).clamp(min=0)

    def image(pattern: torch.Tensor, transfer: torch.Tensor) -> torch.Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(pattern) * transfer, s=(side, side))

    coarse = torch.randn(side, side, generator=chance)
    coarse = image(coarse, torch.exp(-((radius / 0.02) ** 2)))
    light = torch.rand(side, side, generator=chance) * coarse.sub(coarse.min())
    if dark:
        light = light * (coarse > torch.quantile(coarse.flatten()[::7], 0.85))
    light = image(light, passed).clamp(min=0)
    return light / torch.quantile(light.flatten()[::7], 0.999)


def stated(camera: CameraNoise) -> NoiseModel:
    """Return the noise of a camera's grey values, whose rounding has 1/12."""
    gain, offset, read = camera.gain_e_per_adu, camera.offset_adu, camera.read_noise_e
    dark = (read / gain) ** 2 + 1 / 12
    values = (1 / gain, dark - offset / gain, dark)
    return NoiseModel(*(torch.tensor([value]) for value in values))


CAMERA = CameraNoise(offset_adu=100, gain_e_per_adu=0.46, read_noise_e=1.6)


@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize("peak", [50, 500, 20_000])
def test_shot_noise_is_measured_at_every_brightness(dark, peak):
    chance = torch.Generator().manual_seed(peak)
    frame = CAMERA.sample(peak * specimen(dark), chance).round()
    model = measure_noise(frame, CUTOFF, 1 / 12)
    ratio = model.map(frame[None]) / stated(CAMERA).map(frame[None])
    low, middle, high = torch.quantile(
        ratio.flatten()[::3], torch.tensor([0.01, 0.5, 0.99])
    )
    assert 0.96 < middle < 1.04
    assert 0.85 < low < high < 1.15
    # In the unit of a scaled frame, σ is that of the grey values over the span.
    scaled = (frame - 120) / 700
    again = measure_noise(scaled, CUTOFF, 1 / 12 / 700**2)
    torch.testing.assert_close(
        700 * again.map(scaled[None]), model.map(frame[None]), rtol=0.01, atol=0
    )


@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize("sigma", [0.001, 0.05])
def test_white_noise_has_no_slope(dark, sigma):
    light = specimen(dark)
    frame = light + sigma * torch.randn(
        light.shape, generator=torch.Generator().manual_seed(1)
    )
    model = measure_noise(frame, CUTOFF)
    assert float(model.slope) == 0
    assert float(model.intercept.sqrt()) == pytest.approx(sigma, rel=0.03)


def test_the_least_variance_is_that_of_rounding():
    frame = (20 * specimen(dark=True)).round()
    model = measure_noise(frame, CUTOFF, 1 / 12)
    sigma = model.map(frame[None])
    assert float(sigma.min()) == pytest.approx((1 / 12) ** 0.5)
    assert float(sigma.max()) < 2 * (1 / 12) ** 0.5


def test_a_large_frame_and_hot_pixels_change_little():
    chance = torch.Generator().manual_seed(2)
    light = specimen(dark=False, side=640)
    frame = light + 0.02 * torch.randn(light.shape, generator=chance)
    frame[100, 200], frame[400, 30] = 3.0, 2.0
    model = measure_noise(frame, CUTOFF)
    assert float(model.map(frame[None]).median()) == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("cutoff", [0.36, 0.5])
def test_without_frequencies_beyond_the_cut_off_nothing_is_measured(cutoff):
    assert measure_noise(torch.rand(128, 128), cutoff) is None


def test_small_and_non_finite_frames_are_not_measured():
    assert measure_noise(torch.rand(40, 200), CUTOFF) is None
    frame = torch.rand(128, 128)
    frame[3, 4] = torch.nan
    assert measure_noise(frame, CUTOFF) is None


def test_a_wrong_gain_contradicts_the_frame():
    chance = torch.Generator().manual_seed(4)
    frame = CAMERA.sample(800 * specimen(dark=True), chance).round()
    measured = measure_noise(frame, CUTOFF, 1 / 12)

    def says(**wrong: float) -> str:
        return contradiction(stated(replace(CAMERA, **wrong)), measured, frame)

    assert says() == ""
    assert says(gain_e_per_adu=0.55) == ""
    assert "times higher" in says(gain_e_per_adu=1.5)
    assert "times lower" in says(gain_e_per_adu=0.15)
    assert "check gain" in says(offset_adu=float("nan"))
