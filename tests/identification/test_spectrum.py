"""The running spectrum: white noise, floors, weights, forgetting."""

import math

import pytest
import torch

from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.identification import PowerSpectrum, signal_bins, weighted, welch
from deepblur_live.identification.spectrum import (
    frequencies,
    has_corner,
    noise_floor,
    window_powers,
    windowed,
)

CUTOFF = ZernikeFamily().cutoff


def noise(sigma, shape=(256, 256), seed=0):
    return sigma * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_white_noise_has_its_variance_as_spectrum():
    spectrum, averages = welch(noise(0.3))
    assert spectrum.shape == (64, 33)
    assert averages == pytest.approx(0.9 * 49)
    inner = spectrum[3:-3, 3:-3]
    assert inner.mean() == pytest.approx(0.09, rel=0.02)
    # The effective number of averages agrees with the scatter of a bin.
    scatter = float(inner.std() / inner.mean())
    assert scatter == pytest.approx(1 / math.sqrt(averages), rel=0.1)


def test_a_window_mixes_frequencies_as_its_own_spectrum_says():
    # An image of period 64 with random phases: what a Hann window shows of it is its
    # power convolved with the window's.
    generator = torch.Generator().manual_seed(0)
    whole = torch.fft.fft2(torch.randn(64, 64, generator=generator).double())
    power = whole.abs().square()
    line = torch.hann_window(64, dtype=torch.float64)
    hann = line[:, None] * line
    window = torch.fft.fft2(hann / hann.square().mean().sqrt()) / 64**2
    spread = torch.fft.fft2(window.abs().square())
    expected = torch.fft.ifft2(torch.fft.fft2(power) * spread).real[:, :33]
    torch.testing.assert_close(windowed(power[:, :33]), expected)


def test_the_floor_is_read_from_the_corner_and_noise_alone_is_unreliable():
    spectrum, averages = welch(noise(0.02))
    found = signal_bins(spectrum, averages, 1, CUTOFF)
    assert found.floor == pytest.approx(0.02**2, rel=0.1)
    assert found.bins < 20


def test_a_calibrated_camera_gives_the_floor():
    spectrum, averages = welch(noise(0.02))
    assert signal_bins(spectrum, averages, 1, CUTOFF, 1e-3).floor == pytest.approx(1e-3)


def test_coarse_sampling_leaves_no_corner_and_the_noise_is_bounded():
    assert has_corner(1 / 3.83)
    assert not has_corner(1 / 2.6)
    spectrum, averages = welch(noise(0.02))
    bound = signal_bins(spectrum, averages, 1, 1 / 2.6).floor
    assert 0.5 * 0.02**2 < bound < 0.02**2
    assert signal_bins(spectrum, averages, 1, 1 / 2.6, 4e-4).floor == pytest.approx(
        4e-4
    )


def half_textured(sigma, texture=0.3, seed=0):
    """A frame of noise whose left half has detail below the cut-off as well."""
    radius = torch.hypot(torch.fft.fftfreq(256)[:, None], torch.fft.rfftfreq(256)[None])
    below = torch.fft.rfft2(noise(1.0, seed=seed + 50)) * (radius < 0.2)
    frame = noise(sigma, seed=seed)
    frame[:, :128] += texture * torch.fft.irfft2(below)[:, :128]
    return frame


def test_windows_with_detail_weigh_more_where_noise_dominates():
    noisy, clear = half_textured(0.1), half_textured(0.001)
    seen = weighted(noisy, CUTOFF)
    plain, averages = welch(noisy)
    torch.testing.assert_close(seen.plain, plain)
    assert seen.plain_averages == averages
    # Of the seven columns of windows four have texture, one of them half as much. The
    # signal's share rises, and noise stays what it is.
    found, alike = (signal_bins(x, averages, 1, CUTOFF) for x in (seen.power, plain))
    assert found.floor == pytest.approx(float(alike.floor), rel=0.05)
    inner = (found.weight > 0) & (alike.weight > 0)
    gain = (found.log_signal - alike.log_signal)[inner].mean()
    assert 0.25 < gain < math.log(7 / 3.5)
    # Where the OTF has ended it is noise that the windows show.
    assert 0.6 * averages < seen.averages[32, 32] < 0.95 * averages
    # Half of the windows have the detail.
    assert seen.averages[4, 4] < 0.7 * averages
    # Where noise is no trouble, nor when frames average it away, all count alike.
    assert weighted(clear, CUTOFF).averages[32, 32] > 0.97 * averages
    assert weighted(noisy, CUTOFF, frames=1e8).averages[32, 32] > 0.97 * averages


def test_effective_averages_agree_with_the_scatter_of_frames():
    # The texture is new in each frame too, so that all scatters as a stationary field.
    frames = [half_textured(0.1, seed=i) for i in range(300)]
    seen = [weighted(frame, CUTOFF) for frame in frames]
    power = torch.stack([one.power for one in seen])
    averages = torch.stack([one.averages for one in seen]).mean(0)
    found = (power.mean(0) / power.std(0)) ** 2
    radius = frequencies(found.device)[0]
    inner = torch.zeros_like(found, dtype=torch.bool)
    inner[:, 3:-3] = True
    for low, high in ((0.1, 0.18), (0.3, 0.45)):
        part = inner & (radius > low) & (radius < high)
        ratio = float(found[part].mean() / averages[part].mean())
        assert ratio == pytest.approx(1, abs=0.15)


