"""The bounded history: the whole session, evenly, with its newest point."""

from __future__ import annotations

import numpy as np
import pytest

from deepblur_live.session.history import EvenSample, HistoryBuffer


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
    assert len(history.times) >= min(n, 6)
    assert history.times[0] == 0
    assert history.times[-1] == n - 1
    assert np.all(np.diff(history.times) > 0)
    spacings = np.unique(np.diff(history.times[:-1]))
    assert len(spacings) <= 1
    # Each row stays together.
    np.testing.assert_array_equal(history.coefficients[:, 0], history.times)
    np.testing.assert_allclose(history.sigma[:, 1], history.times / 10)
    np.testing.assert_allclose(history.change, history.times / 100)
    even = history.times % 2 == 0
    np.testing.assert_array_equal(history.truth[even, 0], -history.times[even])
    assert np.isnan(history.truth[~even]).all()


def test_bound_of_an_eight_hour_session():
    buffer = HistoryBuffer(7)
    row = np.zeros(7)
    for k in range(28_800):
        buffer.append(float(k), row, row, None, 0.0)
    history = buffer.snapshot()
    assert 2500 <= len(history.times) <= 5000
    assert history.times[-1] == 28_799


def test_snapshot_is_shared_until_there_is_news():
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
    history = HistoryBuffer(7).snapshot()
    assert history.times.shape == (0,)
    assert history.coefficients.shape == history.truth.shape == (0, 7)


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
