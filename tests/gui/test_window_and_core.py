"""The window of a session with a core: its controls follow the camera."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pymmcore_plus import CMMCorePlus

from deepblur_live.gui.main_window import MainWindow


@pytest.fixture
def core(qapp: object) -> Iterator[CMMCorePlus]:
    core = CMMCorePlus()
    core.loadSystemConfiguration()
    core.setExposure(5)
    yield core
    if core.isSequenceRunning():
        core.stopSequenceAcquisition()
    core.unloadAllDevices()


@pytest.fixture
def window(session, core: CMMCorePlus, qtbot) -> Iterator[MainWindow]:
    session.core = core
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.show()
    qtbot.waitUntil(lambda: window.commands.live.isEnabled(), timeout=10_000)
    yield window
    window.close()
    assert window.error == ""


def test_live_mode_starts_and_stops(
    window: MainWindow, core: CMMCorePlus, qtbot
) -> None:
    window.commands.live.trigger()
    qtbot.waitUntil(core.isSequenceRunning, timeout=10_000)
    qtbot.waitUntil(lambda: not window.commands.snap.isEnabled(), timeout=10_000)
    assert window.commands.live.isChecked()
    window.commands.live.trigger()
    qtbot.waitUntil(lambda: not core.isSequenceRunning(), timeout=10_000)


def test_changes_from_elsewhere_are_shown(
    window: MainWindow, core: CMMCorePlus, qtbot
) -> None:
    core.setExposure(42.5)
    qtbot.waitUntil(lambda: window.toolbar.exposure.value() == 42.5, timeout=10_000)
    core.startContinuousSequenceAcquisition(0)
    qtbot.waitUntil(lambda: window.commands.live.isChecked(), timeout=10_000)
    core.stopSequenceAcquisition()
    qtbot.waitUntil(lambda: not window.commands.live.isChecked(), timeout=10_000)


def test_an_edited_exposure_is_set(
    window: MainWindow, core: CMMCorePlus, qtbot
) -> None:
    window.toolbar.exposure.setValue(12.5)
    window.toolbar.exposure.editingFinished.emit()
    qtbot.waitUntil(lambda: core.getExposure() == 12.5, timeout=10_000)


def test_the_cores_errors_are_shown(
    window: MainWindow, core: CMMCorePlus, qtbot, monkeypatch
) -> None:
    def refuse() -> None:
        raise RuntimeError("the shutter is stuck")

    monkeypatch.setattr(core, "snap", refuse)
    window.commands.snap.trigger()
    qtbot.waitUntil(
        lambda: window.message.text() == "Snap: the shutter is stuck", timeout=10_000
    )


@pytest.mark.parametrize("ours", [True, False])
def test_closing_ends_live_mode_only_if_started_here(
    window: MainWindow, core: CMMCorePlus, qtbot, ours: bool
) -> None:
    if ours:
        window.commands.live.trigger()
    else:
        core.startContinuousSequenceAcquisition(0)
    qtbot.waitUntil(core.isSequenceRunning, timeout=10_000)
    qtbot.waitUntil(lambda: window.commands.live.isChecked(), timeout=10_000)
    window.close()
    assert core.isSequenceRunning() is not ours


def test_no_controls_without_a_core(session, qtbot) -> None:
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.show()
    assert not window.toolbar.exposure.isVisible()
    assert not window.commands.live.isEnabled()
