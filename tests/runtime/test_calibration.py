"""Frames in, scaled pictures out, and back; bad frames by name."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.optics import CameraNoise
from deepblur_live.runtime import calibration
from deepblur_live.runtime.calibration import BadFrame, scale
from deepblur_live.runtime.device import page_locked
from deepblur_live.runtime.scaling_graph import ScalingGraph


def texture(shape=(96, 80), dtype=np.uint16, peak=4000):
    rng = np.random.default_rng(0)
    return (100 + peak * rng.random(shape) ** 3).astype(dtype)


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "i4", "f4", ">f8"])
def test_scaling_there_and_back(dtype):
    pixels = texture(dtype=dtype, peak=100)
    scaled = scale(pixels)
    assert scaled.image.shape == pixels.shape
    assert -0.1 < scaled.image.min() <= 0.02
    assert 0.98 < scaled.image.max() < 1.2
    np.testing.assert_allclose(
        scaled.restore(scaled.image), pixels.astype(float), rtol=1e-4
    )


def test_pixels_are_not_touched_and_may_be_read_only_and_strided():
    pixels = texture((192, 160))[::2, ::2]
    pixels.flags.writeable = False
    before = pixels.copy()
    scale(pixels).image.add_(1)
    np.testing.assert_array_equal(pixels, before)
    floats = texture(dtype="f4")
    before = floats.copy()
    scale(floats).image.add_(1)
    np.testing.assert_array_equal(floats, before)


@pytest.mark.parametrize("layout", ["plain", "strided", "read-only"])
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "i2", "u4", "f2", ">f8"])
def test_a_card_gets_the_pixels_that_a_processor_would(monkeypatch, dtype, layout):
    """By way of page-locked memory, inspected and not; the card is played."""

    def uploaded(pixels):
        locked = page_locked(pixels)
        return SimpleNamespace(to=lambda *_, **__: locked)

    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    monkeypatch.setattr(calibration, "page_locked", uploaded)
    pixels = texture((192, 160), dtype, peak=40_000 if dtype[1:] == "u2" else 150)
    pixels = pixels[::2, ::2] if layout == "strided" else pixels
    pixels.flags.writeable = layout != "read-only"
    like, card = scale(pixels), torch.device("cuda")
    assert torch.equal(scale(pixels, card).image, like.image)
    graph = ScalingGraph(torch.device("cpu"), calibration.COARSEST)
    between = scale(pixels, inner=like.inner, graph=graph)
    graph._device = card
    again = scale(pixels, card, inner=like.inner, graph=graph)
    assert torch.equal(again.image, between.image)


def one_hot_pixel():
    pixels = texture()
    pixels[10, 10] = 65535
    return pixels


def test_a_hot_pixel_does_not_dominate():
    cutoff = ZernikeFamily().cutoff
    plain, hot = (scale(x, cutoff=cutoff) for x in (texture(), one_hot_pixel()))
    assert hot.span == pytest.approx(plain.span, rel=0.02)
    # It stands alone, and is gone from what the networks read.
    assert hot.image[10, 10] < 1.2


def test_focused_points_are_not_hot_pixels():
    family = ZernikeFamily(pixel_size_nm=170.0)  # as coarse as the model serves
    psf = family.psf(torch.zeros(7)).numpy()
    pixels = np.random.default_rng(0).normal(100, 1, (96, 96))
    half = psf.shape[0] // 2
    pixels[48 - half : 49 + half, 48 - half : 49 + half] += 5000 * psf / psf.max()
    scaled = scale(pixels)
    assert scaled.image[48, 48] > 1.5
    np.testing.assert_allclose(scaled.restore(scaled.image), pixels, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["f8", "u4", "i8"])
def test_a_small_range_on_a_large_offset_keeps_its_grey_values(dtype):
    pixels = texture(dtype="i8", peak=50) + 2**31
    scaled = scale(pixels.astype(dtype))
    assert len(torch.unique(scaled.image)) > 30


def with_nan():
    pixels = texture(dtype="f4")
    pixels[3, 77] = np.nan
    return pixels


def clipped(bits):
    bright = texture(dtype=float, peak=2.2 * 2**bits)
    return np.minimum(bright, 2**bits - 1).astype(np.uint16)


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.zeros((96, 96), np.uint16), "constant"),
        (
            np.indices((96, 96)).sum(0).astype(np.uint8) // 32,
            "fewer than 8 grey values",
        ),
        (np.full((96, 96), 65535, np.uint16), "constant"),
        (with_nan(), "not finite"),
        (np.full((96, 96), np.inf, "f4"), "not finite"),
        (clipped(12), "saturated"),
        (clipped(16), "saturated"),
        (np.zeros((96, 96, 3), np.uint8), "not a single-channel image"),
        (np.zeros((96,), np.uint8), "not a single-channel image"),
        (np.zeros((1, 1), np.uint16), "too small"),
        (np.zeros((512, 40), np.uint16), "too small"),
        (np.zeros((96, 96), bool), "not a numeric type"),
        (np.zeros((96, 96), complex), "not a numeric type"),
    ],
)
def test_bad_frames_are_named(pixels, reason):
    with pytest.raises(BadFrame, match=reason):
        scale(pixels)


@pytest.mark.parametrize("lines", [1, 8])
@pytest.mark.parametrize("sides", [1, 4])
def test_a_filled_border_is_refused(lines, sides):
    pixels = texture(shape=(96, 96))
    for quarter in range(sides):
        np.rot90(pixels, quarter)[:lines] = 0
    with pytest.raises(BadFrame, match="filled along its border"):
        scale(pixels)


def test_a_specimen_on_a_dark_background_has_no_filled_border():
    y, x = np.indices((96, 96)) - 48
    scale((3000 * np.exp(-(x**2 + y**2) / 100)).astype(np.uint16))


def test_a_full_well_that_is_only_a_highlight_is_fine():
    pixels = texture()
    pixels[40:44, 40:44] = 4095
    pixels = np.minimum(pixels, 4095)
    scaled = scale(pixels)
    # It stays what it is: the brightest there, and no hot pixel.
    highlight = scaled.image[40:44, 40:44]
    assert bool((highlight == scaled.image.max()).all())
    np.testing.assert_allclose(scaled.restore(highlight), 4095, rtol=1e-5)


def test_the_calibrated_noise_is_the_cameras():
    camera = CameraNoise(offset_adu=100, gain_e_per_adu=0.5, read_noise_e=2)
    electrons = torch.full((256, 256), 300.0)
    grey = camera.sample(electrons, torch.Generator().manual_seed(0)).numpy()
    scaled = scale(grey)
    variance = scaled.noise_variance(100, 0.5, 2, float(scaled.image.mean()))
    assert variance == pytest.approx(float(scaled.image.var()), rel=0.05)
