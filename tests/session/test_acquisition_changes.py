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
from deepblur_live.session.comparability import AcquisitionChanges
from deepblur_live.session.core_changes import follow_core

pytestmark = pytest.mark.usefixtures("no_pictures")

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
        (frame(region=(0, 0, 4, 4)), frame(region=(0, 0, 4, 4)), ""),
        (frame(region=(0, 0, 4, 4)), frame(), ""),
        (
            frame(region=(0, 0, 4, 4)),
            frame(region=(0, 9, 4, 4)),
            "the region of interest has been moved",
        ),
        (frame(pixel_size_nm=65.0), frame(pixel_size_nm=65.0), ""),
        (frame(), frame(pixel_size_nm=65.0), ""),
        (
            frame(pixel_size_nm=65.0),
            frame(pixel_size_nm=108.0),
            "the pixel size has changed",
        ),
        (frame(index={"t": 1, "p": 0}), frame(index={"t": 2, "p": 0}), ""),
        (frame(index={"p": 0}), frame(index={"p": 1}), "the position has changed"),
        (frame(index={"c": 0}), frame(index={"c": 1}), "the channel has changed"),
        (frame(index={"z": 0}), frame(index={"z": 1}), "the focus has been moved"),
    ],
)
def test_what_is_another_specimen(first, second, why):
    changes = AcquisitionChanges()
    assert changes.check(first) == ""
    assert changes.check(second) == why
    assert changes.check(second) == ""


def test_a_report_counts_once_from_the_next_frame():
    changes = AcquisitionChanges()
    changes.report("before the first frame nothing can differ")
    assert changes.check(frame()) == ""
    changes.report("the stage has moved")
    assert changes.check(frame()) == "the stage has moved"
    assert changes.check(frame()) == ""


def test_what_changed_before_a_known_start_does_not_count():
    starts = [0]
    changes = AcquisitionChanges(lambda: starts[0])
    changes.check(frame(camera="A"))
    changes.report("the stage has moved")
    starts[0] = 1
    assert changes.check(frame(camera="B")) == ""
    assert changes.check(frame(camera="A")) == "the camera has changed"
    # One that is reported after the start counts, also before the first frame.
    starts[0] = 2
    changes.report("the stage has moved")
    assert changes.check(frame(camera="A")) == "the stage has moved"


@pytest.mark.parametrize("backend", ["psygnal", "qt"])
def test_a_core_reports_stage_turret_and_preset(monkeypatch, request, backend):
    if backend == "qt":
        monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
        request.getfixturevalue("qapp")
    monkeypatch.setenv("PYMM_SIGNALS_BACKEND", backend)
    core = CMMCorePlus()
    let_core_exit(core)
    core.loadSystemConfiguration()
    reported: queue.Queue[str] = queue.Queue()
    unfollow = follow_core(core, reported.put)

    def next_reported() -> str:
        return reported.get(timeout=20)

    # Set again to the same value: no change; nor is the core's late report of its
    # startup preset.
    preset = core.getCurrentConfig("System")
    core.events.configSet.emit("System", preset)
    objective = core.getStateLabel("Objective")
    core.events.propertyChanged.emit("Objective", "Label", objective)
    core.setXYPosition(1, 1)
    # An autofocus moves the focus all the time.
    core.setPosition(5.0)
    core.setProperty("Camera", "Gain", 1)
    core.setXYPosition(100, 0)
    assert next_reported() == "the stage has moved"
    core.waitForSystem()
    core.setConfig("Channel", "FITC")
    seen = {next_reported()}
    while "Channel was set to FITC" not in seen:
        seen.add(next_reported())
    label = next(x for x in core.getStateLabels("Objective") if x != objective)
    core.setProperty("Objective", "Label", label)
    while next_reported() != f"Objective was set to {label}":
        pass
    unfollow()
    core.unloadAllDevices()


def test_after_its_end_nothing_is_reported(monkeypatch):
    monkeypatch.setenv("PYMM_SIGNALS_BACKEND", "psygnal")
    core = CMMCorePlus()
    let_core_exit(core)
    core.loadSystemConfiguration()
    reported = []
    follow_core(core, reported.append)()
    core.events.XYStagePositionChanged.emit("XY", 1000.0, 0.0)
    core.events.configSet.emit("Channel", "FITC")
    assert reported == []
    core.unloadAllDevices()


@pytest.mark.usefixtures("quick_monitor")
def test_a_moved_stage_raises_no_alert(family, listener, results, start, clock):
    profile = Profile(drift=Drift(baseline_points=5))
    session = LiveSession(profile, family, listener, clock=clock)
    for _ in range(8):
        listener.emit(results(start))
    session.specimen_changed("the stage has moved")
    for _ in range(3):
        listener.emit(results(start + 0.1))
    assert session.alerts == ()
    assert session.status.reason == "the stage has moved"
    assert session.status.n_baseline == 3
    session.close()
