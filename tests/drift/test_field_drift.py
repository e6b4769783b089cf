"""Drift of a field: charts of its named terms, the size over the frame, its alert."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from spectra import CUTOFF, FINE, Specimen

from deepblur_live.blur import Estimate
from deepblur_live.blur.places import places
from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.drift import DriftMonitor, DriftState, Tracker
from deepblur_live.drift.charts import Charts
from deepblur_live.drift.contradiction import predicted_change
from deepblur_live.drift.spectral_change import MeanSpectrum, SpectralComparison
from deepblur_live.profile import Drift

FIELD = ZernikeField()
TILT = FIELD.names.index("defocus, linear, along x")
QUICK = Drift(batch_s=5, baseline_points=10, cooldown_s=0)


def follow(errors, change, n=60):
    """Feed a tracker and a monitor, changed by `change` after two minutes."""
    rng = np.random.default_rng(0)
    tracker, monitor = Tracker(FIELD, errors), DriftMonitor(FIELD, QUICK, errors)
    sigma = 0.02 * FIELD.prior.scale
    covariance = np.diag(sigma**2)
    start = 0.3 * FIELD.prior.scale
    alerts = []
    for time in range(120 + n):
        truth = start + (change if time >= 120 else 0)
        found = Estimate(rng.normal(truth, sigma), covariance, 0.5)
        alerts.append(monitor.update(tracker.update(time, found)))
    return monitor.status, [alert for alert in alerts if alert is not None]


def test_a_tilt_raises_an_alarm_that_names_it(errors):
    change = np.zeros(FIELD.n_coefficients)
    change[TILT] = 0.2
    status, alerts = follow(errors, change)
    assert status.state is DriftState.ALARM
    assert status.change == pytest.approx(FIELD.metric.size(change), rel=0.1)
    assert alerts[-1].coefficients == ("defocus, linear, along x",)
    assert "specimen or the camera" in alerts[-1].cause


def test_terms_that_are_not_charted_count_in_the_size_alone(errors):
    change = np.zeros(FIELD.n_coefficients)
    others = [not term.nodal for term in FIELD.terms]
    change[others] = 0.04
    status, alerts = follow(errors, change)
    assert status.change == pytest.approx(FIELD.metric.size(change), rel=0.1)
    assert status.change > QUICK.alarm
    # The charts give no evidence of these.
    assert not alerts


def test_charts_of_the_first_coefficients_do_not_depend_on_the_others():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(40, 7))
    points[20:, :3] += 2.0
    few, some = Charts(np.full(3, 1e-3), 500.0), Charts(np.full(7, 1e-3), 500.0, 3)
    for time, point in enumerate(points[:24]):
        alone, among = few.add(time, point[:3]), some.add(time, point)
        assert_allclose(
            (alone.cusum, alone.mewma), (among.cusum, among.mewma), rtol=1e-9
        )


def test_the_spectrum_of_a_field_is_that_of_the_mean_power():
    before, now = np.zeros((2, FIELD.n_coefficients))
    now[TILT] = 0.2
    own = Specimen().own

    def comparison_of(c):
        psfs = [FIELD.psf(_tensor(c), place).numpy() for place in places(FIELD)]
        side = 64 * -(-psfs[0].shape[-1] // 64)
        step = side // 64
        power = np.mean(
            [
                np.abs(np.fft.rfft2(p, s=(side, side)))[::step, ::step] ** 2
                for p in psfs
            ],
            0,
        )
        return MeanSpectrum(own * (power + 3e-4) + 1e-6, 100, FINE)

    comparison = SpectralComparison(comparison_of(before), CUTOFF)
    measured = comparison.compare(comparison_of(now))
    predicted, slopes = predicted_change(FIELD, comparison, before, now)
    off = measured.shapes - predicted
    size = np.sqrt(predicted @ comparison.metric @ predicted)
    assert np.sqrt(off @ comparison.metric @ off) < 0.05 * size
    # In the middle of the frame a tilt changes nothing.
    assert size > 0.05
    step = np.zeros_like(now)
    step[TILT] = 1e-4
    ends = [
        predicted_change(FIELD, comparison, before, now + s)[0] for s in (step, -step)
    ]
    assert_allclose(slopes[:, TILT], (ends[0] - ends[1]) / 2e-4, rtol=1e-3, atol=1e-4)


def _tensor(c):
    import torch

    return torch.from_numpy(c)
