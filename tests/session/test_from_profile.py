"""A session made from a profile: its worker, its camera, its alarms, its end."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest

from deepblur_live.acquisition.core_signals import let_core_exit
from deepblur_live.acquisition.simulated import simulated_core
from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.blur import Estimate
from deepblur_live.drift import TrackState
from deepblur_live.profile import Alerts, Profile, ProfileError
from deepblur_live.runtime.frame import FrameResult, FrameState, SynchronousPipeline
from deepblur_live.session import LiveSession, connection

GAMMA = np.full(8, 0.01)


class Pipeline(SynchronousPipeline):
    """Identifies every frame alike."""

    def process(self, frame):
        covariance = 1e-6 * np.eye(8)
        return FrameResult(
            frame.info,
            FrameState.DEBLURRED,
            raw=frame.pixels,
            deblurred=frame.pixels.astype(np.float32),
            estimate=Estimate(GAMMA, covariance, 1.0),
            track=TrackState(frame.time, GAMMA, covariance, 7.0, True),
        )


@pytest.fixture(autouse=True)
def no_thread_stays(monkeypatch):
    monkeypatch.setattr(connection, "pipeline_factory", lambda profile: Pipeline)
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(20)
        assert not thread.is_alive()


def test_frames_of_a_script_from_a_file_of_a_rig(tmp_path):
    rig = tmp_path / "rig.toml"
    rig.write_text('name = "mine"', "utf-8")
    with LiveSession.from_profile(
        rig, folder=str(tmp_path / "kept"), every_frame=True, in_process=True
    ) as session:
        assert session.core is None
        pixels = np.random.default_rng(0).integers(0, 999, (64, 64), np.uint16)
        for k in range(5):
            session.listener.submit(pixels, {}, "script", time=float(k), block=True)
        assert session.summary is None
    assert session.summary is session.close()
    assert (session.summary.processed, session.summary.dropped) == (5, 0)
    kept = json.loads((session.folder / "session.json").read_text("utf-8"))
    assert (kept["profile"]["name"], kept["state"]) == ("mine", "finished")


def test_a_core_is_followed_and_its_live_mode_ended(monkeypatch):
    monkeypatch.setenv("PYMM_SIGNALS_BACKEND", "psygnal")
    core = simulated_core(SimulatedSample(shape=(64, 64)), exposure_ms=1.0)
    let_core_exit(core)
    came = threading.Event()
    with LiveSession.from_profile(Profile(), core, in_process=True) as session:
        assert session.core is core
        session.listener.events.resultReady.connect(lambda result: came.set())
        core.startContinuousSequenceAcquisition()
        assert came.wait(20)
    assert not core.isSequenceRunning()
    assert session.summary.processed > 0
    assert session.folder is None


def test_a_core_that_fails_at_the_end_takes_no_frame_with_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PYMM_SIGNALS_BACKEND", "psygnal")
    core = simulated_core(SimulatedSample(shape=(64, 64)))
    let_core_exit(core)

    class Slow(Pipeline):
        def process(self, frame):
            time.sleep(0.3)
            return super().process(frame)

    monkeypatch.setattr(connection, "pipeline_factory", lambda profile: Slow)
    session = LiveSession.from_profile(Profile(), core, tmp_path, in_process=True)

    def gone():
        raise RuntimeError("camera: no answer")

    monkeypatch.setattr(core, "isSequenceRunning", gone)
    session.listener.submit(np.ones((64, 64)), {}, "script")
    with pytest.raises(RuntimeError, match="camera: no answer"):
        session.close()
    assert (session.summary.processed, session.summary.dropped) == (1, 0)


def test_alarms_go_where_the_profile_says(tmp_path):
    path = tmp_path / "alarms.jsonl"
    profile = Profile(alerts=Alerts(on_alarm=(f"jsonl:{path}",)))
    with LiveSession.from_profile(profile, in_process=True) as session:
        assert [sink.name for sink in session.sinks] == [f"jsonl:{path}"]
        session.listener.submit(np.ones((64, 64)), {}, "script")
    with LiveSession.from_profile(profile, in_process=True, sinks=()) as session:
        assert session.sinks == ()
        session.listener.submit(np.ones((64, 64)), {}, "script")


def test_what_cannot_be_started_leaves_nothing_behind(monkeypatch, tmp_path):
    with pytest.raises(ProfileError, match=r"no-such\.toml"):
        LiveSession.from_profile(tmp_path / "no-such.toml")
    nowhere = Profile(alerts=Alerts(on_alarm=("webhook:ftp://host",)))
    with pytest.raises(ValueError, match=r"alerts\.on_alarm 'webhook:ftp"):
        LiveSession.from_profile(nowhere, in_process=True)
    (tmp_path / "a file").touch()
    with pytest.raises(OSError, match="a file"):
        LiveSession.from_profile(Profile(), folder=tmp_path / "a file", in_process=True)

    def broken():
        raise FileNotFoundError("zernike7: no weights")

    monkeypatch.setattr(connection, "pipeline_factory", lambda profile: broken)
    with pytest.raises(RuntimeError, match="zernike7: no weights"):
        LiveSession.from_profile(Profile(), folder=tmp_path / "kept", in_process=True)
    assert not (tmp_path / "kept").exists()


def test_a_slot_may_close_the_session():
    session = LiveSession.from_profile(Profile(), in_process=True, sinks=())
    closed, errors = threading.Event(), session.listener.background_errors

    def close(*_):
        session.close()
        closed.set()

    session.listener.events.resultReady.connect(close)
    session.listener.submit(np.ones((64, 64)), {}, "script")
    assert closed.wait(20)
    assert session.summary is not None
    assert (list(errors), list(session.background_errors)) == ([], [])
