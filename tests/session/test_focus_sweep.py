"""A focus sweep in a session: live mode continues; the drive returns and refocuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

from deepblur_live.acquisition.simulated import simulated_core
from deepblur_live.acquisition.simulated_sample import SimulatedSample, StageDrift
from deepblur_live.acquisition.specimen import load_specimen
from deepblur_live.acquisition.trajectory import AberrationTrajectory
from deepblur_live.acquisition.truth import read_truth
from deepblur_live.blur import family_from_profile, focus_direction
from deepblur_live.drift import DriftState
from deepblur_live.identification import SweepError
from deepblur_live.identification.sweep import search as sweep_search
from deepblur_live.profile import Channel, Profile
from deepblur_live.runtime.frame import FrameResult, FrameState, SynchronousPipeline
from deepblur_live.session import LiveSession, connection
from deepblur_live.session.focus_sweep import (
    SessionSweep,
    accept_sweep,
    refocus_session,
    sweep_session,
    undisturbed,
)
from deepblur_live.session.verification import NOT_VERIFIED, VerificationState

pytestmark = pytest.mark.usefixtures("no_pictures")

PROFILE = Profile()
FAMILY = family_from_profile(PROFILE)
PER_UM = focus_direction(FAMILY)[0]
OUT_UM = 0.3
SEEN, KNOWN = [], []


class Echo(SynchronousPipeline):
    """Keeps each frame's truth, and what is known; identifies nothing."""

    def start_from(self, known):
        KNOWN.append(known)

    def process(self, frame):
        SEEN.append(read_truth(frame.metadata))
        return FrameResult(
            frame.info, FrameState.RAW_ONLY, "not identified", raw=frame.pixels
        )


@pytest.fixture
def session(monkeypatch, tmp_path):
    """A session whose microscope is 0.3 µm out of focus."""
    for name, value in {"_TRIED": 300, "_STARTS": 5, "_ROUNDS": 1}.items():
        monkeypatch.setattr(sweep_search, name, value)
    monkeypatch.setattr(connection, "pipeline_factory", lambda profile: Echo)
    still = np.zeros(FAMILY.n_coefficients)
    still[0] = OUT_UM * PER_UM
    sample = SimulatedSample(
        load_specimen(),
        shape=(256, 256),
        family=FAMILY,
        trajectory=AberrationTrajectory(tuple(still)),
        stage=StageDrift(0.0),
    )
    core = simulated_core(sample, exposure_ms=20.0)
    SEEN.clear()
    KNOWN.clear()
    with LiveSession.from_profile(PROFILE, core, tmp_path, in_process=True) as session:
        yield session
    core.unloadAllDevices()


def test_from_alert_to_new_baseline(session):
    core = session.core
    core.startContinuousSequenceAcquisition()
    sweep = sweep_session(session, 0.3)
    assert core.isSequenceRunning()
    assert core.getPosition() == 0.0
    assert sweep.refocus_um == pytest.approx(-OUT_UM, abs=0.05)
    assert sweep.position_um == 0.0
    # The frames out of focus did not reach the session.
    out = [t.coefficients[0] for t in SEEN if t is not None]
    assert all(value == pytest.approx(OUT_UM * PER_UM, abs=1e-3) for value in out)
    refocus_session(session, sweep, 0.5)
    assert core.getPosition() == pytest.approx(sweep.refocus_um)
    assert core.isSequenceRunning()
    assert session.monitor.status.state is DriftState.BASELINING
    assert session.flush()
    lines = (session.folder / "events.jsonl").read_text("utf-8").splitlines()
    events = {e["event"]: e for e in map(json.loads, lines)}
    assert events["focusSweep"]["refocus_um"] == pytest.approx(sweep.refocus_um)
    assert "rebaselined" in events and "refocused" in events
    # What holds after the move: the sweep's answer, without the defocus.
    accepted = events["sweepAccepted"]
    assert accepted["moved_um"] == pytest.approx(sweep.refocus_um)
    moved = sweep.coefficients + sweep.refocus_um * focus_direction(FAMILY)
    np.testing.assert_allclose(accepted["coefficients"], moved, atol=1e-9)
    assert moved[0] == pytest.approx(0, abs=0.01)


def test_live_mode_continues_after_a_failure(session, monkeypatch):
    core = session.core
    core.startContinuousSequenceAcquisition()

    def fail():
        raise RuntimeError("camera unplugged")

    monkeypatch.setattr(core, "snapImage", fail)
    with pytest.raises(RuntimeError, match="unplugged"):
        sweep_session(session, 0.3)
    assert core.isSequenceRunning() and core.getPosition() == 0.0


