"""Frames that were processed are recognised by their traces, raw ones are not."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from specimens import ERRORS

from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.identification import Identifier
from deepblur_live.identification.processed import (
    block_grid,
    corner_slope,
    detail_beyond,
    processing,
    row_shift,
)

FAMILY = ZernikeFamily()
FINE = ZernikeFamily(pixel_size_nm=50.0)


def scene(seed=0):
    """Return bright spots and areas (320, 320), in [0, 1]."""
    rng = np.random.default_rng(seed)
    spots = rng.exponential(1, (320, 320)) * (rng.random((320, 320)) < 0.01)
    areas = ndimage.gaussian_filter(rng.standard_normal((320, 320)), 20) > 0
    image = spots * areas + 0.3 * areas
    return image / image.max()


def blurred(family=FAMILY, seed=0):
    gamma = family.sample(1, torch.Generator().manual_seed(seed))[0]
    operator = family.operator(gamma, (320, 320))
    image = operator.forward(torch.from_numpy(scene(seed)).float()).numpy()
    return image / image.max()


def noisy(image, sigma=0.01, peak=None, seed=0):
    rng = np.random.default_rng(seed + 100)
    deviation = sigma if peak is None else np.sqrt(sigma**2 + image.clip(0) / peak)
    return image + deviation * rng.standard_normal(image.shape)


def raw(family=FAMILY, **noise):
    return noisy(blurred(family), **noise)


def found(image, family=FAMILY):
    return processing(torch.from_numpy(image).float(), family.cutoff)


def jpeg(image, quality):
    low, high = image.min(), image.max()
    file = io.BytesIO()
    grey = np.rint(255 * (image - low) / (high - low)).astype(np.uint8)
    Image.fromarray(grey).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).astype(float)[3:, 5:]


def interlaced(image):
    shifted = image.copy()
    shifted[1::2] = np.roll(shifted[1::2], 1, 1)
    return shifted


def sim(image, family=FINE):
    """Return the detail of twice the resolution, noise filtered alike."""
    fy, fx = np.fft.fftfreq(len(image))[:, None], np.fft.rfftfreq(image.shape[1])
    limit = 4 * family.cutoff
    gain = np.clip(1 - np.hypot(fy, fx) / limit, 0, None)
    return np.fft.irfft2(np.fft.rfft2(noisy(image)) * gain, image.shape)


@pytest.mark.parametrize("family", [FAMILY, FINE], ids=["100 nm", "50 nm"])
@pytest.mark.parametrize(
    "noise",
    [
        {"sigma": 0.05},
        {"sigma": 0.01},
        {"sigma": 0.001},
        {"sigma": 0.0},
        {"peak": 100},
    ],
)
def test_raw_frames_are_not_refused(family, noise):
    for seed in range(3):
        assert found(raw(family, seed=seed, **noise), family) == ""


@pytest.mark.parametrize("side", [64, 100, 200])
def test_small_raw_frames_are_not_refused(side):
    for seed in range(5):
        assert found(raw(seed=seed)[50 : 50 + side, 60 : 60 + side]) == ""


def test_quantised_raw_frames_are_not_refused():
    assert found(np.rint(60 * raw())) == ""
    assert found(np.full((128, 128), 7.0)) == ""


@pytest.mark.parametrize(
    ("image", "family", "reason"),
    [
        (jpeg(raw(), 95), FAMILY, "JPEG"),
        (jpeg(raw(), 80), FAMILY, "JPEG"),
        (interlaced(raw()), FAMILY, "odd and even rows"),
        (interlaced(raw().T).T, FAMILY, "odd and even columns"),
        (ndimage.shift(raw(), 0.4, order=1), FAMILY, "smoothed"),
        (ndimage.gaussian_filter(raw(), 0.6), FAMILY, "smoothed"),
        (ndimage.gaussian_filter(raw(peak=200), 0.6), FAMILY, "smoothed"),
        (ndimage.rotate(raw(), 10, reshape=False, mode="reflect"), FAMILY, "smoothed"),
        (ndimage.median_filter(raw(FINE), 3), FINE, "smoothed"),
        (3 * raw(FINE) - 2 * ndimage.gaussian_filter(raw(FINE), 0.6), FINE, "sharp"),
        (sim(scene()), FINE, "beyond the resolution limit"),
        (raw(sigma=0.001), FINE, "beyond the resolution limit"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_processed_frames_are_named(image, family, reason):
    assert reason in found(image, family)


def test_a_shift_of_odd_rows_is_measured():
    image = torch.from_numpy(interlaced(raw())).float()
    assert abs(row_shift(image)) == pytest.approx(1, abs=0.1)
    assert row_shift(torch.from_numpy(noisy(np.zeros((128, 128)))).float()) == 0


def test_blocks_and_slopes_are_zero_without_processing():
    image = torch.from_numpy(raw()).float()
    assert block_grid(image) == 0
    slope = corner_slope(image, FAMILY.cutoff)
    assert abs(slope.value) < 4 * slope.deviation
    for family in (FAMILY, FINE):
        image = torch.from_numpy(raw(family)).float()
        beyond = detail_beyond(image, family.cutoff)
        assert abs(beyond.value) < 4 * beyond.deviation


def test_the_identifier_refuses_a_processed_frame_by_name():
    identifier = Identifier(FAMILY, ERRORS)
    image = torch.from_numpy(ndimage.gaussian_filter(raw(), 0.6)).float()
    for time in (0.0, 1.0):
        identifier.observe(image, time)
        estimate = identifier.estimate(image)
        assert not estimate.trusted
        assert "smoothed" in estimate.reason
    # The average goes on: it is not a mixture of two blurs.
    assert identifier.spectrum.frames > 1.5


@pytest.mark.parametrize(("told_nm", "named"), [(50.0, False), (42.0, True)])
def test_a_clear_frame_shows_that_the_stated_pixels_are_too_small(told_nm, named):
    """Pixels of 50 nm, near focus, read as if they had 42 nm."""
    gamma = 0.2 * FINE.sample(1, torch.Generator().manual_seed(2))[0]
    sharp = torch.from_numpy(scene()).float()
    image = FINE.operator(gamma, (320, 320)).forward(sharp)
    frame = torch.from_numpy(noisy(image.numpy() / float(image.max()), 3e-4)).float()
    told = ZernikeFamily(pixel_size_nm=told_nm)
    reason = processing(frame, told.cutoff)
    assert ("beyond the resolution limit of the stated optics" in reason) == named
    assert ("pixel_size_nm (too small?)" in reason) == named


def test_coloured_noise_is_not_taken_for_detail():
    """A camera's filter changes detailed and dull parts alike."""
    for sigma in (0.3, 0.6):
        for peak in (None, 200):
            frame = ndimage.gaussian_filter(raw(FINE, peak=peak), sigma)
            beyond = detail_beyond(torch.from_numpy(frame).float(), FINE.cutoff)
            assert beyond.value < 0.1 or beyond.value < 6 * beyond.deviation
