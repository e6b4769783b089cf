"""Spectra and estimates together: whose state and alerts are shown."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from spectra import CUTOFF, Specimen, gaussian

from deepblur_live.drift import (
    CONTRAST_UNIT,
    DriftMonitor,
    DriftState,
    DriftWatch,
    SpectralMonitor,
    TrackState,
)
from deepblur_live.profile import Drift

QUICK = Drift(batch_s=5, baseline_points=10, cooldown_s=0)
START = np.array([0.05, 0.03, -0.04, 0.02, 0.0, 0.01, -0.02])
SHARP, SOFT = gaussian(1.2), gaussian(1.3)


@dataclass
class Fed:
    """A watch fed with a frame a second, and an estimate from it."""

    watch: DriftWatch
    specimen: Specimen = field(default_factory=Specimen)
    time: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def __call__(self, n: int, blur=SHARP, off: float = 0.0, spectra: bool = True):
        """Feed n frames; return the alerts."""
        alerts = []
        for _ in range(n):
            if spectra:
                frame = self.specimen.frame(blur)
                alerts.append(self.watch.add_spectrum(self.time, frame))
            found = START + off + self.rng.normal(0, 0.001, 7)
            track = TrackState(self.time, found, np.eye(7) * 1e-6, 7.0, accepted=True)
            alerts.append(self.watch.update(track))
            self.time += 1
        return [alert for alert in alerts if alert is not None]


@pytest.fixture
def fed(family, errors) -> Fed:
    absolute = DriftMonitor(family, QUICK, errors)
    return Fed(DriftWatch(absolute, SpectralMonitor(CUTOFF, QUICK)))


def test_without_spectra_the_estimates_raise_alerts(fed):
    assert fed(60, spectra=False) == []
    (alert, *_) = fed(40, off=0.05, spectra=False)
    assert alert.coefficients
    assert fed.watch.status.state in (DriftState.WARN, DriftState.ALARM)
    assert fed.watch.status.limits == (QUICK.warn, QUICK.alarm)


def test_estimates_alone_do_not_raise_an_alert_while_the_spectra_are_watched(fed):
    assert fed(60) == []
    assert fed(40, off=0.05) == []
    status = fed.watch.status
    assert status.state is DriftState.OK
    # The estimates keep their own row.
    assert status.change > 0.1
    assert status.spectral.strength < 0.01
    # Nor do their limits count.
    assert np.isnan(status.limits).all()
    assert status.spectral.limits == (QUICK.warn_contrast, QUICK.alarm_contrast)


def test_a_softer_picture_is_described_in_per_cent_and_names_no_mode(fed):
    fed(60)
    (alert, *_) = fed(40, SOFT, off=0.05)
    assert alert.unit == CONTRAST_UNIT
    assert alert.coefficients == ()
    assert "softer (contrast of details −" in alert.text
    assert "defocus" not in alert.text
    assert "focus sweep" in alert.remedy
    assert alert.since == pytest.approx(60, abs=25)
    assert fed.watch.assess().level is fed.watch.status.state


def test_modes_are_named_where_the_baseline_is_known(fed):
    fed.watch.known_to = 0.01
    fed(60)
    alerts = fed(60, SOFT, off=0.05)
    assert any("mostly" in alert.text for alert in alerts)


def test_another_specimen_falls_back_to_the_estimates(fed):
    fed(60)
    fed.specimen = Specimen(seed=1, coherence=0.1)
    fed(16)
    assert not fed.watch.spectral.armed
    assert "specimen has changed" in fed.watch.status.spectral.reason
    assert fed.watch.status.state is DriftState.OK
    assert fed(40, off=0.05)[0].coefficients


def test_exposure_restarts_the_estimates_alone(fed):
    fed(60)
    fed.watch.exposure_changed("the exposure has changed")
    assert fed.watch.status.baseline is None
    assert fed.watch.spectral.armed
    fed.watch.specimen_changed("the stage has moved")
    assert not fed.watch.spectral.armed


def test_acknowledging_snoozing_and_a_new_baseline_concern_both(fed):
    fed(60)
    fed(40, SOFT)
    fed.watch.acknowledge()
    assert fed.watch.status.acknowledged
    fed.watch.rebaseline()
    assert math.isnan(fed.watch.status.spectral.strength)
    fed(70, SOFT)
    fed.watch.snooze(1000)
    assert fed(40) == []
    assert fed.watch.status.state is not DriftState.OK


def test_estimates_that_were_contradicted_are_not_followed(fed):
    fed.watch.unreliable = "not reliable on this specimen: frames say nothing"
    assert fed(100, off=0.05, spectra=False) == []
    status = fed.watch.status
    assert status.state is DriftState.BASELINING
    assert status.reason == fed.watch.unreliable
    assert fed.watch.absolute.status.n_baseline == 0
    # The spectra need no estimate.
    fed(60)
    assert fed.watch.status.state is DriftState.OK


def test_an_alarm_from_estimates_ends_when_they_are_contradicted(fed):
    fed(60, spectra=False)
    assert fed(60, off=0.05, spectra=False)
    assert fed.watch.status.state in (DriftState.WARN, DriftState.ALARM)
    fed.watch.unreliable = "not reliable on this specimen: frames say nothing"
    status = fed.watch.status
    assert (status.state, status.reason) == (
        DriftState.BASELINING,
        fed.watch.unreliable,
    )
    assert fed.watch.assess() is None
    # Nor is their change carried over to the next specimen.
    fed.watch.unreliable = ""
    fed.watch.specimen_changed()
    assert fed(60, spectra=False) == []
    assert fed.watch.status.state is DriftState.OK


def test_what_is_known_of_the_baseline_ends_with_it(fed):
    fed.watch.rebaseline(known_to=0.01)
    fed(60)
    assert fed.watch.known_to == 0.01
    fed.watch.exposure_changed("the exposure has changed")
    assert fed.watch.known_to == 0.01
    fed.specimen = Specimen(seed=1, coherence=0.1)
    fed(16)
    assert fed.watch.spectral.specimens == 1
    assert math.isinf(fed.watch.known_to)
    fed.watch.rebaseline(known_to=0.01)
    fed.watch.rebaseline()
    assert math.isinf(fed.watch.known_to)
