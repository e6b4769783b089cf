"""From an alert over a sweep and its remedy to a verified new baseline, on a core."""

from __future__ import annotations

import functools
import json
import threading

import numpy as np
import pytest
from truth_pipeline import TruthPipeline
from useq import MDASequence

from deepblur_live.acquisition.core_signals import let_core_exit
from deepblur_live.acquisition.listener import DeblurListener
from deepblur_live.acquisition.simulated import simulated_core
from deepblur_live.acquisition.simulated_sample import SimulatedSample, StageDrift
from deepblur_live.acquisition.specimen import load_specimen
from deepblur_live.acquisition.trajectory import AberrationTrajectory
from deepblur_live.blur import family_from_profile, focus_direction
from deepblur_live.drift import DriftState
from deepblur_live.identification.sweep import search as sweep_search
from deepblur_live.profile import Profile
from deepblur_live.session import LiveSession, connection
from deepblur_live.session.focus_sweep import (
    accept_sweep,
    refocus_session,
    sweep_session,
)
from deepblur_live.session.record import SessionRecord
from deepblur_live.session.verification import NOT_VERIFIED, VerificationState

pytestmark = pytest.mark.usefixtures("no_pictures")

PROFILE = Profile.model_validate(
    {"drift": {"batch_s": 3, "baseline_points": 5, "cooldown_s": 0}}
)
FAMILY = family_from_profile(PROFILE)
PER_UM = focus_direction(FAMILY)
# Astigmatism, coma and spherical aberration of the objective; no defocus.
STILL = np.array([0.0, 0.03, -0.02, 0.02, 0.01, 0.0, 0.0, 0.02])
PATIENCE = 120.0
OUT_UM = 0.3


@pytest.fixture(autouse=True)
def quick_search(monkeypatch):
    for name, value in {"_TRIED": 300, "_STARTS": 5, "_ROUNDS": 1}.items():
        monkeypatch.setattr(sweep_search, name, value)


