"""Bins of the reduced spectrum, and how many independent values a bin averages."""

from __future__ import annotations

import numpy as np
import pytest

from deepblur_live.optics.reduced_spectrum import (
    BINS,
    bin_frequencies,
    looks,
    taper_line,
)


def test_frequencies_are_those_of_a_window_of_64_pixels():
    radius, angle = bin_frequencies()
    assert radius.shape == angle.shape == (BINS, BINS // 2 + 1)
    assert radius[0, 1] == radius[1, 0] == 1 / 64
    assert radius[-1, 0] == 1 / 64
    assert angle[1, 0] == pytest.approx(np.pi / 2)


def test_the_taper_is_flat_but_for_an_eighth_on_either_side():
    line = taper_line(64)
    np.testing.assert_allclose(line, line[::-1])
    assert (line[8:56] == 1).all()
    assert line[0] < 0.01 and (np.diff(line[:8]) > 0).all()


@pytest.mark.parametrize("fine", [(1, 1), (3, 4), (7, 7)])
def test_looks_are_those_of_white_noise_under_the_taper(fine):
    rng = np.random.default_rng(0)
    rows, columns = (BINS * b for b in fine)
    taper = taper_line(rows)[:, None] * taper_line(columns)
    bins = []
    for _ in range(12):
        noise = taper * rng.standard_normal((rows, columns))
        power = np.abs(np.fft.fft2(noise)) ** 2
        boxes = power.reshape(BINS, fine[0], BINS, fine[1]).mean((1, 3))
        bins.append(boxes[1:32, 1:-1])
    relative = np.var(bins) / np.mean(bins) ** 2
    assert looks(fine) == pytest.approx(1 / relative, rel=0.05)
