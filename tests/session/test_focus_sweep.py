"""A focus sweep in a session: live mode goes on, the drive returns, then refocuses."""

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
from deepblur_live.identification import SweepError, sweep_search
from deepblur_live.profile import Profile
from deepblur_live.runtime.frame import FrameResult, FrameState, SynchronousPipeline
from deepblur_live.session import LiveSession, connection
from deepblur_live.session.focus_sweep import refocus_session, sweep_session

PROFILE = Profile()
FAMILY = family_from_profile(PROFILE)
PER_UM = focus_direction(FAMILY)[0]
OUT_UM = 0.3
SEEN = []


class Echo(SynchronousPipeline):
    """Keeps each frame's truth; identifies nothing."""

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
    with LiveSession.from_profile(PROFILE, core, tmp_path, in_process=True) as session:
        yield session
    core.unloadAllDevices()


def test_from_alert_to_new_baseline(session):
    core = session.core
    core.startContinuousSequenceAcquisition()
    result = sweep_session(session, 0.3)
    assert core.isSequenceRunning()
    assert core.getPosition() == 0.0
    assert result.refocus_um == pytest.approx(-OUT_UM, abs=0.05)
    # The frames out of focus did not reach the session.
    out = [t.coefficients[0] for t in SEEN if t is not None]
    assert all(value == pytest.approx(OUT_UM * PER_UM, abs=1e-3) for value in out)
    refocus_session(session, result.refocus_um, 0.5)
    assert core.getPosition() == pytest.approx(result.refocus_um)
    assert session.monitor.status.state is DriftState.BASELINING
    assert session.flush()
    lines = (session.folder / "events.jsonl").read_text("utf-8").splitlines()
    events = {e["event"]: e for e in map(json.loads, lines)}
    assert events["focusSweep"]["refocus_um"] == pytest.approx(result.refocus_um)
    assert "rebaselined" in events and "refocused" in events


def test_live_mode_goes_on_after_a_failure(session, monkeypatch):
    core = session.core
    core.startContinuousSequenceAcquisition()

    def fail():
        raise RuntimeError("camera unplugged")

    monkeypatch.setattr(core, "snapImage", fail)
    with pytest.raises(RuntimeError, match="unplugged"):
        sweep_session(session, 0.3)
    assert core.isSequenceRunning() and core.getPosition() == 0.0


def test_a_large_move_and_a_replay_are_refused(session, monkeypatch):
    with pytest.raises(SweepError, match="exceeds the allowed range"):
        refocus_session(session, 0.8, 0.5)
    assert session.core.getPosition() == 0.0
    monkeypatch.setattr(session, "core", None)
    with pytest.raises(SweepError, match="no microscope"):
        sweep_session(session, 0.3)
