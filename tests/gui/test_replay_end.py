"""A finished replay says so, and its frames can be looked through."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QApplication

from deepblur_live.acquisition import open_series
from deepblur_live.gui.main_window import MainWindow
from deepblur_live.gui.replay import Replay

COUNT = 6
RAW_ONLY = 2


@pytest.fixture
def frames(image):
    return np.stack([image + 10 * k for k in range(COUNT)])


@pytest.fixture
def replay(tmp_path, frames):
    tifffile.imwrite(tmp_path / "cells.tif", frames)
    with open_series(tmp_path / "cells.tif") as source:
        yield Replay(source)


@pytest.fixture
def window(session, replay, tmp_path, qtbot):
    session.folder = tmp_path / "2026-11-29_12-00-00"
    window = MainWindow(session, replay=replay)
    qtbot.addWidget(window)
    window.show()
    window.timer.stop()
    yield window
    session.recorder.close()
    window.close()
    assert window.error == ""


def redraw(window) -> None:
    window._slow_at = -np.inf
    window.refresh()
    QApplication.processEvents()


def finish(window, replay, session, frames) -> None:
    for count, frame in enumerate(frames):
        result = session.publish(frame)
        if count == RAW_ONLY:
            result = session.publish_raw_only(frame, "constant")
        session.recorder.add(result)
    replay.finished.set()
    redraw(window)


def test_it_says_how_far_it_is(window, session) -> None:
    session.listener.statistics = type(session.listener.statistics)(
        captured=3, processed=2, in_flight=1
    )
    redraw(window)
    assert window.replay_bar.text.text() == f"frame 2 of {COUNT}"
    assert window.replay_bar.slider.isHidden()
    assert window.toolbar.chip.text() != "FINISHED"


def test_the_end_is_reported_with_folder_and_report(
    window, replay, session, frames, monkeypatch
) -> None:
    finish(window, replay, session, frames)
    bar = window.replay_bar
    assert window.toolbar.chip.text() == "FINISHED"
    assert bar.text.text() == (
        f"Replay finished: {COUNT} frames, saved in {session.folder.name}"
    )
    assert bar.text.toolTip() == str(session.folder)
    opened = []
    monkeypatch.setattr(
        QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile())
    )
    bar.folder_button.click()
    assert opened == [session.folder.as_posix()]
    asked = []
    monkeypatch.setattr(window._files, "write_report", asked.append)
    bar.report_button.click()
    assert asked == [session.folder]


def test_the_slider_goes_back_through_the_recording(
    window, replay, session, frames
) -> None:
    finish(window, replay, session, frames)
    for index in (0, 3):
        window.replay_bar.slider.setValue(index)
        redraw(window)
        np.testing.assert_array_equal(window.images.raw.image, frames[index])
        assert window.shown.info.number == index
    assert "were not recorded" in window.images.deblurred.notice
    assert "--save-deblurred" in window.images.deblurred.notice


def test_kept_deblurred_frames_are_shown_too(
    window, replay, session, frames, tmp_path, qtbot
) -> None:
    session.recorder.start(tmp_path / "kept.ome.zarr", replay.source.path)
    finish(window, replay, session, frames)
    assert not session.recorder.recording
    qtbot.waitUntil(lambda: session.recorder.counts[-1].written == COUNT, timeout=5000)
    for index in (4, 1):
        window.replay_bar.slider.setValue(index)
        redraw(window)
        shown = window.images.deblurred.image
        np.testing.assert_allclose(shown, 1.5 * frames[index])
    window.replay_bar.slider.setValue(RAW_ONLY)
    redraw(window)
    assert "passed on raw" in window.images.deblurred.notice


def test_a_recording_of_some_frames_is_not_mixed_up(
    window, replay, session, frames, tmp_path, qtbot
) -> None:
    session.publish(frames[0])
    session.recorder.start(tmp_path / "late.ome.zarr", replay.source.path)
    finish(window, replay, session, frames[2:])
    qtbot.waitUntil(lambda: session.recorder.counts[-1].written == 4, timeout=5000)
    window.replay_bar.slider.setValue(3)
    redraw(window)
    assert f"late.ome.zarr has 4 of the {COUNT} frames" in (
        window.images.deblurred.notice
    )


def test_a_failed_replay_says_so(window, replay, session, frames) -> None:
    replay.error = "the replay ended: frame 4 cannot be read"
    finish(window, replay, session, frames[:4])
    assert window.toolbar.chip.text() == "REPLAY FAILED"
    assert "frame 4" in window.toolbar.chip.toolTip()
    assert window.replay_bar.text.text().startswith("Replay ended early")
