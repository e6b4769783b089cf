"""Comparisons of few points: the risk of a false signal is the stated one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from spectra import CUTOFF, Specimen, gaussian

from deepblur_live.drift.provisional import (
    TESTED,
    ProvisionalComparison,
    contrast,
    t_squared_limit,
    thirds,
)
from deepblur_live.drift.run_length import mewma_arl, mewma_limit

P = len(TESTED)


def test_the_limit_is_the_published_quantile():
    # One variable: Student's t, two-sided, squared.
    for freedom, risk in ((6, 1e-6), (20, 0.01)):
        student = stats.t.isf(risk / 2, freedom)
        assert t_squared_limit(1, freedom, risk) == pytest.approx(student**2, rel=1e-6)
    # Anderson (2003), section 5.2: T² (ν - p + 1) / (ν p) is F.
    f = stats.f.isf(1e-5, 4, 17)
    assert t_squared_limit(4, 20, 1e-5) == pytest.approx(4 * 20 / 17 * f, rel=1e-6)
    # Many points: chi-squared.
    assert t_squared_limit(4, 10**6, 1e-3) == pytest.approx(
        stats.chi2.isf(1e-3, 4), rel=1e-3
    )


def squared(points):
    """Return T² of many series of points (runs, n, P)."""
    first, last = thirds(points.shape[1])
    difference = points[:, last].mean(1) - points[:, first].mean(1)
    steps = points[:, 1::2] - points[:, ::2]
    scatter = np.einsum("rni,rnj->rij", steps, steps) / (2 * steps.shape[1])
    solved = np.linalg.solve(scatter, difference[..., None])[..., 0]
    share = 2 / (first.stop - first.start)
    return np.einsum("ri,ri->r", difference, solved) / share


@pytest.mark.parametrize("count", [12, 20, 40])
def test_unchanged_points_exceed_the_limit_as_often_as_stated(count):
    rng = np.random.default_rng(count)
    mixing = rng.normal(size=(P, P))
    points = rng.normal(size=(20_000, count, P)) @ mixing + 7
    one = points[0]
    difference, scatter, share, freedom = contrast(one)
    direct = difference @ np.linalg.solve(scatter, difference) / share
    assert squared(points)[0] == pytest.approx(direct)
    assert freedom == count // 2
    for risk in (0.05, 0.005):
        over = int((squared(points) >= t_squared_limit(P, freedom, risk)).sum())
        low, high = stats.binom(len(points), risk).interval(0.9999)
        assert low <= over <= high


def test_a_series_of_comparisons_signals_no_more_often_than_the_charts():
    """The whole baseline: at most the armed chart's rate, times its length."""
    rng, runs, arl = np.random.default_rng(0), 6_000, 400.0
    counts = range(12, 41, 2)
    points = rng.normal(size=(runs, 40, P))
    signalled, elapsed = np.zeros(runs, bool), 0
    for count in counts:
        # Each may be false with the probability of the time since the one before.
        limit = t_squared_limit(P, count // 2, (count - elapsed) / arl)
        signalled |= squared(points[:, :count]) >= limit
        elapsed = count
    expected = 40 / arl
    assert signalled.mean() <= expected
    # The bound is not so loose that nothing is found.
    assert signalled.mean() > 0.3 * expected
    # The charts are designed for that rate.
    assert mewma_arl(P, 0.1, mewma_limit(P, 0.1, arl)) == pytest.approx(arl, rel=1e-2)


def test_a_slow_change_hardly_widens_the_limit():
    rng = np.random.default_rng(3)
    still = rng.normal(size=(40, P))
    slope = np.linspace(0, 20, 40)[:, None] * np.eye(P)[0]
    moving = contrast(still + slope)
    assert moving[0][0] == pytest.approx(20 * 28 / 39, abs=1.5)
    assert moving[1][0, 0] < 1.3 * contrast(still)[1][0, 0]


def test_frames_are_merged_and_the_reference_follows():
    found = ProvisionalComparison(CUTOFF, 160 * 3600)
    specimen, blur = Specimen(), gaussian(1.2)
    results = [found.add(k, specimen.frame(blur)) for k in range(160)]
    due = [k for k, one in enumerate(results) if one is not None]
    # From the twelfth on every second, then every fourth, then every eighth frame.
    assert due[:3] == [11, 13, 15]
    assert due[-2:] == [151, 159]
    known = [one for one in results if one is not None]
    assert not any(one.certain for one in known)
    # The limit narrows with the number of frames.
    assert known[-1].least < 0.2 * known[0].least
    assert known[0].least > 0.03


def test_copies_of_a_frame_are_unchanged():
    found = ProvisionalComparison(CUTOFF, 160 * 3600)
    frame = Specimen().frame(gaussian(1.2))
    results = [found.add(k, frame) for k in range(40)]
    assert not any(one.certain for one in results if one is not None)


def test_frames_of_noise_are_not_compared():
    found = ProvisionalComparison(CUTOFF, 160 * 3600)
    dark = Specimen(noise=1e7)
    assert all(found.add(k, dark.frame(gaussian(1.2))) is None for k in range(60))
