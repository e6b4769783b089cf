"""The whole frame's spectrum on coarse bins."""

import numpy as np
import pytest
import torch
from specimens import FAMILY, cells

from deepblur_live.identification.frame_spectrum import (
    bin_frequencies,
    bin_looks,
    coherence,
    frame_spectrum,
    mixed,
    white_level,
)


def noise(count, side, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (count, side, side)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_white_noise_has_its_variance_and_the_stated_number_of_looks():
    spectra = frame_spectrum(2.0 * noise(60, 256), 64)
    assert float(spectra.mean()) == pytest.approx(4.0, rel=0.01)
    scatter = (spectra.std(0) / spectra.mean(0)) ** 2
    # Bins at f = 0 and at the highest frequency are real: half as many looks.
    inner = scatter[2:30, 2:30].mean()
    assert float(1 / inner) == pytest.approx(bin_looks((256, 256), 64), rel=0.1)


def test_a_bin_is_the_triangular_average_of_its_fine_bins():
    frame = noise(1, 32, seed=1)[0]
    taper = np.hanning(33)[:-1]
    taper = np.outer(taper, taper)
    taper /= np.sqrt((taper**2).mean())
    image = frame.numpy()
    centred = (image - (image * taper**2).mean()) * taper
    fine = np.abs(np.fft.fft2(centred)) ** 2 / 32**2
    by_hand = 0.0
    for i in range(-3, 4):
        for j in range(-3, 4):
            by_hand += (1 - abs(i) / 4) * (1 - abs(j) / 4) / 16 * fine[12 + i, 20 + j]
    assert float(frame_spectrum(frame, 8)[3, 5]) == pytest.approx(by_hand, rel=1e-9)


def test_the_model_averages_as_the_spectrum_does():
    # White specimen: the expected spectrum is |OTF|², averaged over the bins.
    psf = FAMILY.psf(torch.tensor([[0.1, 0.05, 0, 0.05, 0, 0, 0]], dtype=torch.float64))
    specimens = noise(40, 256, seed=2)
    transfer = torch.fft.fft2(psf, s=(256, 256))
    frames = torch.fft.ifft2(torch.fft.fft2(specimens) * transfer).real
    measured = frame_spectrum(frames, 64).mean(0)
    model = mixed(torch.fft.fft2(psf, s=(64, 64)).abs().square())[0]
    y, x = bin_frequencies(64)
    inside = (torch.hypot(y, x) < 0.35) & (x > 0) & (y != 0)
    ratio = torch.log(measured / model)[inside]
    # 40 frames of 9.6 looks: 5 % a bin. Leakage only matters where the OTF vanishes.
    assert float(ratio.abs().median()) < 0.05
    assert abs(float(ratio.mean())) < 0.02


def test_the_white_level_is_that_of_the_noise():
    blurred = torch.nn.functional.avg_pool2d(cells(262)[None], 7, 1)[0].double()
    frame = blurred[:256, :256] + 0.05 * noise(1, 256)[0]
    level = white_level(frame_spectrum(frame, 64), FAMILY.cutoff)
    assert float(level) == pytest.approx(0.05**2, rel=0.1)


def test_coherence_is_one_for_a_shared_specimen_and_low_for_another():
    first, other = noise(2, 256, seed=3)
    blurred = FAMILY.psf(torch.zeros(7)).double()
    transfer = torch.fft.fft2(blurred, s=(256, 256))
    seen = torch.fft.ifft2(torch.fft.fft2(first) * transfer).real
    y, x = bin_frequencies(64)
    low = (torch.hypot(y, x) < 0.3) & (x > 0) & (y != 0)
    same, _ = coherence(seen, seen, FAMILY.cutoff)
    assert float(same[low].min()) > 0.999
    strange, _ = coherence(seen, other, FAMILY.cutoff)
    assert float(strange[low].median()) < 0.3


def test_a_small_frame_is_refused():
    with pytest.raises(ValueError, match="at least 128 × 128"):
        frame_spectrum(torch.zeros(100, 200), 64)