def a_sweep(**more):
    p = FAMILY.n_coefficients
    values = {
        "coefficients": np.zeros(p),
        "covariance": 1e-4 * np.eye(p),
        "refocus_um": 0.8,
        "refocus_sigma_um": 0.03,
        "chi2": 1.0,
        "thick": "",
        "turn_known": True,
        "shifts": np.zeros((3, 2), int),
        "position_um": 0.0,
        "time_s": 0.0,
        "clock": "12:03",
    }
    return SessionSweep(**{**values, **more})


def test_a_thick_specimen_has_nothing_to_accept(session):
    sweep = a_sweep(thick="planes do not agree")
    for accept in (accept_sweep, lambda *two: refocus_session(*two, 1.0)):
        with pytest.raises(SweepError, match="planes do not agree"):
            accept(session, sweep)
    assert session.core.getPosition() == 0.0
    assert session.verification is NOT_VERIFIED


def test_a_large_move_and_a_replay_are_refused(session, monkeypatch):
    with pytest.raises(SweepError, match="exceeds the allowed range"):
        refocus_session(session, a_sweep(), 0.5)
    assert session.core.getPosition() == 0.0
    # Now that is too far for estimates, wherever the move would end.
    session.core.setPosition(-0.4)
    with pytest.raises(SweepError, match="1200 nm from focus"):
        accept_sweep(session, a_sweep())
    assert session.verification is NOT_VERIFIED
    monkeypatch.setattr(session, "core", None)
    with pytest.raises(SweepError, match="no microscope"):
        sweep_session(session, 0.3)


def test_the_move_is_limited_from_where_the_drive_is_now(session):
    sweep = a_sweep(refocus_um=0.3)
    session.core.setPosition(-0.4)
    with pytest.raises(SweepError, match=r"\+700 nm .* has been moved since the sweep"):
        refocus_session(session, sweep, 0.5)
    assert session.core.getPosition() == pytest.approx(-0.4)
    session.core.setPosition(-0.1)
    refocus_session(session, sweep, 0.5)
    assert session.core.getPosition() == pytest.approx(0.3)


def test_a_sweep_that_outlives_its_session_leaves_the_camera_off(session):
    core, listener = session.core, session.listener
    core.startContinuousSequenceAcquisition()
    with undisturbed(session, core):
        session.close()
    assert not core.isSequenceRunning()
    # Nor does the listener follow it again.
    core.startContinuousSequenceAcquisition()
    assert not listener.live_mode
    core.stopSequenceAcquisition()


def test_a_sequence_with_an_end_is_not_replaced_by_live_mode(session):
    core = session.core
    core.startSequenceAcquisition(10_000, 0.0, False)
    with pytest.raises(SweepError, match="a sequence of images is running"):
        sweep_session(session, 0.3)
    assert core.isSequenceRunning() and core.getPosition() == 0.0
    core.stopSequenceAcquisition()


@pytest.mark.parametrize(
    ("then", "used"),
    [
        (lambda session: None, True),
        (lambda session: session.rebaseline(), False),
        (lambda session: session.specimen_changed("Objective was set to 20x"), False),
    ],
)
def test_a_sweep_is_not_used_after_a_rebaseline_or_another_objective(
    session, then, used
):
    accept_sweep(session, a_sweep())
    assert session.verification.reason.endswith("are awaited")
    then(session)
    session.core.snapImage()
    assert session.listener.drain(10)
    assert len(KNOWN) == used


def test_after_a_rebaseline_no_estimate_is_awaited(session):
    accept_sweep(session, a_sweep())
    session.rebaseline()
    assert session.verification.text == NOT_VERIFIED.text
    session.set_verification(VerificationState.VERIFIED, "other evidence")
    session.rebaseline()
    assert session.verification.state is VerificationState.VERIFIED


def test_a_sweep_belongs_to_the_channel_before_it(session):
    """It is analysed at that channel's wavelength, and given to its frames alone."""
    session.profile = PROFILE.model_copy(
        update={"channels": {"red": Channel(emission_nm=605.0)}}
    )
    core = session.core
    dark = np.zeros((64, 64), np.uint16)

    def frames(*channels):
        for name in channels:
            tags = {"index": {"c": name}, "channel": name}
            session.listener.submit(dark, tags)
            assert session.listener.drain(10)

    frames("green", "red")
    sweep = sweep_session(session, 0.3)
    assert sweep.series.channel == "red"
    # The same wavefront is fewer of the longer waves.
    assert sweep.refocus_um == pytest.approx(-OUT_UM, abs=0.08)
    frames("green")
    core.setPosition(sweep.position_um + sweep.refocus_um)
    accept_sweep(session, sweep)
    verifications = {
        key.channel: session.series_history(key).verification.reason
        for key in session.series
    }
    assert "are awaited" in verifications["red"]
    assert "are awaited" not in verifications["green"]
    frames("green")
    assert not KNOWN
    frames("red")
    assert len(KNOWN) == 1