def test_many_frames_are_weighted_as_if_noise_were_lower_by_their_root():
    noisy = half_textured(0.1)
    power, _ = window_powers(noisy)
    floor = float(noise_floor(power.mean(0), 0.9 * len(power), CUTOFF))
    radius = frequencies(noisy.device)[0]
    band = (radius > 0.05) & (radius < 0.12)
    detail = (power[:, band].mean(1) / floor - 1.5).clamp(min=0)
    detail = detail + 0.05 * detail.mean() + 0.5
    weight = (detail / (detail + 100 / 5)) ** 0.5
    expected = (weight[:, None, None] * power).sum(0) / weight.sum()
    torch.testing.assert_close(weighted(noisy, CUTOFF, 25).power, expected)


def test_a_still_half_empty_specimen_is_not_a_change():
    # Weights change as frames gather, and what windows show in the mean with them.
    sharp = half_textured(0.0, texture=1.0)
    running = PowerSpectrum(1e6, CUTOFF)
    for i in range(60):
        running.add(sharp + noise(0.3, seed=i), 0.1 * i)
    assert running.frames == pytest.approx(60)


def test_noise_alone_does_not_count_as_detail():
    values = [weighted(noise(0.1, seed=i), CUTOFF) for i in range(40)]
    # Windows chosen for what noise shows in them would show more of it: by 2 % where
    # each counts by all that exceeds the noise's mean.
    mean = torch.stack([seen.power for seen in values]).mean(0)
    radius = frequencies(mean.device)[0]
    band = (radius > 0.05) & (radius < 0.12)
    assert mean[band].mean() == pytest.approx(0.01, rel=0.007)
    assert values[0].averages.min() > 0.9 * values[0].plain_averages


def test_brightness_is_that_of_the_windows_that_count():
    frame = half_textured(0.1)
    frame[:, :128] += 1.0
    level = weighted(frame, CUTOFF).level
    assert float(frame.mean()) + 0.05 < level < 1.0


def test_averaging_forgets_by_time_not_by_count():
    running = PowerSpectrum(2.0, CUTOFF)
    for i in range(200):
        running.add(noise(0.1, seed=i), i * 0.1)
    # Effective number of an exponential average: (1 + a) / (1 - a), a = e^(-dt / τ).
    a = math.exp(-0.05)
    assert running.frames == pytest.approx((1 + a) / (1 - a), rel=0.01)
    running.add(noise(0.1, seed=201), 1000.0)
    assert running.frames == pytest.approx(1)
    running.reset()
    with pytest.raises(RuntimeError, match="no frame"):
        _ = running.average.power


def coloured(seed, width):
    """Noise through a box of some width: two widths are two blurs."""
    kernel = torch.ones(1, 1, width, 1) / width
    image = noise(1.0, (256, 256), seed)[None, None]
    return torch.nn.functional.conv2d(image, kernel, padding="same")[0, 0]


def test_a_changed_blur_restarts_the_average_but_one_outlier_does_not():
    running = PowerSpectrum(10.0, CUTOFF)
    for i in range(10):
        running.add(coloured(i, 3), 0.1 * i)
    before = running.average.power.clone()
    running.add(coloured(10, 5), 1.0)
    assert torch.equal(running.average.power, before)
    running.add(coloured(11, 3), 1.1)
    assert running.frames > 9
    running.add(coloured(12, 5), 1.2)
    running.add(coloured(13, 5), 1.3)
    assert running.frames == pytest.approx(2, rel=0.01)
    expected = (welch(coloured(12, 5))[0] + welch(coloured(13, 5))[0]) / 2
    assert (running.average.plain / expected).log().abs().max() < 0.02


def test_a_frame_of_zeros_is_a_spectrum_of_zeros():
    seen = weighted(torch.zeros(96, 128), CUTOFF)
    assert seen.is_finite
    assert not seen.power.any()


@pytest.mark.parametrize("value", [1e12, 1e25])
def test_a_spectrum_that_overflows_is_left_out(value):
    running = PowerSpectrum(10.0, CUTOFF)
    running.add(noise(1.0), 0.0)
    wild = noise(1.0, seed=1)
    wild[100, 100] = value
    for k in range(3):
        running.add(wild, 0.1 * k)
    running.add(noise(1.0, seed=2), 1.0)
    assert torch.isfinite(running.average.power).all()
    assert running.frames > 1.9


def test_brightness_alone_is_not_a_change():
    running = PowerSpectrum(10.0, CUTOFF)
    for i in range(10):
        running.add((1 - 0.05 * i) * coloured(i, 3), 0.1 * i)
    assert running.frames > 9


def test_no_memory_keeps_the_newest_frame():
    running = PowerSpectrum(0, CUTOFF)
    running.add(noise(1.0), 0.0)
    running.add(noise(0.1, seed=1), 0.0)
    assert running.frames == 1
    newest = weighted(noise(0.1, seed=1), CUTOFF)
    torch.testing.assert_close(running.average.power, newest.power)


def test_a_clock_that_jumps_back_keeps_the_average_whole():
    running = PowerSpectrum(1.0, CUTOFF)
    running.add(noise(1.0), 10.0)
    running.add(noise(1.0, seed=1), 5.0)
    assert running.frames == pytest.approx(2)


def test_too_small_an_image_is_refused():
    with pytest.raises(ValueError, match="60 × 80 pixels is smaller"):
        welch(torch.zeros(60, 80))
