"""The MDA of a run ends with the run, whenever that is."""

from __future__ import annotations

import threading

import pytest
from useq import MDASequence

from deepblur_live.acquisition.core_signals import let_core_exit
from deepblur_live.acquisition.simulated import simulated_core
from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.cli.cores import MicroscopeError
from deepblur_live.cli.mda import MdaRun, load_sequence

PATIENCE = 20.0


@pytest.fixture
def core(monkeypatch):
    monkeypatch.setenv("PYMM_SIGNALS_BACKEND", "psygnal")
    sample = SimulatedSample(shape=(128, 128))
    core = simulated_core(sample, exposure_ms=1.0, wait=lambda seconds: None)
    let_core_exit(core)
    return core


def test_a_cancellation_that_the_mda_ignores_is_repeated(core, monkeypatch):
    """It comes after the last check, before the event begins."""
    wait, cancel = core.mda._wait_until_event, core.mda.cancel
    checked, cancelled = threading.Event(), threading.Event()

    def hold(event):
        ended = wait(event)
        if event.index["t"] == 1:
            checked.set()
            assert cancelled.wait(PATIENCE)
        return ended

    def cancel_and_note():
        cancel()
        cancelled.set()

    monkeypatch.setattr(core.mda, "_wait_until_event", hold)
    monkeypatch.setattr(core.mda, "cancel", cancel_and_note)
    sequence = MDASequence(time_plan={"interval": 0.001, "loops": 100_000})
    with MdaRun(core, sequence) as mda:
        mda.start()
        assert checked.wait(PATIENCE)
        assert not mda.ended
    assert mda.ended
    assert core.mda.status.finish_reason == "canceled"


def test_one_that_never_began_ends_at_once(core):
    with MdaRun(core, MDASequence()) as mda:
        assert not mda.ended
    assert not mda.ended


def test_a_sequence_is_read_from_yaml(tmp_path):
    file = tmp_path / "three.yaml"
    file.write_text("time_plan:\n  interval: 0\n  loops: 3\n", "utf-8")
    assert len(list(load_sequence(file))) == 3


def test_a_sequence_without_an_event_is_refused_by_name(tmp_path):
    file = tmp_path / "none.json"
    file.write_text('{"metadata": {"foo": 1}}', "utf-8")
    with pytest.raises(MicroscopeError, match=r"none\.json: .* without any event"):
        load_sequence(file)
