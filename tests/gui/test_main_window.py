"""The window on a session set by hand: what it shows, and what it does when asked."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from deepblur_live.cli.windowed import show_replay
from deepblur_live.gui.main_window import MainWindow
from deepblur_live.profile import Display, Profile


@pytest.fixture
def window(session, qtbot) -> Iterator[MainWindow]:
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.show()
    qtbot.waitExposed(window)
    # The tests turn the crank themselves.
    window.timer.stop()
    yield window
    assert window.error == ""


@pytest.fixture
def turn(window: MainWindow) -> Callable[[], None]:
    """Pull and draw as the timer would, words and curves included."""

    def turn() -> None:
        window._slow_at = -np.inf
        window.refresh()
        QApplication.processEvents()

    return turn


def test_it_opens_without_a_frame(window: MainWindow, turn) -> None:
    turn()
    assert window.toolbar.chip.text() == "NO FRAMES"
    assert window.pictures.raw.notice == "waiting for the first frame"
    assert window.banner.isHidden()


def test_a_frame_is_shown(window: MainWindow, session, picture, turn) -> None:
    result = session.publish(picture)
    turn()
    assert window.shown is result
    assert window.pictures.raw.picture is picture
    assert window.pictures.deblurred.picture is result.deblurred
    assert window.pictures.raw.caption.startswith("raw")
    assert window.pictures.deblurred.caption.startswith("deblurred (estimate)")
    for pane in (window.pictures.raw, window.pictures.deblurred):
        drawn = pane.item.image
        assert drawn.dtype == np.uint8
        assert drawn.min() < 20 and drawn.max() == 255
    assert window.toolbar.chip.text() == "OK"
    assert "processed 310" in window.status.text()


def test_the_timer_pulls_by_itself(session, picture, qtbot) -> None:
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.show()
    result = session.publish(picture)
    qtbot.waitUntil(lambda: window.shown is result, timeout=5000)
    assert window.timer.interval() == 33


def test_the_same_frame_is_not_drawn_twice(
    window: MainWindow, session, picture, turn, monkeypatch
) -> None:
    session.publish(picture)
    turn()
    drawn = []
    monkeypatch.setattr(window.pictures.raw.item, "setImage", drawn.append)
    turn()
    turn()
    assert drawn == []


def test_zoom_and_pan_are_linked(window: MainWindow, session, picture, turn) -> None:
    session.publish(picture)
    turn()
    raw, deblurred = window.pictures.raw, window.pictures.deblurred
    for change in (
        lambda: raw.zoom(4),
        lambda: raw.pan(0.3, -0.2),
        lambda: deblurred.zoom(0.5),
        raw.fit,
        raw.zoom_to_pixels,
    ):
        before = raw.view_box.viewRect()
        change()
        QApplication.processEvents()
        one, other = raw.view_box.viewRect(), deblurred.view_box.viewRect()
        assert one != before
        assert one.center().x() == pytest.approx(other.center().x(), abs=0.01)
        assert one.center().y() == pytest.approx(other.center().y(), abs=0.01)
        assert one.width() == pytest.approx(other.width(), rel=1e-3)
    assert raw.view_box.viewRect().width() == pytest.approx(raw.view_box.width())


def test_the_whole_picture_stays_whole_in_a_window_of_another_size(
    window: MainWindow, session, picture, turn
) -> None:
    session.publish(picture)
    turn()
    raw, deblurred = window.pictures.raw, window.pictures.deblurred
    height, width = picture.shape
    for size in ((1300, 520), (1400, 900), (1700, 800)):
        window.resize(*size)
        QApplication.processEvents()
        turn()
        for pane in (raw, deblurred):
            seen = pane.view_box.viewRect()
            tightest = min(seen.width() / width, seen.height() / height)
            assert tightest == pytest.approx(1, rel=0.03)


def test_a_zoom_outlives_a_window_of_another_size(
    window: MainWindow, session, picture, turn
) -> None:
    session.publish(picture)
    turn()
    window.pictures.raw.zoom(4)
    turn()
    seen = window.pictures.raw.view_box.viewRect()
    window.resize(window.width() + 200, window.height() + 100)
    QApplication.processEvents()
    turn()
    now = window.pictures.raw.view_box.viewRect()
    assert now.width() < 1.5 * seen.width()


def test_a_long_message_does_not_widen_the_window(
    window: MainWindow, session, turn
) -> None:
    turn()
    least = window.minimumSizeHint()
    session.background_errors.append("the worker died; " * 30 + "\nTraceback: line 1")
    turn()
    assert window.minimumSizeHint() == least
    assert "Traceback" not in window.message.text()
    assert "Traceback" in window.message.toolTip()


def test_a_replay_that_breaks_off_says_so_while_the_window_is_open(
    session, qtbot
) -> None:
    def frames() -> Iterator[None]:
        raise ValueError("img7.tif: not a readable TIFF")
        yield

    told: list[str] = []
    rig = SimpleNamespace(session=session)
    timer = QTimer()
    timer.timeout.connect(
        lambda: told.extend(
            window.message.text()
            for window in QApplication.topLevelWidgets()
            if isinstance(window, MainWindow)
        )
    )
    timer.start(50)
    with pytest.raises(ValueError, match=r"img7\.tif"):
        show_replay(rig, frames(), seconds=0.6)
    timer.stop()
    assert any("replay ended: img7.tif" in text for text in told)


def test_raw_only_frames_keep_the_zoom(
    window: MainWindow, session, picture, turn
) -> None:
    session.publish(picture)
    turn()
    window.pictures.raw.zoom(4)
    seen = window.pictures.raw.view_box.viewRect()
    session.publish_raw_only(picture, "constant")
    turn()
    session.publish(picture)
    turn()
    assert window.pictures.raw.view_box.viewRect() == seen


def test_raw_only_says_so_and_shows_nothing_old(
    window: MainWindow, session, picture, turn
) -> None:
    session.publish(picture)
    turn()
    session.publish_raw_only(picture, "saturated")
    session.status = replace(session.status, state="raw-only", reason="saturated")
    turn()
    pane = window.pictures.deblurred
    assert pane.picture is None and pane.item.image is None
    assert "raw only" in pane.notice and "saturated" in pane.notice
    assert "estimate" not in pane.caption
    assert window.toolbar.chip.text() == "RAW-ONLY"
    assert window.psf.estimated.text.text() == "no estimate"


def frames() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "flat": np.full((64, 64), 100, np.uint16),
        "zeros": np.zeros((64, 64), np.uint8),
        "nan": np.full((40, 50), np.nan, np.float32),
        "some nan": np.where(rng.random((40, 50)) < 0.3, np.nan, 5.0),
        "infinite": np.full((40, 50), np.inf),
        "colour": rng.integers(0, 255, (40, 50, 3), dtype=np.uint8),
        "colour and alpha": rng.integers(0, 255, (40, 50, 4), dtype=np.uint8),
        "one pixel": np.array([[7]], np.uint8),
        "one row": rng.integers(0, 99, (1, 501), dtype=np.uint16),
        "one column": rng.integers(0, 99, (501, 1), dtype=np.uint16),
        "odd": rng.integers(0, 99, (333, 257), dtype=np.int32),
        "large": rng.integers(0, 4095, (1500, 2048), dtype=np.uint16),
        "bool": rng.random((30, 30)) > 0.5,
        "signed": rng.normal(size=(30, 30)),
        "big endian": rng.integers(0, 99, (30, 30)).astype(">u2"),
        "strided": rng.integers(0, 99, (60, 60), dtype=np.uint16)[::2, ::-2],
        "stack": rng.integers(0, 99, (3, 30, 30), dtype=np.uint16),
        "empty": np.zeros((0, 10), np.uint16),
        "line": np.zeros(10, np.uint16),
    }


@pytest.mark.parametrize("name", frames())
def test_no_frame_brings_it_down(
    window: MainWindow, session, picture, turn, name: str
) -> None:
    pixels = frames()[name]
    session.publish(picture)
    turn()
    session.publish_raw_only(pixels, name)
    turn()
    window.grab()
    session.publish(pixels, deblurred=np.full(pixels.shape, np.nan, np.float32))
    turn()
    window.grab()
    session.publish(picture)
    turn()
    window.grab()
    assert window.pictures.raw.picture is picture
    assert window.error == ""


def test_what_is_no_picture_is_named(window: MainWindow, session, turn) -> None:
    session.publish_raw_only(np.zeros(10, np.uint16), "not an image")
    turn()
    assert "(10,)" in window.pictures.raw.notice


def test_another_size_is_fitted(window: MainWindow, session, picture, turn) -> None:
    session.publish(picture)
    turn()
    session.publish(np.ascontiguousarray(picture[:31, :77]))
    turn()
    seen = window.pictures.raw.view_box.viewRect()
    assert seen.center().x() == pytest.approx(77 / 2)
    assert seen.center().y() == pytest.approx(31 / 2)


def test_baselining_is_counted(window: MainWindow, session, picture, turn) -> None:
    session.status = replace(session.status, state="baselining", n_baseline=7)
    session.publish(picture)
    turn()
    assert window.toolbar.chip.text() == "BASELINING 7/20"


@pytest.mark.parametrize("how", ["button", "key", "elsewhere"])
def test_an_alert_is_acknowledged(
    window: MainWindow, session, picture, turn, how: str, make_alert
) -> None:
    session.publish(picture)
    session.status = replace(session.status, state="alarm")
    session.alerts.append(make_alert(1.0, "alarm", "ALARM: the wavefront has moved"))
    turn()
    assert window.banner.isVisible()
    assert window.banner.text.text() == "<b>ALARM: the wavefront has moved</b>"
    assert window.toolbar.chip.text() == "ALARM"
    if how == "button":
        window.banner.acknowledge_button.click()
    elif how == "key":
        window.toolbar.acknowledge.trigger()
    else:
        session.status = replace(session.status, acknowledged=True)
    turn()
    assert window.banner.isHidden()
    assert session.calls == ([] if how == "elsewhere" else ["acknowledge"])

    session.status = replace(session.status, acknowledged=False)
    session.alerts.append(make_alert(2.0, "alarm", "ALARM: it moved again"))
    turn()
    assert window.banner.isVisible()
    assert window.banner.text.text() == "<b>ALARM: it moved again</b>"


def test_an_alert_tells_its_cause_and_what_to_do(
    window: MainWindow, session, turn, make_alert
) -> None:
    text = "ALARM: moved by <40> nm. Likely cause: a tilt. What to do: Level it."
    session.alerts.append(make_alert(1.0, "alarm", text, "a tilt", "Level it."))
    turn()
    assert window.banner.text.text() == (
        "<b>ALARM: moved by &lt;40&gt; nm.</b><br>Likely cause: a tilt.<br>"
        "What to do: Level it."
    )


def test_an_alert_is_snoozed(
    window: MainWindow, session, picture, turn, make_alert
) -> None:
    session.publish(picture)
    session.status = replace(session.status, state="alarm")
    session.alerts.append(make_alert(1.0, "alarm", "ALARM: moved"))
    turn()
    names = [action.text() for action in window.banner.snooze_button.menu().actions()]
    assert names == ["15 minutes", "1 hour", "4 hours"]
    window.banner.snooze_button.menu().actions()[1].trigger()
    assert session.calls == ["snooze 3600"]
    assert window.banner.isHidden()
    session.status = replace(session.status, snoozed_until=3700.0)
    turn()
    assert window.banner.isHidden()
    assert window.toolbar.chip.text() == "ALARM · SNOOZED"
    assert "until 1:01:40" in window.toolbar.chip.toolTip()
    session.status = replace(session.status, snoozed_until=None)
    session.alerts.append(make_alert(3700.0, "alarm", "ALARM: still there"))
    turn()
    assert window.banner.isVisible()


def test_the_window_fits_on_a_small_screen(
    window: MainWindow, session, picture, turn, make_alert
) -> None:
    session.publish(picture)
    session.alerts.append(make_alert(1.0, "alarm", "ALARM: moved " + 60 * "far "))
    turn()
    assert window.minimumSizeHint().width() <= 900
    assert window.minimumSizeHint().height() <= 700
    window.resize(900, 700)
    turn()
    assert window.size().width() == 900
    assert window.toolbar.chip.isVisible()
    # What has no room is in the bar's menu, and its key works.
    window.toolbar.rebaseline.trigger()
    assert session.calls == ["rebaseline"]


def test_rebaseline_calls_through(
    window: MainWindow, session, picture, turn, make_alert
) -> None:
    session.publish(picture)
    session.alerts.append(make_alert(1.0, "warn", "WARN: moved"))
    turn()
    window.banner.rebaseline_button.click()
    turn()
    assert session.calls == ["rebaseline"]
    assert window.banner.isHidden()
    window.toolbar.rebaseline.trigger()
    assert session.calls == ["rebaseline"] * 2


def test_freeze_holds_the_picture_alone(
    window: MainWindow, session, picture, turn
) -> None:
    first = session.publish(picture)
    turn()
    window.toolbar.freeze.trigger()
    second = session.publish_raw_only(picture + 1, "constant")
    session.status = replace(session.status, state="alarm")
    turn()
    assert window.shown is first
    assert window.pictures.raw.picture is picture
    assert window.toolbar.chip.text() == "ALARM"
    window.toolbar.freeze.trigger()
    third = session.publish(picture)
    turn()
    assert window.shown is third is not second


def test_space_swaps_while_held(window: MainWindow, session, picture, turn) -> None:
    result = session.publish(picture)
    turn()
    raw = window.pictures.raw
    QTest.keyPress(window, Qt.Key.Key_Space)
    assert raw.picture is result.deblurred
    assert raw.caption.startswith("deblurred (estimate)")
    QTest.keyRelease(window, Qt.Key.Key_Space)
    assert raw.picture is picture
    QTest.keyPress(window, Qt.Key.Key_Space)
    QApplication.sendEvent(window, QEvent(QEvent.Type.ActivationChange))
    assert raw.picture is picture
    window.toolbar.flicker.trigger()
    assert raw.picture is result.deblurred
    session.publish_raw_only(picture, "constant")
    turn()
    assert raw.picture is picture and raw.caption.startswith("raw")


def test_keys_move_the_view(window: MainWindow, session, picture, turn) -> None:
    session.publish(picture)
    turn()
    box = window.pictures.raw.view_box
    centre, width = box.viewRect().center().x(), box.viewRect().width()
    QTest.keyClick(window, Qt.Key.Key_Right)
    assert box.viewRect().center().x() > centre
    QTest.keyClick(window, Qt.Key.Key_Plus)
    assert box.viewRect().width() < width
    QTest.keyClick(window, Qt.Key.Key_Minus)
    assert box.viewRect().width() == pytest.approx(width)


def test_locked_levels_are_the_raw_ones(
    window: MainWindow, session, picture, turn
) -> None:
    session.publish(picture)
    turn()
    raw, deblurred = window.pictures.raw, window.pictures.deblurred
    independent = deblurred.item.image.copy()
    assert deblurred._levels != raw._levels
    window.toolbar.lock.trigger()
    turn()
    assert deblurred._levels == raw._levels
    assert deblurred.item.image.mean() > independent.mean()


def test_contrast_can_be_held(window: MainWindow, session, picture, turn) -> None:
    session.publish(picture)
    turn()
    levels = window.pictures.raw._levels
    window.toolbar.auto.trigger()
    session.publish(picture * 10)
    turn()
    assert window.pictures.raw._levels == levels
    window.toolbar.auto.trigger()
    assert window.pictures.raw._levels[1] > 5 * levels[1]


def test_the_crosshair_reads_both_values(
    window: MainWindow, session, picture, turn
) -> None:
    session.publish(picture)
    turn()
    pane = window.pictures.deblurred
    scene = pane.view_box.mapViewToScene(pane.view_box.viewRect().center())
    pane._graphics.scene().sigMouseMoved.emit(scene)
    y, x = picture.shape[0] // 2, picture.shape[1] // 2
    text = window.pictures.raw._readout.text()
    assert text.startswith(f"x {x}   y {y}")
    assert text.endswith(f"{picture[y, x]:g}")
    assert pane._readout.text().endswith(f"{picture[y, x] * 1.5:g}")
    assert all(line.isVisible() for line in window.pictures.raw._cross)
    QApplication.sendEvent(pane, QEvent(QEvent.Type.Leave))
    assert not any(line.isVisible() for line in window.pictures.raw._cross)
    assert window.pictures.raw._readout.text().startswith("frame ")


@pytest.mark.parametrize("units", ["nm", "waves"])
@pytest.mark.parametrize("truth", [True, False])
def test_curves_bands_and_truth(
    session_of, qtbot, make_history, make_alert, units: str, truth: bool
) -> None:
    profile = Profile(display=Display(units=units))
    session = session_of(profile)
    history = make_history(3000, 7, truth=truth)
    session.history = history
    session.alerts.append(make_alert(421.0, "alarm", "moved"))
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.show()
    window.refresh()
    factor = profile.optics.wavelength_nm if units == "nm" else 1.0
    drift = window.drift
    shown = 0
    for k in range(7):
        _, values = drift._curves[k].getData()
        shown += len(values)
        assert values.max() == pytest.approx(factor * history.coefficients[:, k].max())
        assert values[-1] == pytest.approx(factor * history.coefficients[-1, k])
        upper = drift._bands[k][1].getData()[1]
        top = history.coefficients[:, k] + history.sigma[:, k]
        assert upper.max() == pytest.approx(factor * top.max())
        known = drift._truths[k].getData()[1]
        assert (known is not None and len(known) > 0) is truth
        shown += len(upper) * 2 + (len(known) if truth else 0)
    assert shown <= 5000
    change = drift._change_curve.getData()[1]
    assert np.nanmax(change) == pytest.approx(factor * np.nanmax(history.change))
    assert drift._marks.getData()[0].tolist() == [421.0]
    assert ("true" in drift.legend.text()) is truth
    assert "oblique astigmatism" in drift.legend.text()
    assert window.error == ""


def test_short_histories(window: MainWindow, session, turn, make_history) -> None:
    for n in (0, 1, 2, 3):
        session.history = make_history(n, 7)
        turn()
    assert len(window.drift._curves[0].getData()[0]) == 3


def test_the_psf_and_the_true_one(window: MainWindow, session, picture, turn) -> None:
    result = session.publish(picture)
    turn()
    rms = 540 * float(np.sqrt((result.track.coefficients**2).sum()))
    assert f"{rms:.0f} nm rms" in window.psf.estimated.text.text()
    assert "Strehl 0." in window.psf.estimated.text.text()
    assert window.psf.true.isVisible()
    assert f"{1.1 * rms:.0f} nm rms" in window.psf.true.text.text()


def test_a_snapshot_is_saved(
    window: MainWindow, session, picture, turn, tmp_path: Path
) -> None:
    assert window.save_snapshot(tmp_path) == ()
    session.publish(picture)
    session.folder = tmp_path
    turn()
    window.toolbar.save.trigger()
    assert len(list(tmp_path.iterdir())) == 3
    turn()
    assert "saved" in window.message.text()


def test_what_goes_wrong_is_said_and_survived(session, picture, qtbot) -> None:
    def refuse() -> None:
        raise RuntimeError("the session is gone")

    session.acknowledge = refuse
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.toolbar.acknowledge.trigger()
    assert window.error == "RuntimeError: the session is gone"
    assert "the session is gone" in window.message.text()
    session.publish(picture)
    window.refresh()
    assert window.shown is not None


@pytest.mark.parametrize("whose", ["session", "listener"])
def test_errors_out_of_sight_are_told(
    window: MainWindow, session, turn, whose: str
) -> None:
    turn()
    source = session if whose == "session" else session.listener
    source.background_errors.append("the disk is full")
    turn()
    assert window.message.text() == "the disk is full"


def test_close_stops_the_timer(session, qtbot) -> None:
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.show()
    assert window.timer.isActive()
    window.close()
    assert not window.timer.isActive()


def test_no_widget_outlives_the_window(session, picture, make_alert) -> None:
    def cycle() -> weakref.ref[MainWindow]:
        window = MainWindow(session)
        window.show()
        session.publish(picture)
        session.alerts.append(make_alert(1.0, "warn", "WARN"))
        window.refresh()
        window.grab()
        window.close()
        window.deleteLater()
        return weakref.ref(window)

    def flush() -> None:
        QApplication.processEvents()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        gc.collect()

    flush()
    before = len(QApplication.allWidgets())
    gone = [cycle() for _ in range(3)]
    flush()
    assert len(QApplication.allWidgets()) <= before
    assert [reference() for reference in gone] == [None] * 3


def test_the_pointer_outside_the_picture(
    window: MainWindow, session, picture, turn
) -> None:
    session.publish(picture)
    turn()
    QTest.mouseMove(window.pictures.raw, QPoint(1, 1))
    window.pictures._on_pointed((10_000, 10_000))
    assert window.pictures.raw.value_at((10_000, 10_000)) == ""
