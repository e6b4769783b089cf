"""Estimates that do not follow the spectra, and those that do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from spectra import CUTOFF, FINE, Specimen

from deepblur_live.drift import (
    DriftMonitor,
    DriftWatch,
    EstimateCheck,
    SpectralMonitor,
    TrackState,
)
from deepblur_live.drift.contradiction import (
    Measured,
    contradiction,
    predicted_change,
)
from deepblur_live.drift.size import change_size
from deepblur_live.drift.spectral_change import MeanSpectrum, SpectralComparison
from deepblur_live.profile import Drift

QUICK = Drift(batch_s=5, baseline_points=10, cooldown_s=0)
START = np.array([0.05, 0.03, -0.04, 0.02, 0.0, 0.01, -0.02])
CHANGE = np.array([0.05, 0.0, 0.02, 0.0, -0.02, 0.0, 0.0])
LEAST = 0.06


def transfer(family, coefficients):
    """Return |ĥ|² (64, 33)."""
    psf = family.psf(torch.from_numpy(coefficients)).numpy()
    side = 64 * -(-len(psf) // 64)
    step = side // 64
    return np.abs(np.fft.rfft2(psf, s=(side, side))[::step, ::step]) ** 2 + 3e-4


def mean_spectrum(blur):
    own = Specimen().own
    return MeanSpectrum(own * blur + 1e-6, 100, FINE)


@pytest.fixture
def comparison(family):
    return SpectralComparison(mean_spectrum(transfer(family, START)), CUTOFF)


def test_the_prediction_is_what_the_spectra_of_these_blurs_show(family, comparison):
    now = START + CHANGE
    predicted, _ = predicted_change(family, comparison, START, now)
    change = comparison.compare(mean_spectrum(transfer(family, now)))
    off = change_size(
        change.shapes - predicted, 0 * change.covariance, comparison.metric
    )
    size = change_size(predicted, 0 * change.covariance, comparison.metric)
    assert size[0] > 0.04
    assert off[0] < 0.1 * size[0]


def test_its_slopes_are_those_of_finite_differences(family, comparison):
    step, now = 1e-4, START + CHANGE
    _, slopes = predicted_change(family, comparison, START, now)
    for mode, unit in enumerate(np.eye(7)):
        up, down = (
            predicted_change(family, comparison, START, now + sign * step * unit)[0]
            for sign in (1, -1)
        )
        expected = (up - down) / (2 * step)
        assert_allclose(slopes[:, mode], expected, rtol=0.02, atol=0.02)


def case(comparison, size: float, sigma: float = 0.002, evident: bool = True):
    """Return a measured change of a strength, each shape known to `sigma`."""
    softer = -comparison.sharpening / np.linalg.norm(comparison.sharpening)
    unit = softer / math.sqrt(softer @ comparison.metric @ softer)
    covariance = sigma**2 * np.eye(16)
    return Measured(size * unit, covariance, comparison, evident, 60.0), unit


@pytest.mark.parametrize(
    ("measured", "predicted", "error", "expected"),
    [
        (0.15, 0.15, 0.01, ""),
        # Real specimens change by less, or more, than the model says.
        (0.15, 0.09, 0.01, ""),
        (
            0.15,
            0.02,
            0.01,
            "softer by 14 %, according to the estimates the picture has",
        ),
        (0.15, 0.00, 0.01, "according to the estimates it has hardly changed"),
        (0.15, -0.15, 0.01, "estimates the picture has become sharper by 16 %"),
        (0.00, 0.10, 0.01, "according to the spectra it has hardly changed"),
        # Strengths beyond 1 Np are only large.
        (2.50, 0.50, 0.01, ""),
        # Stated errors that allow for the difference, and changes too small to count.
        (0.15, 0.00, 0.20, ""),
        (0.05, 0.00, 0.01, ""),
        (0.00, 0.05, 0.01, ""),
    ],
)
def test_contradictions(comparison, measured, predicted, error, expected):
    seen, unit = case(comparison, measured)
    found = contradiction(
        seen, predicted * unit, error**2 * np.outer(unit, unit), LEAST
    )
    assert expected in found
    assert bool(found) == bool(expected)


def test_without_evidence_the_spectra_contradict_nothing(comparison):
    seen, unit = case(comparison, 0.15, evident=False)
    assert contradiction(seen, 0 * unit, np.zeros((16, 16)), LEAST) == ""


class Fed:
    """A watch of frames and estimates, one a second."""

    def __init__(self, family, errors) -> None:
        absolute = DriftMonitor(family, QUICK, errors)
        check = EstimateCheck(family, QUICK)
        spectral = SpectralMonitor(CUTOFF, QUICK)
        self.watch = DriftWatch(absolute, spectral, check=check)
        self.family, self.specimen, self.time = family, Specimen(), 0
        self.rng = np.random.default_rng(0)

    def __call__(self, n: int, truth, estimate) -> str:
        blur = transfer(self.family, truth)
        for _ in range(n):
            self.watch.add_spectrum(self.time, self.specimen.frame(blur))
            found = estimate + self.rng.normal(0, 0.001, 7)
            self.watch.update(
                TrackState(self.time, found, np.eye(7) * 1e-6, 7.0, True, False, found)
            )
            self.time += 1
        return self.watch.status.contradiction


@pytest.fixture
def fed(family, errors) -> Fed:
    fed = Fed(family, errors)
    assert fed(60, START, START) == ""
    return fed


def test_estimates_that_follow_are_not_contradicted(fed):
    assert fed(60, START + CHANGE, START + CHANGE) == ""
    assert fed.watch.spectral.status.strength > 0.03


def test_estimates_that_do_not_follow_are_until_the_specimen_changes(fed):
    assert "according to the estimates it has hardly" in fed(60, START + CHANGE, START)
    assert "The estimates are not reliable" in fed.watch.assess().text
    assert fed(30, START, START)
    fed.watch.specimen_changed()
    assert fed.watch.status.contradiction == ""


def test_estimates_of_a_change_that_the_spectra_deny_are(fed):
    assert "according to the spectra it has hardly" in fed(
        60, START, START + 2 * CHANGE
    )
