"""Live mode and MDAs of a real core pause for a block, and continue."""

from __future__ import annotations

import threading

import pytest
from useq import MDASequence

from deepblur_live.acquisition.core_signals import let_core_exit
from deepblur_live.acquisition.pause import acquisition_paused
from deepblur_live.acquisition.simulated import simulated_core
from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.acquisition.specimen import load_specimen
from deepblur_live.identification import SweepError

PATIENCE = 20.0


@pytest.fixture
def core(monkeypatch):
    monkeypatch.setenv("PYMM_SIGNALS_BACKEND", "psygnal")
    sample = SimulatedSample(load_specimen()[100:340, 100:340], shape=(64, 64))
    core = simulated_core(sample, exposure_ms=1.0, wait=lambda seconds: None)
    let_core_exit(core)
    yield core
    core.mda.cancel()
    core.unloadAllDevices()


@pytest.fixture
def frames(core):
    """Frames of the MDA so far; `more()` waits for another."""
    came = threading.Semaphore(0)
    core.mda.events.frameReady.connect(lambda *_: came.release())

    def more() -> bool:
        while came.acquire(blocking=False):
            pass
        return came.acquire(timeout=PATIENCE)

    more.came = came
    return more


@pytest.fixture
def run(core):
    started = []

    def start(interval_s):
        plan = {"interval": interval_s, "loops": 5000}
        started.append(core.run_mda(iter(MDASequence(time_plan=plan))))

    yield start
    for thread in started:
        for _ in range(100):
            core.mda.cancel()
            thread.join(0.1)
            if not thread.is_alive():
                break
        assert not thread.is_alive()


@pytest.mark.parametrize("interval_s", [0.0, 0.3])
def test_no_frame_comes_while_an_mda_is_paused(core, frames, run, interval_s):
    """Also where the runner begins an event in spite of the first request."""
    run(interval_s)
    assert frames()
    with acquisition_paused(core):
        assert core.mda.is_paused()
        while frames.came.acquire(blocking=False):
            pass
        assert not frames.came.acquire(timeout=0.7)
    assert frames()


def test_an_mda_continues_after_an_error(core, frames, run):
    run(0.0)
    assert frames()
    with pytest.raises(ZeroDivisionError), acquisition_paused(core):
        raise ZeroDivisionError
    assert frames()


def test_a_pause_of_the_users_own_stays(core, frames, run):
    run(0.0)
    assert frames()
    with acquisition_paused(core):
        with acquisition_paused(core):
            pass
        assert core.mda.is_paused()


def test_an_event_that_takes_too_long_is_a_reason(core, run, monkeypatch):
    release = threading.Event()
    snapping = threading.Event()
    snap = core.snapImage

    def slow():
        snapping.set()
        release.wait(PATIENCE)
        snap()

    monkeypatch.setattr(core, "snapImage", slow)
    run(0.0)
    assert snapping.wait(PATIENCE)
    with (
        pytest.raises(SweepError, match=r"has not paused within 0.05 s"),
        acquisition_paused(core, timeout_s=0.05),
    ):
        raise AssertionError("not reached")
    assert not core.mda.status.pause_requested
    release.set()


def test_live_mode_pauses_and_continues(core):
    core.startContinuousSequenceAcquisition()
    with acquisition_paused(core):
        assert not core.isSequenceRunning()
    assert core.isSequenceRunning()
    core.stopSequenceAcquisition()
    with acquisition_paused(core):
        pass
    assert not core.isSequenceRunning()


@pytest.mark.parametrize("answers", [(False,), (True, False)])
def test_live_mode_stays_off_when_it_is_not_wanted_any_more(core, answers):
    """Also if the answer changes while the camera starts."""
    answer = iter(answers)
    core.startContinuousSequenceAcquisition()
    with acquisition_paused(core, resume=lambda: next(answer)):
        pass
    assert not core.isSequenceRunning()
    assert next(answer, None) is None
