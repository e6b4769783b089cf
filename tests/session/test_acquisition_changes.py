"""Another place, another exposure: a new baseline, and no alert of the optics."""

from __future__ import annotations

import queue

import numpy as np
import pytest
from pymmcore_plus import CMMCorePlus

from deepblur_live.acquisition.core_signals import let_core_exit
from deepblur_live.profile import Drift, Profile
from deepblur_live.runtime.frame import Frame
from deepblur_live.session import LiveSession
from deepblur_live.session.core_moves import follow_core
from deepblur_live.session.specimen import SpecimenWatch

SMALL, LARGE = np.zeros((4, 4), np.uint16), np.zeros((8, 4), np.uint16)


def frame(pixels=SMALL, **metadata) -> Frame:
    return Frame(pixels, 0, 0.0, "live", metadata)


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (frame(), frame(), ""),
        (frame(), frame(LARGE), "the frame's size has changed"),
        (frame(), frame(SMALL.astype(np.uint8)), "the frame's size has changed"),
        (frame(camera="A"), frame(camera="B"), "the camera has changed"),
        (frame(exposure_ms=10.0), frame(exposure_ms=10.1), ""),
        (frame(exposure_ms=10.0), frame(exposure_ms=20.0), "the exposure has changed"),
        (frame(exposure_ms=10.0), frame(), ""),
        (frame(index={"t": 1, "p": 0}), frame(index={"t": 2, "p": 0}), ""),
        (frame(index={"p": 0}), frame(index={"p": 1}), "the position has changed"),
        (frame(index={"c": 0}), frame(index={"c": 1}), "the channel has changed"),
        (frame(index={"z": 0}), frame(index={"z": 1}), "the focus has been moved"),
    ],
)
def test_what_is_another_specimen(first, second, why):
    watch = SpecimenWatch()
    assert watch.notice(first) == ""
    assert watch.notice(second) == why
    assert watch.notice(second) == ""


def test_what_is_told_counts_once_from_the_next_frame():
    watch = SpecimenWatch()
    watch.tell("before the first frame nothing can differ")
    assert watch.notice(frame()) == ""
    watch.tell("the stage has moved")
    assert watch.notice(frame()) == "the stage has moved"
    assert watch.notice(frame()) == ""


@pytest.mark.parametrize("backend", ["psygnal", "qt"])
def test_a_core_tells_of_stage_turret_and_preset(monkeypatch, request, backend):
    if backend == "qt":
        monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
        request.getfixturevalue("qapp")
    monkeypatch.setenv("PYMM_SIGNALS_BACKEND", backend)
    core = CMMCorePlus()
    let_core_exit(core)
    core.loadSystemConfiguration()
    told: queue.Queue[str] = queue.Queue()
    unfollow = follow_core(core, told.put)

    def told_next() -> str:
        return told.get(timeout=20)

    # Set again as it was: no change, nor is the core's word of its startup preset,
    # which may still be on its way.
    preset = core.getCurrentConfig("System")
    core.events.configSet.emit("System", preset)
    objective = core.getStateLabel("Objective")
    core.events.propertyChanged.emit("Objective", "Label", objective)
    core.setXYPosition(1, 1)
    # A focus lock moves the focus all the time.
    core.setPosition(5.0)
    core.setProperty("Camera", "Gain", 1)
    core.setXYPosition(100, 0)
    assert told_next() == "the stage has moved"
    core.waitForSystem()
    core.setConfig("Channel", "FITC")
    said = {told_next()}
    while "Channel was set to FITC" not in said:
        said.add(told_next())
    label = next(x for x in core.getStateLabels("Objective") if x != objective)
    core.setProperty("Objective", "Label", label)
    while told_next() != f"Objective was set to {label}":
        pass
    unfollow()
    core.unloadAllDevices()


def test_after_its_end_a_core_tells_nothing(monkeypatch):
    monkeypatch.setenv("PYMM_SIGNALS_BACKEND", "psygnal")
    core = CMMCorePlus()
    let_core_exit(core)
    core.loadSystemConfiguration()
    told = []
    follow_core(core, told.append)()
    core.events.XYStagePositionChanged.emit("XY", 1000.0, 0.0)
    core.events.configSet.emit("Channel", "FITC")
    assert told == []
    core.unloadAllDevices()


@pytest.mark.usefixtures("quick_monitor")
def test_a_moved_stage_raises_no_alert(family, listener, results, start, clock):
    profile = Profile(drift=Drift(baseline_points=5))
    session = LiveSession(profile, family, listener, clock=clock)
    for _ in range(8):
        listener.tell(results(start))
    session.specimen.tell("the stage has moved")
    for _ in range(3):
        listener.tell(results(start + 0.1))
    assert session.alerts == ()
    assert session.status.reason == "the stage has moved"
    assert session.status.n_baseline == 3
    session.close()
