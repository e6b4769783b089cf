"""The MDA of a run ends with the run, whenever that is."""

from __future__ import annotations

import threading

import pytest
from useq import MDASequence

from deepblur_live.acquisition.core_signals import let_core_exit
from deepblur_live.acquisition.scene import SimulatedScene
from deepblur_live.acquisition.simulated import simulated_core
from deepblur_live.cli.mda import MdaRun

PATIENCE = 20.0


@pytest.fixture
def core(monkeypatch):
    monkeypatch.setenv("PYMM_SIGNALS_BACKEND", "psygnal")
    scene = SimulatedScene(shape=(128, 128))
    core = simulated_core(scene, exposure_ms=1.0, wait=lambda seconds: None)
    let_core_exit(core)
    return core


def test_a_cancellation_that_the_mda_forgets_is_made_again(core, monkeypatch):
    """The end comes after the last look for it, before the event begins."""
    wait, cancel = core.mda._wait_until_event, core.mda.cancel
    looked, cancelled = threading.Event(), threading.Event()

    def hold(event):
        ended = wait(event)
        if event.index["t"] == 1:
            looked.set()
            assert cancelled.wait(PATIENCE)
        return ended

    def tell():
        cancel()
        cancelled.set()

    monkeypatch.setattr(core.mda, "_wait_until_event", hold)
    monkeypatch.setattr(core.mda, "cancel", tell)
    sequence = MDASequence(time_plan={"interval": 0.001, "loops": 100_000})
    with MdaRun(core, sequence) as mda:
        mda.start()
        assert looked.wait(PATIENCE)
        assert not mda.ended
    assert mda.ended
    assert core.mda.status.finish_reason == "canceled"


def test_one_that_never_began_ends_at_once(core):
    with MdaRun(core, MDASequence()) as mda:
        assert not mda.ended
    assert not mda.ended
