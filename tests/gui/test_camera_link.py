"""Live mode, snap and exposure with a core and its demo camera."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from pymmcore_plus import CMMCorePlus

from deepblur_live.gui.camera_link import CameraLink


def wait_until(what: Callable[[], bool], timeout: float = 10.0) -> bool:
    """Process Qt events until `what` is true; return False after the timeout."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + timeout
    while not what():
        if time.monotonic() > end:
            return False
        if (app := QApplication.instance()) is not None:
            app.processEvents()
        threading.Event().wait(0.005)
    return True


@pytest.fixture(params=["psygnal", "qt"])
def core(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, qapp: object
) -> Iterator[CMMCorePlus]:
    monkeypatch.setenv("PYMM_SIGNALS_BACKEND", request.param)
    core = CMMCorePlus()
    core.loadSystemConfiguration()
    core.setExposure(5)
    yield core
    if core.isSequenceRunning():
        core.stopSequenceAcquisition()
    core.unloadAllDevices()


@pytest.fixture
def link(core: CMMCorePlus) -> Iterator[CameraLink]:
    link = CameraLink(core)
    assert wait_until(lambda: link.exposure_ms is not None)
    yield link
    assert link.close()


def test_live_starts_and_stops(core: CMMCorePlus, link: CameraLink) -> None:
    link.set_live(True)
    assert wait_until(lambda: link.live and core.isSequenceRunning())
    link.set_live(False)
    assert wait_until(lambda: not link.live and not core.isSequenceRunning())
    assert link.error == ""


def test_live_mode_started_elsewhere_is_noticed(
    core: CMMCorePlus, link: CameraLink
) -> None:
    core.startContinuousSequenceAcquisition(0)
    assert wait_until(lambda: link.live, 0.9)
    core.stopSequenceAcquisition()
    assert wait_until(lambda: not link.live, 0.9)


def test_exposure_is_read_and_set(core: CMMCorePlus, link: CameraLink) -> None:
    core.setExposure(33)
    assert wait_until(lambda: link.exposure_ms == 33)
    link.set_exposure(7.5)
    assert wait_until(lambda: link.exposure_ms == 7.5)
    assert core.getExposure() == 7.5


def test_live_mode_continues_after_a_change_of_exposure(
    core: CMMCorePlus, link: CameraLink
) -> None:
    link.set_live(True)
    assert wait_until(lambda: link.live)
    link.set_exposure(9)
    assert wait_until(lambda: core.getExposure() == 9 and not link.busy)
    assert link.live and core.isSequenceRunning()


def test_snap_takes_a_picture(core: CMMCorePlus, link: CameraLink) -> None:
    seen: list[str] = []
    core.events.imageSnapped.connect(seen.append)
    link.snap()
    assert wait_until(lambda: bool(seen))
    assert wait_until(lambda: not link.busy)
    assert link.error == ""


def test_an_error_is_reported_until_a_command_succeeds(
    core: CMMCorePlus, link: CameraLink
) -> None:
    link.set_live(True)
    assert wait_until(lambda: link.live)
    link.snap()
    assert wait_until(lambda: link.error.startswith("Snap: "))
    link.set_live(False)
    assert wait_until(lambda: not link.live and link.error == "")


def test_a_core_without_a_camera(core: CMMCorePlus) -> None:
    core.unloadAllDevices()
    link = CameraLink(core)
    link.snap()
    assert wait_until(lambda: link.error.startswith("Snap: "))
    # An exposure event may arrive after the camera was unloaded; the next poll
    # corrects it.
    assert wait_until(lambda: link.exposure_ms is None)
    assert link.close()


@pytest.mark.parametrize("ours", [True, False])
def test_close_ends_live_mode_only_if_started_here(
    core: CMMCorePlus, ours: bool
) -> None:
    link = CameraLink(core)
    if ours:
        link.set_live(True)
    else:
        core.startContinuousSequenceAcquisition(0)
    assert wait_until(lambda: link.live and not link.busy)
    assert link.close()
    assert core.isSequenceRunning() is not ours


def test_commands_do_not_accumulate(
    core: CMMCorePlus, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(core, "snap", lambda: release.wait(10))
    link = CameraLink(core)
    for _ in range(20):
        link.snap()
    assert "busy" in link.error
    assert link.busy
    release.set()
    assert wait_until(lambda: not link.busy)
    assert link.close()


def test_close_has_a_timeout(
    core: CMMCorePlus, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, release = threading.Event(), threading.Event()

    def never() -> None:
        asked.set()
        release.wait(30)

    monkeypatch.setattr(core, "snap", never)
    link = CameraLink(core)
    link.snap()
    assert asked.wait(5)
    assert link.close(timeout=0.05) is False
    release.set()
    assert link.close()
