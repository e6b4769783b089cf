"""The menu File: what it starts, and what it says when that fails."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog, QLabel, QMessageBox

from deepblur_live.gui import file_actions
from deepblur_live.gui.busy import busy
from deepblur_live.gui.child_process import ChildProcess
from deepblur_live.gui.file_actions import recent_sessions
from deepblur_live.gui.main_window import MainWindow


class FakeProcess:
    started: ClassVar[list[FakeProcess]] = []

    def __init__(self, purpose: str, arguments: list[str]) -> None:
        self.purpose, self.arguments = purpose, arguments
        self.exit_code: int | None = None
        self.last_line = "Error: no such thing"
        self.ended = self.left = False
        self.started.append(self)

    def end(self) -> None:
        self.ended = True

    def leave(self) -> None:
        self.left = True


@pytest.fixture
def window(session, image, qtbot, tmp_path, monkeypatch):
    monkeypatch.setattr(file_actions, "ChildProcess", FakeProcess)
    monkeypatch.setattr(FakeProcess, "started", [])
    session.folder = tmp_path / "2026-11-29_12-00-00"
    session.folder.mkdir()
    session.publish(image)
    window = MainWindow(session, remember=False)
    qtbot.addWidget(window)
    window.timer.stop()
    refresh(window)
    yield window
    assert window.error == ""


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    opened: list[str] = []
    monkeypatch.setattr(
        QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile())
    )
    return opened


def refresh(window) -> None:
    window._slow_at = -np.inf
    window.refresh()


def choose(monkeypatch, path: Path) -> None:
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))


def test_a_report_is_written_in_the_session_folder_and_opened(
    window, session, opened
) -> None:
    window.commands.report.trigger()
    (process,) = FakeProcess.started
    assert process.arguments == ["report", str(session.folder)]
    refresh(window)
    assert f"writing the report of {session.folder.name} …" in window.status.text()
    assert not window.commands.report.isEnabled()
    process.exit_code = 0
    refresh(window)
    assert opened == [(session.folder / "report.html").as_posix()]
    assert process.ended and window.commands.report.isEnabled()
    assert "writing" not in window.status.text()


def test_a_report_that_fails_says_why(window, opened) -> None:
    window.commands.report.trigger()
    FakeProcess.started[0].exit_code = 1
    refresh(window)
    assert window.message.text() == "the report failed: Error: no such thing"
    assert opened == []


def test_closing_ends_the_report_and_leaves_other_windows(
    window, monkeypatch, tmp_path
) -> None:
    choose(monkeypatch, tmp_path / "cells.tif")
    window.commands.open_recording.trigger()
    window.commands.report.trigger()
    window.close()
    recording, report = FakeProcess.started
    assert report.ended and recording.left and not recording.ended


def test_a_recording_opens_in_a_window_of_its_own(
    window, session, monkeypatch, tmp_path
) -> None:
    profile = tmp_path / "rig.toml"
    profile.write_text('name = "room 12"\n')
    choose(monkeypatch, profile)
    window.commands.open_profile.trigger()
    choose(monkeypatch, tmp_path / "cells.ome.zarr" / "zarr.json")
    window.commands.open_recording.trigger()
    assert FakeProcess.started[0].arguments == [
        "replay",
        str(tmp_path / "cells.ome.zarr"),
        "--window",
        "--profile",
        str(profile),
        "--output",
        str(tmp_path),
    ]
    FakeProcess.started[0].exit_code = 1
    refresh(window)
    assert window.message.text() == "cells.ome.zarr: Error: no such thing"


def test_a_mistake_in_a_profile_is_shown(window, monkeypatch, tmp_path) -> None:
    profile = tmp_path / "rig.toml"
    profile.write_text("[optics]\nnumerical_apertur = 1.4\n")
    choose(monkeypatch, profile)
    shown = []
    monkeypatch.setattr(QMessageBox, "warning", lambda *args: shown.append(args[2]))
    window.commands.open_profile.trigger()
    assert "numerical_apertur" in shown[0]


def test_recent_sessions_are_listed_and_opened(window, opened, tmp_path) -> None:
    for name in ("2026-11-27_09-00-00", "2026-11-28_09-00-00_2", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "2026-11-27_09-00-00" / "report.html").touch()
    menu = window._menus.recent
    menu.aboutToShow.emit()
    names = ["2026-11-29_12-00-00", "2026-11-28_09-00-00_2", "2026-11-27_09-00-00"]
    assert [action.text() for action in menu.actions()] == names
    assert [path.name for path in recent_sessions(tmp_path)] == names
    menu.triggered.emit(menu.actions()[2])
    assert opened == [(tmp_path / names[2] / "report.html").as_posix()]
    menu.triggered.emit(menu.actions()[1])
    assert FakeProcess.started[0].arguments == ["report", str(tmp_path / names[1])]


def test_recent_sessions_in_a_folder_that_is_gone(window, session, tmp_path) -> None:
    session.folder = tmp_path / "unplugged" / "2026-11-29_12-00-00"
    window._menus.recent.aboutToShow.emit()
    refresh(window)
    assert "cannot be listed" in window.message.text()
    assert "unplugged" in window.message.text()
    (action,) = window._menus.recent.actions()
    assert action.text() == "no recent sessions"


def test_a_process_reports_its_end_and_last_line(monkeypatch) -> None:
    # Python itself in place of the command: no imports that take seconds.
    real = sys.executable
    # As if this were Windows, where a file has the system's code page.
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    monkeypatch.setattr(
        "deepblur_live.gui.child_process.subprocess.Popen",
        popen_of([real, "-c", "print('one'); raise SystemExit('two ä')"]),
    )
    process = ChildProcess("a test", [])
    until = time.monotonic() + 20
    while process.exit_code is None and time.monotonic() < until:
        pass
    assert process.exit_code == 1
    assert process.last_line == "two ä"
    process.end()


def test_a_process_is_stopped(monkeypatch) -> None:
    monkeypatch.setattr(
        "deepblur_live.gui.child_process.subprocess.Popen",
        popen_of([sys.executable, "-c", "import time; time.sleep(60)"]),
    )
    process = ChildProcess("a test", [])
    assert process.exit_code is None
    process.end()
    assert process.exit_code not in (None, 0)


def test_a_process_that_outlives_its_kill(monkeypatch) -> None:
    monkeypatch.setattr(
        "deepblur_live.gui.child_process.subprocess.Popen",
        popen_of([sys.executable, "-c", "import time; time.sleep(60)"]),
    )
    process = ChildProcess("a test", [])
    child = process._process

    def wait(timeout_s: float) -> None:
        raise subprocess.TimeoutExpired("a test", timeout_s)

    monkeypatch.setattr(child, "wait", wait)
    process.end(0.0)  # as when the window closes: no exception
    monkeypatch.undo()
    assert child.wait(20) != 0


def test_output_that_cannot_be_read(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(
        "deepblur_live.gui.child_process.subprocess.Popen",
        popen_of([sys.executable, "-c", "print('one')"]),
    )
    log = tmp_path / "child.log"
    process = ChildProcess("a test", [], log)
    process.end()
    log.unlink()
    assert process.last_line.startswith("The output of a test cannot be read: ")


def popen_of(command: list[str]):
    real = subprocess.Popen
    return lambda _, **options: real(command, **options)


def test_a_wait_has_a_word_on_the_screen(qapp) -> None:
    def shown() -> list[str]:
        widgets = qapp.topLevelWidgets()
        return [w.text() for w in widgets if isinstance(w, QLabel) and w.isVisible()]

    with busy("Starting the pipeline …"):
        assert shown() == ["Starting the pipeline …"]
    assert shown() == []
