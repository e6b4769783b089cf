"""The bounded history: the whole session, evenly, with its newest point."""

from __future__ import annotations

import numpy as np
import pytest

from deepblur_live.session.history import (
    EvenSample,
    HistoryBuffer,
    through_extremes,
)


def fill(buffer: HistoryBuffer, n: int) -> None:
    for k in range(n):
        row = np.full(2, float(k))
        buffer.append(float(k), row, row / 10, None if k % 2 else -row, k / 100)


@pytest.mark.parametrize("n", [1, 2, 9, 10, 11, 12, 100, 1000, 1023])
def test_whole_session_in_few_points(n):
    buffer = HistoryBuffer(2, max_points=11)
    fill(buffer, n)
    history = buffer.snapshot()
    assert len(history.times) == min(n, len(history.times)) <= 11
    assert len(history.times) >= min(n, 5)
    assert history.times[-1] == n - 1
    assert np.all(np.diff(history.times) > 0)
    spacings = np.unique(np.diff([-1, *history.times[:-1]]))
    assert len(spacings) <= 1
    # Each row stays together.
    np.testing.assert_array_equal(history.coefficients[:, 0], history.times)
    np.testing.assert_allclose(history.sigma[:, 1], history.times / 10)
    np.testing.assert_allclose(history.change, history.times / 100)
    even = history.times % 2 == 0
    np.testing.assert_array_equal(history.truth[even, 0], -history.times[even])
    assert np.isnan(history.truth[~even]).all()


def test_no_excursion_is_lost():
    rng = np.random.default_rng(0)
    values, change = rng.normal(size=(10_000, 3)), rng.normal(size=10_000)
    values[1234, 1], values[7777, 2], change[5001] = 50, -60, 70
    change[:200] = np.nan
    buffer = HistoryBuffer(3, max_points=100)
    for k in range(len(values)):
        buffer.append(float(k), values[k], values[k], None, change[k])
    history = buffer.snapshot()
    assert len(history.times) <= 100
    np.testing.assert_array_equal(history.low.min(0), values.min(0))
    np.testing.assert_array_equal(history.high.max(0), values.max(0))
    assert np.nanmax(history.change_high) == 70
    assert np.nanmin(history.change_low) == np.nanmin(change)
    assert np.isnan(history.change_high[0])
    # Each extreme stands where it happened.
    point = np.argmax(history.high[:, 1])
    assert history.times[point - 1] < 1234 <= history.times[point]
    np.testing.assert_array_equal(history.coefficients[-1], values[-1])


def test_a_line_through_the_extremes():
    times = np.arange(4.0)
    low, high = np.array([1.0, 2, np.nan, 3]), np.array([1.0, 5, np.nan, 3])
    t, v = through_extremes(times, low, high)
    np.testing.assert_array_equal(t, [0, 1, 1, 2, 3])
    np.testing.assert_array_equal(v, [1, 2, 5, np.nan, 3])


def test_bound_of_an_eight_hour_session():
    buffer = HistoryBuffer(8)
    row = np.zeros(8)
    for k in range(28_800):
        buffer.append(float(k), row, row, None, 0.0)
    history = buffer.snapshot()
    assert 2500 <= len(history.times) <= 5000
    assert history.times[-1] == 28_799


def test_snapshot_is_shared_until_a_point_is_added():
    buffer = HistoryBuffer(2)
    fill(buffer, 3)
    first = buffer.snapshot()
    assert buffer.snapshot() is first
    fill(buffer, 1)
    assert buffer.snapshot() is not first
    assert len(first.times) == 3
    with pytest.raises(ValueError, match="read-only"):
        first.times[0] = 5.0


def test_empty_history_has_its_shapes():
    history = HistoryBuffer(8).snapshot()
    assert history.times.shape == (0,)
    assert history.coefficients.shape == history.truth.shape == (0, 8)


@pytest.mark.parametrize("n", [3, 8, 9, 100, 1001])
def test_even_sample_is_bounded_even_and_lazy(n):
    sample: EvenSample[int] = EvenSample(8)
    made = []
    for k in range(n):
        sample.offer(lambda k=k: made.append(k) or k)
    assert len(sample.items) <= 8
    assert len(sample.items) >= min(n, 4)
    assert sample.items[0] == 0
    assert len(np.unique(np.diff(sample.items))) <= 1
    assert len(made) <= 8 + 4 * np.log2(max(n, 2))
