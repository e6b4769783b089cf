"""Reduced spectra of whole frames: scale, registration, coherence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deepblur_live.identification.whole_frame import WholeFrameSpectrum
from deepblur_live.optics.reduced_spectrum import looks, taper_line

SIDE = 192


def texture(seed: int, side: int = 260, blur: float = 1.0) -> torch.Tensor:
    """Return random structure (side, side), of standard deviation 1."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.standard_normal((side, side)))
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)
    spectrum = spectrum * np.exp(-2 * np.pi**2 * blur**2 * (fy**2 + fx**2))
    image = np.fft.irfft2(spectrum, (side, side))
    return torch.from_numpy(image / image.std())


def window(image: torch.Tensor, row: int = 30, column: int = 30) -> torch.Tensor:
    return image[row : row + SIDE, column : column + SIDE]


def test_white_noise_has_its_variance_as_spectrum():
    torch.manual_seed(0)
    reduce = WholeFrameSpectrum().reduce
    spectra = [reduce(3 * torch.randn(SIDE, SIDE)) for _ in range(20)]
    power = np.array([s.power[1:32, 1:32] for s in spectra])
    assert spectra[0].power.shape == (64, 33)
    assert power.mean() == pytest.approx(9, rel=0.01)
    assert power.var() / 81 == pytest.approx(1 / looks(spectra[0].fine), rel=0.1)


def test_bins_are_means_over_boxes_centred_on_them():
    # An even and an odd number of frequencies in a bin.
    image = texture(1, 330)[:300, :230]
    spectrum = WholeFrameSpectrum().reduce(image)
    (b, c), (rows, columns) = spectrum.fine, (64 * n for n in spectrum.fine)
    top, left = (300 - rows) // 2, (230 - columns) // 2
    cut = image.numpy()[top : top + rows, left : left + columns]
    taper = taper_line(rows)[:, None] * taper_line(columns)
    taper = taper / np.sqrt((taper**2).mean())
    cut = (cut - (cut * taper).sum() / taper.sum()) * taper
    power = np.abs(np.fft.fft2(cut, norm="ortho")) ** 2
    power = np.roll(power, (b // 2, c // 2), (0, 1))
    boxes = power.reshape(64, b, 64, c).mean((1, 3))[:, :33]
    assert {b % 2, c % 2} == {0, 1}
    np.testing.assert_allclose(spectrum.power, boxes, rtol=1e-3, atol=1e-6)


def test_the_window_follows_the_specimen_by_whole_pixels():
    image, spectra = texture(2), WholeFrameSpectrum()
    first = spectra.reduce(window(image))
    moved = spectra.reduce(window(image, 27, 35) + 0.01 * torch.randn(SIDE, SIDE))
    assert moved.shift == (3, -5)
    assert moved.reference == first.reference
    still = spectra.reduce(window(image, 27, 35))
    assert still.shift == (3, -5)
    # The very same pixels under the very same taper.
    np.testing.assert_allclose(still.power, first.power, rtol=1e-3)


def test_a_specimen_beyond_the_margin_becomes_a_new_reference():
    image, spectra = texture(3), WholeFrameSpectrum()
    first = spectra.reduce(window(image))
    moved = spectra.reduce(window(image, 68, 30))
    assert moved.reference == first.reference + 1
    assert moved.shift == (0, 0)


def test_coherence_tells_another_specimen_from_another_blur():
    spectra = WholeFrameSpectrum()
    assert spectra.reduce(texture(4)).coherence == pytest.approx(1)
    blurred = spectra.reduce(texture(4, blur=2.0))
    assert blurred.coherence > 0.98
    assert blurred.shift == (0, 0)
    assert spectra.reduce(texture(5)).coherence < 0.1


def test_another_specimen_at_rest_becomes_the_reference():
    spectra, other = WholeFrameSpectrum(), texture(5)
    first = spectra.reduce(texture(4))
    found = [spectra.reduce(other) for _ in range(5)]
    assert [f.reference - first.reference for f in found] == [0, 0, 0, 1, 1]
    assert found[-1].coherence == pytest.approx(1)
    # Noise does not: no frame resembles the one before.
    noise = [spectra.reduce(torch.randn(260, 260)) for _ in range(5)]
    assert noise[-1].reference == found[-1].reference


def test_a_frame_of_another_size_is_a_new_reference():
    image, spectra = texture(6), WholeFrameSpectrum()
    first = spectra.reduce(image)
    assert spectra.reduce(window(image)).reference == first.reference + 1
    with pytest.raises(ValueError, match="side of 60"):
        spectra.reduce(torch.zeros(60, 200))
