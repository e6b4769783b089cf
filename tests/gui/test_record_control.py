"""The Record button: it starts, stops, and says what is kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
from qtpy.QtWidgets import QFileDialog

from deepblur_live.acquisition import open_series
from deepblur_live.acquisition.core_signals import let_core_exit
from deepblur_live.acquisition.simulated import simulated_core
from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.gui.main_window import MainWindow


@pytest.fixture
def window(qtbot, session, tmp_path):
    session.folder = tmp_path
    window = MainWindow(session)
    window.timer.stop()  # refreshed by hand
    qtbot.addWidget(window)
    yield window
    session.recorder.close()
    assert window.error == ""


def kept(window, session, image, count):
    for _ in range(count):
        session.recorder.add(session.publish(image))
    window._refresh_texts(0.0)
    return window.status.text()


def test_it_records_until_it_is_pressed_again(window, session, image, tmp_path):
    assert "recording" not in kept(window, session, image, 2)
    window.commands.record.trigger()
    assert "● recording recording_" in kept(window, session, image, 3)
    assert window.commands.record.isChecked()
    assert f"recording the deblurred frames in {tmp_path}" in window.message.text()
    window.commands.record.trigger()
    assert session.calls == ["recordingStarted", "recordingStopped"]
    session.recorder.close()
    assert "recording" not in kept(window, session, image, 2)
    assert not window.commands.record.isChecked()
    (counts,) = session.recorder.counts
    assert counts.written == len(open_series(counts.path)) == 3
    assert open_series(counts.raw).dtype == image.dtype


def test_another_file_may_be_chosen(window, session, image, tmp_path, monkeypatch):
    answer = [("", "")]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: answer[0])
    window.commands.record_in.trigger()
    assert not session.recorder.recording
    answer[0] = (str(tmp_path / "cells"), "OME-TIFF (*.ome.tiff)")
    window.commands.record_in.trigger()
    assert window.commands.record.isChecked()
    kept(window, session, image, 2)
    session.recorder.close()
    with open_series(tmp_path / "cells.ome.tiff") as series:
        assert len(series) == 2


def test_what_cannot_be_written_is_reported(window, session, tmp_path):
    session.folder = tmp_path / "file"
    session.folder.touch()
    window.commands.record.trigger()
    assert not window.commands.record.isChecked()
    assert "cannot be used for the recording" in window.error
    window.message.error = ""


def test_every_frame_is_a_choice_of_a_window_with_a_camera(qtbot, session):
    session.core = simulated_core(SimulatedSample(shape=(64, 64)))
    let_core_exit(session.core)
    window = MainWindow(session)
    window.timer.stop()
    qtbot.addWidget(window)
    listener = session.listener
    window.commands.every_frame.trigger()
    assert listener.processes_every_frame
    listener.statistics = replace(listener.statistics, in_flight=8, waiting=7)
    window._refresh_texts(0.0)
    assert "in flight 8 (7 waiting)" in window.status.text()
    window.commands.every_frame.trigger()
    assert not listener.processes_every_frame
    window.close()
    assert window.error == ""
