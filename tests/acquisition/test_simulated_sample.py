"""The simulated microscope: trajectory, blur, noise and truth, as functions of time."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.signal import fftconvolve

from deepblur_live.acquisition.simulated_sample import SimulatedSample, StageDrift
from deepblur_live.acquisition.specimen import (
    SPECIMEN_FILE,
    load_specimen,
    mosaic,
)
from deepblur_live.acquisition.trajectory import (
    AberrationTrajectory,
    Step,
    demonstration_trajectory,
)
from deepblur_live.blur import Box, Prior, family_from_profile
from deepblur_live.blur.product_convolution import ProductConvolution
from deepblur_live.blur.zernike import SPHERICAL_MODES, ZernikeFamily
from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.optics import CameraNoise, psnr
from deepblur_live.profile import Profile

FAMILY = family_from_profile(Profile())


@pytest.fixture(scope="module")
def sample() -> SimulatedSample:
    return SimulatedSample()


def small_sample(**changes: object) -> SimulatedSample:
    specimen = load_specimen()[100:340, 100:340]
    return SimulatedSample(specimen, shape=(128, 128), **changes)  # type: ignore[arg-type]


# --- the specimen ---------------------------------------------------------------------


def test_the_specimen_is_small_licensed_and_fills_its_range() -> None:
    specimen = load_specimen()
    assert SPECIMEN_FILE.stat().st_size < 600_000
    assert "BSD 3-Clause" in SPECIMEN_FILE.with_name("SPECIMEN.md").read_text("utf-8")
    assert specimen.dtype == np.float32
    assert specimen.min() >= 0
    assert specimen.max() == 1


def test_the_specimen_shows_the_optics_up_to_the_cutoff() -> None:
    """Its power at 0.45 to 0.52 cycles a pixel exceeds that of noise of 0.015."""
    specimen = load_specimen()[:512, :512].astype(float)
    window = np.hanning(512)[:, None] * np.hanning(512)
    power = np.abs(np.fft.fft2((specimen - specimen.mean()) * window)) ** 2
    power /= np.sum(window**2)
    frequency = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.fftfreq(512))
    ring = power[(frequency > 0.45) & (frequency < 0.52)].mean()
    assert 10 * math.log10(ring) > -36


def test_a_specimen_in_colour_is_refused_by_name(tmp_path) -> None:
    Image.new("RGB", (8, 8), "white").save(tmp_path / "colour.png")
    with pytest.raises(ValueError, match=r"colour\.png.*grey"):
        load_specimen(tmp_path / "colour.png")
    Image.new("L", (8, 8)).save(tmp_path / "black.png")
    with pytest.raises(ValueError, match=r"black\.png.*black"):
        load_specimen(tmp_path / "black.png")


# --- the trajectory -------------------------------------------------------------------


def test_thermal_drift_is_an_exponential_approach() -> None:
    trajectory = AberrationTrajectory(
        still=(0.1, 0.0),
        thermal=(0.05, -0.02),
        thermal_start_s=10,
        thermal_time_constant_s=4,
    )
    np.testing.assert_allclose(trajectory.coefficients(9.99), (0.1, 0.0))
    for taus in (0.5, 1, 3):
        expected = 1 - math.exp(-taus)
        change = trajectory.coefficients(10 + 4 * taus) - (0.1, 0.0)
        np.testing.assert_allclose(change, expected * np.array((0.05, -0.02)))
    np.testing.assert_allclose(trajectory.coefficients(1e6), (0.15, -0.02))


def test_steps_add_up() -> None:
    once = AberrationTrajectory(still=(0.0,)).with_step(Step(5.0, (0.03,)))
    assert once.coefficients(4.0) == 0
    assert once.coefficients(5.0) == pytest.approx(0.03)
    twice = once.with_step(Step(6.0, (-0.01,)))
    assert twice.coefficients(7.0) == pytest.approx(0.02)
    assert once.coefficients(7.0) == pytest.approx(0.03)


def test_a_trajectory_whose_parts_differ_is_refused() -> None:
    with pytest.raises(ValueError, match="thermal: 1 coefficients"):
        AberrationTrajectory(still=(0.0, 0.0), thermal=(0.1,))
    with pytest.raises(ValueError, match=r"step at 3.0 s"):
        AberrationTrajectory(still=(0.0, 0.0), steps=(Step(3.0, (0.1,)),))
    with pytest.raises(ValueError, match="thermal_time_constant_s 0"):
        AberrationTrajectory(still=(0.0,), thermal_time_constant_s=0)


@pytest.mark.parametrize("noll", [FAMILY.noll, SPHERICAL_MODES])
def test_the_demonstration_is_still_then_warns_then_alarms(noll) -> None:
    family = ZernikeFamily(noll=noll)
    trajectory = demonstration_trajectory(family)
    times = np.arange(0, 90, 0.5)
    gamma = np.array([trajectory.coefficients(t) for t in times])
    change = family.wavefront_rms(gamma - gamma[0])
    assert np.all(change[times <= 32] == 0)
    assert np.all(np.diff(change) >= 0)
    assert 0.036 < change[times == 57.5] < 0.072
    assert np.all(change[times >= 58] > 0.08)
    # The sign that the tracker starts with stays the true one; γ stays in the box.
    np.testing.assert_array_equal(family.canonical(gamma), gamma)
    assert np.abs(gamma).max() <= 0.15


def test_a_family_without_these_aberrations_moves_along_its_own_coefficients() -> None:
    scale = np.array([0.7, 0.4])
    centre = np.array([1.5, 0.0])
    prior = Prior(centre, np.diag(scale**2), scale, Box(centre, scale))
    family = SimpleNamespace(names=("width", "elongation"), prior=prior)
    trajectory = demonstration_trajectory(family)
    gamma = np.array([trajectory.coefficients(t) for t in (0.0, 32.0, 57.0, 58.0)])
    np.testing.assert_array_equal(gamma[0], gamma[1])
    change = np.abs(gamma[1:] - gamma[0]) / scale
    assert np.all(np.diff(change, axis=0) > 0.2)
    assert np.all(prior.admissible.gauge(gamma) < 1)


# --- frames ---------------------------------------------------------------------------


def test_the_same_time_gives_the_same_frame(sample: SimulatedSample) -> None:
    first, second = sample.frame(12.25), SimulatedSample().frame(12.25)
    assert first.pixels.dtype == np.uint16
    assert first.pixels.shape == (512, 512)
    np.testing.assert_array_equal(first.pixels, second.pixels)
    np.testing.assert_array_equal(first.coefficients, second.coefficients)
    assert np.any(first.pixels != sample.frame(12.250001).pixels)
    assert np.any(first.pixels != SimulatedSample(seed=1).frame(12.25).pixels)


@pytest.mark.parametrize("time", [0.0, 33.3, 70.0])
def test_truth_blurred_with_the_true_psf_is_the_frame(
    sample: SimulatedSample, time: float
) -> None:
    """Direct convolution, away from the border that the truth cannot fill."""
    frame = sample.frame(time)
    truth = sample.truth_image(time).astype(np.float64)
    offset = sample.noise.offset_adu
    psf = FAMILY.psf(torch.from_numpy(frame.coefficients)).numpy()
    blurred = fftconvolve(truth - offset, psf, mode="valid") + offset
    edge = psf.shape[0] // 2
    inside = (slice(edge, -edge),) * 2
    np.testing.assert_allclose(
        sample.expected_image(time)[inside], blurred, rtol=1e-4, atol=0.5
    )
    # The frame is that, plus noise and nothing else.
    residual = frame.pixels[inside] - blurred
    sigma = np.sqrt(blurred.clip(offset) - offset) / math.sqrt(
        sample.noise.gain_e_per_adu
    )
    sigma = np.hypot(sigma, sample.noise.read_noise_e / sample.noise.gain_e_per_adu)
    score = residual / sigma
    assert abs(score.mean()) < 4 / math.sqrt(score.size)
    assert score.std() == pytest.approx(1, abs=0.01)


def test_light_enters_from_beyond_the_border() -> None:
    """A bright spot just outside the field shows inside it; none wraps around."""
    specimen = np.zeros((240, 240), np.float32)
    top = (240 - 128) // 2
    specimen[top - 2, 120] = 1
    sample = SimulatedSample(
        specimen, shape=(128, 128), stage=StageDrift(0), noise=CameraNoise(0, 1, 0)
    )
    light = sample.expected_image(0.0)
    assert light[0].sum() > 1
    assert light[40:].max() < 1e-3


def test_noise_has_the_cameras_mean_and_variance() -> None:
    camera = CameraNoise(offset_adu=200, gain_e_per_adu=0.25, read_noise_e=3)
    sample = small_sample(noise=camera, stage=StageDrift(0), bleaching_s=math.inf)
    frames = np.array([sample.frame(k * 1e-3).pixels for k in range(200)], float)
    expected = sample.expected_image(0.0).astype(float)
    electrons = (expected - 200) * 0.25
    variance = (electrons + 9) / 0.25**2
    mean_score = (frames.mean(0) - expected) / np.sqrt(variance / 200)
    assert abs(mean_score.mean()) < 0.05
    assert mean_score.std() == pytest.approx(1, abs=0.03)
    # Rounding to whole grey values adds 1/12.
    ratio = frames.var(0, ddof=1) / (variance + 1 / 12)
    assert ratio.mean() == pytest.approx(1, abs=0.01)


def test_default_noise_is_a_hundredth_of_the_brightest(sample: SimulatedSample) -> None:
    frame, expected = sample.frame(0.0).pixels, sample.expected_image(0.0)
    peak = sample.peak_electrons / sample.noise.gain_e_per_adu
    assert (frame - expected).std() / peak == pytest.approx(0.01, abs=0.002)
    assert frame.max() < 65535


def test_noise_can_be_switched_off(sample: SimulatedSample) -> None:
    quiet = sample.frame(1.0, noisy=False).pixels
    np.testing.assert_array_equal(quiet, np.round(sample.expected_image(1.0)))


def test_blur_costs_and_grows_with_the_drift(sample: SimulatedSample) -> None:
    def likeness(time: float) -> float:
        blurred, sharp = sample.expected_image(time), sample.truth_image(time)
        scores = psnr(torch.from_numpy(blurred), torch.from_numpy(sharp), peak=6000)
        return float(scores)

    assert 20 < likeness(70.0) < likeness(0.0) - 1 < 45


def test_bleaching_dims_the_light_but_not_the_offset() -> None:
    sample = small_sample(bleaching_s=100.0, stage=StageDrift(0))
    ratio = (sample.truth_image(50.0) - 100) / (sample.truth_image(0.0) - 100)
    np.testing.assert_allclose(ratio, math.exp(-0.5), rtol=1e-3)


def test_the_stage_moves_by_parts_of_a_pixel_and_stays_on_the_specimen() -> None:
    stage = StageDrift(amplitude_px=8.0, periods_s=(100.0, 60.0))
    moves = np.array([stage.displacement(t) for t in np.arange(0, 300, 0.5)])
    assert np.abs(moves).max() <= 8
    assert np.ptp(moves, axis=0).min() > 15

    # A quarter of the period moves it by exactly 8 rows: the picture is the same.
    sample = small_sample(
        stage=StageDrift(8.0, (100.0, math.inf)), bleaching_s=math.inf
    )
    still, moved = sample.truth_image(0.0), sample.truth_image(25.0)
    np.testing.assert_allclose(moved[8:], still[:-8], atol=2)
    # Half a pixel: between the neighbours.
    half = sample.truth_image(100 / (2 * math.pi) * math.asin(0.5 / 8))
    middle = (still[:-1] + still[1:]) / 2
    assert np.corrcoef(half[1:].ravel(), middle.ravel())[0, 1] > 0.99
    assert np.abs(half - still).max() > 100


def test_coefficients_reported_are_those_used() -> None:
    """γ is rounded, by 0.00025 waves at most, so that one PSF serves many frames."""
    sample = small_sample()
    for time in (0.0, 30.3, 31.7, 60.0):
        used = sample.frame(time).coefficients
        np.testing.assert_array_equal(used, sample.coefficients(time))
        exact = sample.trajectory.coefficients(time)
        assert np.abs(used - exact).max() <= 0.00025 + 1e-12


def test_the_trajectory_may_be_held_while_time_advances() -> None:
    sample = small_sample()
    held = sample.frame(80.0, trajectory_time=0.0)
    np.testing.assert_array_equal(held.coefficients, sample.coefficients(0.0))
    assert held.time == 80.0


def test_what_does_not_fit_is_refused_with_the_size_needed() -> None:
    with pytest.raises(ValueError, match=re.escape("need 564 × 564")):
        SimulatedSample(np.ones((540, 600), np.float32))
    with pytest.raises(ValueError, match=r"2 coefficients, the family 8 \(defocus, "):
        SimulatedSample(trajectory=AberrationTrajectory(still=(0.1, 0.1)))


def test_a_field_is_that_of_each_place():
    family = ZernikeField()
    sample = SimulatedSample(family=family, shape=(160, 192))
    frame = sample.frame(0.0, noisy=False)
    c = torch.from_numpy(frame.coefficients.astype(np.float32))
    assert family.metric.size(frame.coefficients) > 0.1
    eigen = ProductConvolution.of_family(family, c, sample._extent, sample.shape, 32)
    expected = sample._electrons(0.0, eigen).numpy()
    found = sample._blurred(0.0, None)[0].numpy()
    # In so few pixels the field varies more from tile to tile than in 768².
    assert np.linalg.norm(found - expected) < 0.01 * np.linalg.norm(expected)
    uniform = SimulatedSample(family=family.local, shape=(160, 192))
    assert np.linalg.norm(uniform._blurred(0.0, None)[0].numpy() - expected) > (
        0.05 * np.linalg.norm(expected)
    )


def test_a_mosaic_is_four_turned_specimens():
    picture = np.random.default_rng(0).random((50, 50)).astype(np.float32)
    whole = mosaic(picture)
    assert whole.shape == (95, 95)
    np.testing.assert_allclose(whole[:45, :45], picture[:45, :45])
    np.testing.assert_allclose(whole[50:, 50:], np.rot90(picture, 2)[5:, 5:])
    # Where two overlap their weights sum to 1.
    np.testing.assert_allclose(mosaic(np.ones((50, 50), np.float32)), 1, rtol=1e-6)
    with pytest.raises(ValueError, match="square"):
        mosaic(picture[:40])
