"""Thinned curves show every excursion."""

from __future__ import annotations

import numpy as np
import pytest

from deepblur_live.session.decimate import decimate_band, decimate_curve


@pytest.mark.parametrize("points", [4, 17, 100, 357])
def test_extremes_and_last_point_survive(points: int) -> None:
    rng = np.random.default_rng(1)
    times = np.arange(20_000.0)
    values = rng.normal(size=20_000)
    values[12_345], values[777] = 50, -50
    t, v = decimate_curve(times, values, points)
    assert len(t) <= points
    assert v.max() == 50 and v.min() == -50
    assert t[np.argmax(v)] == 12_345
    assert (t[-1], v[-1]) == (19_999, values[-1])
    assert (np.diff(t) > 0).all()


@pytest.mark.parametrize("n", [0, 1, 2, 99, 100, 101, 102])
def test_short_curves_stay_whole(n: int) -> None:
    times, values = np.arange(float(n)), np.arange(float(n)) ** 2
    t, v = decimate_curve(times, values, 100)
    assert len(t) <= 100
    if n <= 100:
        np.testing.assert_array_equal(t, times)
        np.testing.assert_array_equal(v, values)


def test_gaps_stay_gaps() -> None:
    values = np.zeros(10_000)
    values[2_000:4_000] = np.nan
    values[7_000] = np.nan
    t, v = decimate_curve(np.arange(10_000.0), values, 100)
    assert np.isnan(v[(t > 2_100) & (t < 3_900)]).all()
    assert np.isfinite(v[(t > 4_200)]).all()


def test_all_unknown() -> None:
    _, v = decimate_curve(np.arange(500.0), np.full(500, np.nan), 50)
    assert len(v) <= 50 and np.isnan(v).all()


def test_a_band_keeps_its_extent() -> None:
    n = 10_000
    lower, upper = np.full(n, -1.0), np.full(n, 1.0)
    lower[5_000], upper[9_999], upper[3] = -9, 8, np.nan
    t, low, high = decimate_band(np.arange(float(n)), lower, upper, 100)
    assert len(t) <= 100
    assert low.min() == -9 and high.max() == 8
    assert t[0] == 0 and t[-1] == n - 1
    assert (np.diff(t) > 0).all()


def test_an_unknown_band_is_empty() -> None:
    nan = np.full(10, np.nan)
    assert len(decimate_band(np.arange(10.0), nan, nan, 5)[0]) == 0