class Sample(SimulatedSample):
    """Keeps the truth of each frame; their number is the session's clock."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.truths = []

    def frame(self, *args, **more):
        made = super().frame(*args, **more)
        self.truths.append(made.coefficients)
        return made


class Pace:
    """Holds the camera until its frames have been processed, on any machine."""

    session = None

    def __call__(self, seconds):
        if self.session is not None:
            # Less than the core waits for a frame when live mode is stopped.
            self.session.listener.drain(1.0)


@pytest.fixture
def core():
    sample = Sample(
        load_specimen()[:320, :320],
        shape=(256, 256),
        family=FAMILY,
        trajectory=AberrationTrajectory(tuple(STILL)),
        stage=StageDrift(0.0),
        bleaching_s=np.inf,
    )
    pace = Pace()
    core = simulated_core(sample, exposure_ms=500.0, wait=pace)
    core.sample, core.pace = sample, pace
    let_core_exit(core)
    yield core
    core.mda.cancel()
    core.unloadAllDevices()


@pytest.fixture
def begin(core, monkeypatch, tmp_path):
    """Start sessions, whose clock is a second a frame; they end with the test."""
    monkeypatch.setattr(SessionRecord, "_pictures", lambda record, samples: ())
    clocked = functools.partial(
        DeblurListener, clock=lambda: float(len(core.sample.truths))
    )
    monkeypatch.setattr(connection, "DeblurListener", clocked)
    sessions = []

    def make(share=1.0, *, in_process=True):
        truths = core.sample.truths if in_process else None
        factory = functools.partial(TruthPipeline, share, truths)
        monkeypatch.setattr(connection, "pipeline_factory", lambda profile: factory)
        session = LiveSession.from_profile(
            PROFILE, core, tmp_path, every_frame=True, in_process=in_process
        )
        sessions.append(session)
        core.pace.session = session
        return session

    yield make
    core.pace.session = None
    for session in sessions:
        session.close()
        assert not session.background_errors


def wait_for(session, what):
    """Wait until `what` holds, looking after each result."""
    met = threading.Event()

    def look(result):
        if what(session):
            met.set()

    session.listener.events.resultReady.connect(look)
    try:
        assert met.wait(PATIENCE), (session.status, session.verification)
    finally:
        session.listener.events.resultReady.disconnect(look)


def is_armed(session):
    return session.monitor.spectral.armed and session.status.state is DriftState.OK


def is_verified(session):
    return session.verification.state is VerificationState.VERIFIED


def events_of(session):
    assert session.flush()
    lines = (session.folder / "events.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_from_alert_to_verified_baseline_with_a_worker_process(core, begin):
    session = begin(in_process=False)
    assert session.listener.worker_pid is not None
    core.startContinuousSequenceAcquisition()
    wait_for(session, is_armed)
    assert session.verification == NOT_VERIFIED
    # The focus drifts.
    core.setPosition(OUT_UM)
    wait_for(session, lambda s: s.alerts)
    assert "focus sweep" in session.alerts[0].remedy
    sweep = sweep_session(session, 0.3)
    assert sweep.refocus_um == pytest.approx(-OUT_UM, abs=0.05)
    assert core.getPosition() == pytest.approx(OUT_UM)
    assert session.status.state in (DriftState.WARN, DriftState.ALARM)
    refocus_session(session, sweep, 0.5)
    assert core.getPosition() == pytest.approx(OUT_UM + sweep.refocus_um)
    assert core.isSequenceRunning()
    assert session.status.state is DriftState.BASELINING
    wait_for(session, lambda s: is_armed(s) and is_verified(s))
    assert session.verification.text == f"verified by a focus sweep at {sweep.clock}"
    assert session.monitor.known_to == sweep.sigma.max()
    kinds = [event["event"] for event in events_of(session)]
    way = ["alertRaised", "focusSweep", "refocused", "sweepAccepted", "alertCleared"]
    assert [kind for kind in kinds if kind in way] == way
    session.specimen_changed("the stage has moved")
    wait_for(session, lambda s: s.verification.state is NOT_VERIFIED.state)
    assert np.isinf(session.monitor.known_to)


def test_a_running_mda_is_paused_swept_and_resumed(core, begin):
    session = begin()
    # An iterator, so that no events are combined to one that cannot be paused.
    events = iter(MDASequence(time_plan={"interval": 0.0, "loops": 1000}))
    run = core.run_mda(events)
    wait_for(session, is_armed)
    core.setPosition(OUT_UM)
    wait_for(session, lambda s: s.alerts)
    sweep = sweep_session(session, 0.3)
    assert core.mda.is_running() and not core.mda.is_paused()
    assert core.getPosition() == pytest.approx(OUT_UM)
    refocus_session(session, sweep, 0.5)
    assert core.mda.is_running() and not core.mda.is_paused()
    wait_for(session, lambda s: is_armed(s) and is_verified(s))
    core.mda.cancel()
    run.join(PATIENCE)


def test_frames_that_do_not_follow_the_focus_are_contradicted(core, begin):
    core.setPosition(OUT_UM)
    # As on thick specimens: a tenth of the defocus is seen.
    session = begin(share=0.1)
    core.startContinuousSequenceAcquisition()
    wait_for(session, lambda s: s.history.times.size > 3)
    sweep = sweep_session(session, 0.3)
    accept_sweep(session, sweep)
    wait_for(session, lambda s: s.verification.state is VerificationState.CONTRADICTED)
    assert session.verification.text.startswith(
        f"not reliable on this specimen: the focus sweep at {sweep.clock} measured "
        f"defocus {sweep.coefficients[0]:+.3f} waves rms, but the frames give +0.0"
    )
    # The estimates are not charted; the spectra are.
    points = session.monitor.absolute.status.n_baseline
    wait_for(session, lambda s: s.monitor.spectral.armed)
    assert session.monitor.absolute.status.n_baseline == points
    session.specimen_changed("another slide")
    wait_for(session, lambda s: s.verification.state is NOT_VERIFIED.state)
    wait_for(session, lambda s: s.monitor.absolute.status.n_baseline > points)
