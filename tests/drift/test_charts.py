"""Scores and charts: the specified rate of false signals, whatever the baseline."""

from __future__ import annotations

import numpy as np
import pytest

from deepblur_live.drift.batches import Batcher, merge_pairs
from deepblur_live.drift.charts import Charts
from deepblur_live.drift.scatter import LearnedScatter, lag_one

SIGMA = np.linspace(0.002, 0.01, 7)
RESOLUTION = np.full(7, 2e-4)


def correlated(rng, phi, n):
    """Return (n, 7) points of autocorrelation φ and standard deviations SIGMA."""
    points = np.zeros((n + 50, 7))
    fresh = rng.normal(size=points.shape) * np.sqrt(1 - phi**2)
    for k in range(1, len(points)):
        points[k] = phi * points[k - 1] + fresh[k]
    return points[50:] * SIGMA


def test_scores_are_standard_normal_from_the_beginning():
    """And independent, as charts with known parameters require."""
    rng = np.random.default_rng(2)
    mixing = np.eye(4) + 0.5 * rng.normal(size=(4, 4))
    alone, joint = [], []
    for _ in range(800):
        learned = LearnedScatter(RESOLUTION[:4])
        for k in range(12):
            point = 5 + mixing @ rng.normal(size=4)
            if k >= 6:
                one, all_ = learned.scores(point)
                alone.append(one)
                joint.append(all_)
            learned.learn(point)
    for scores in (np.array(alone), np.array(joint)):
        np.testing.assert_allclose(scores.mean(0), 0, atol=0.06)
        np.testing.assert_allclose(scores.std(0), 1, atol=0.06)
        assert np.mean(np.abs(scores) > 2.576) == pytest.approx(0.01, abs=0.004)
    correlation = np.corrcoef(np.array(joint).T)
    np.testing.assert_allclose(correlation, np.eye(4), atol=0.06)
    series = np.array(joint).reshape(800, 6, 4)
    assert abs(np.mean(series[:, 1:] * series[:, :-1])) < 0.03


def test_scores_are_finite():
    learned = LearnedScatter(RESOLUTION[:3])
    for _ in range(5):
        learned.learn(np.zeros(3))
    alone, joint = learned.scores(np.full(3, 1e6))
    assert np.isfinite(alone).all() and np.isfinite(joint).all()
    assert alone.max() <= 7.0


def test_outlier_is_winsorised():
    rng = np.random.default_rng(3)
    learned = LearnedScatter(RESOLUTION)
    for _ in range(30):
        learned.learn(rng.normal(size=7) * SIGMA)
    before = np.sqrt(np.diag(learned.covariance))
    learned.learn(np.full(7, 10.0))
    assert (np.sqrt(np.diag(learned.covariance)) < 1.6 * before).all()


@pytest.mark.parametrize("phi", [0.0, 0.3, 0.6, 0.9])
def test_lag_one_is_insensitive_to_drift(phi):
    rng = np.random.default_rng(4)
    drift = np.linspace(0, 0.05, 20)[:, None]
    found = [lag_one(correlated(rng, phi, 20) + drift, RESOLUTION) for _ in range(200)]
    # With so few points it is slightly overestimated: the safe side.
    assert np.mean(found) == pytest.approx(phi, abs=0.06 if phi < 0.9 else 0.1)


def test_charts_signal_at_the_specified_rate():
    """Self-starting: the run length needs no known baseline."""
    rng = np.random.default_rng(5)
    arl, runs, lengths = 200.0, 50, []
    for _ in range(runs):
        charts = Charts(RESOLUTION, arl)
        for k in range(1, 3000):
            point = rng.normal(size=7) * SIGMA
            if charts.add(float(k), point).signal:
                break
        lengths.append(k)
    assert np.mean(lengths) == pytest.approx(arl, abs=3 * arl / np.sqrt(runs))


def test_limits_are_widened_for_autocorrelation():
    """Without widening, the charts would signal several times as often."""

    def length(allowed):
        rng = np.random.default_rng(9)
        lengths = []
        for _ in range(20):
            charts = Charts(RESOLUTION, 300.0)
            charts.allow_for(allowed)
            points = correlated(rng, 0.3, 1500)
            signals = (charts.add(0.0, point).signal for point in points)
            lengths.append(next((k for k, s in enumerate(signals) if s), 1500))
        return np.mean(lengths)

    assert length(0.0) < 120
    assert 200 < length(0.3) < 800


def test_step_is_found_and_dated():
    rng = np.random.default_rng(6)
    charts = Charts(RESOLUTION, 20_000.0)
    for k in range(25):
        assert not charts.add(float(k), rng.normal(size=7) * SIGMA).signal
    step = 8 * SIGMA * (np.arange(7) == 3)
    for k in range(25, 35):
        evidence = charts.add(float(k), rng.normal(size=7) * SIGMA + step)
        if evidence.signal:
            break
    assert k <= 27
    assert evidence.since == pytest.approx(25, abs=2)


def test_slow_ramp_from_the_first_point_is_found():
    """Although there is no stable baseline to learn from."""
    rng = np.random.default_rng(7)
    charts = Charts(RESOLUTION, 20_000.0)
    for k in range(100):
        point = rng.normal(size=7) * SIGMA
        point[2] += 0.5 * SIGMA[2] * k
        if charts.add(float(k), point).signal:
            break
    assert k < 60


def test_charts_recover_after_a_change_is_undone():
    rng = np.random.default_rng(8)
    charts = Charts(RESOLUTION, 5_000.0)

    def feed(n, shift):
        return [charts.add(0.0, rng.normal(size=7) * SIGMA + shift) for _ in range(n)]

    feed(30, 0.0)
    assert feed(300, 8 * SIGMA)[-1].signal
    assert not feed(60, 0.0)[-1].signal


def test_batches_are_means_over_their_time():
    batcher = Batcher(10.0)
    done = [batcher.add(float(t), np.array([t, 1.0])) for t in range(31)]
    batches = [b for b in done if b is not None]
    assert [(b.begin, b.end, b.count) for b in batches] == [
        (0.0, 9.0, 10),
        (10.0, 19.0, 10),
        (20.0, 29.0, 10),
    ]
    np.testing.assert_allclose([b.mean[0] for b in batches], [4.5, 14.5, 24.5])


def test_batch_with_few_estimates_is_extended_but_not_forever():
    batcher = Batcher(10.0)
    for t in range(40):
        batcher.add(float(t), np.zeros(2))
    assert batcher.add(50.0, np.zeros(2)) is not None
    # A gap: one estimate in ten seconds is not enough.
    assert batcher.add(61.0, np.zeros(2)) is None
    assert batcher.add(80.0, np.zeros(2)) is None
    late = batcher.add(91.0, np.zeros(2))
    assert late is not None and late.count == 3


def test_slow_clock_makes_a_batch_of_each_estimate():
    batcher = Batcher(10.0)
    done = [batcher.add(60.0 * k, np.zeros(2)) for k in range(5)]
    assert [b.count for b in done if b is not None] == [1, 1, 1, 1]


def test_pairs_merge_by_their_counts():
    batcher = Batcher(2.0)
    batches = [batcher.add(float(t), np.array([float(t)])) for t in range(11)]
    merged = merge_pairs([b for b in batches if b is not None])
    assert [(b.begin, b.end, b.count) for b in merged] == [(2, 5, 4), (6, 9, 4)]
    np.testing.assert_allclose([b.mean[0] for b in merged], [3.5, 7.5])
