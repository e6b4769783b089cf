"""The window with a session set by hand: what it shows, and how it responds."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from deepblur_live.acquisition.statistics import Statistics
from deepblur_live.drift import DriftState
from deepblur_live.gui.main_window import MainWindow
from deepblur_live.profile import Display, Profile


@pytest.fixture
def window(session, qtbot) -> Iterator[MainWindow]:
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.show()
    qtbot.waitExposed(window)
    # The tests refresh the window themselves.
    window.timer.stop()
    yield window
    assert window.error == ""


@pytest.fixture
def redraw(window: MainWindow) -> Callable[[], None]:
    """Refresh as the timer would, texts and plots included."""

    def redraw() -> None:
        window._slow_at = -np.inf
        window.refresh()
        QApplication.processEvents()

    return redraw


def test_it_opens_without_a_frame(window: MainWindow, redraw) -> None:
    redraw()
    assert window.toolbar.chip.text() == "NO FRAMES"
    assert window.images.raw.notice == "waiting for the first frame"
    assert window.banner.isHidden()


def test_the_first_frame_is_being_identified(
    window: MainWindow, session, image, redraw
) -> None:
    redraw()
    session.listener.statistics = Statistics(captured=71, in_flight=71)
    redraw()
    assert window.toolbar.chip.text() == "IDENTIFYING …"
    for pane in (window.images.raw, window.images.deblurred):
        assert pane.notice == "identifying the blur of the first frame …"
    session.publish(image)
    redraw()
    assert window.images.raw.notice == ""
    assert window.toolbar.chip.text() == "UNCHANGED"


def test_a_frame_is_shown(window: MainWindow, session, image, redraw) -> None:
    result = session.publish(image)
    redraw()
    assert window.shown is result
    assert window.images.raw.image is image
    assert window.images.deblurred.image is result.deblurred
    assert window.images.raw.caption.startswith("raw")
    assert window.images.deblurred.caption.startswith("deblurred (estimate)")
    for pane in (window.images.raw, window.images.deblurred):
        drawn = pane.item.image
        assert drawn.dtype == np.uint8
        assert drawn.min() < 20 and drawn.max() == 255
    assert window.toolbar.chip.text() == "UNCHANGED"
    assert "processed 310" in window.status.text()


def test_the_timer_fetches_results(session, image, qtbot) -> None:
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.show()
    result = session.publish(image)
    qtbot.waitUntil(lambda: window.shown is result, timeout=5000)
    assert window.timer.interval() == 33


def test_the_same_frame_is_not_drawn_twice(
    window: MainWindow, session, image, redraw, monkeypatch
) -> None:
    session.publish(image)
    redraw()
    drawn = []
    monkeypatch.setattr(window.images.raw.item, "setImage", drawn.append)
    redraw()
    redraw()
    assert drawn == []


def test_zoom_and_pan_are_linked(window: MainWindow, session, image, redraw) -> None:
    session.publish(image)
    redraw()
    raw, deblurred = window.images.raw, window.images.deblurred
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


def test_a_fitted_image_stays_fitted_when_the_window_is_resized(
    window: MainWindow, session, image, redraw
) -> None:
    session.publish(image)
    redraw()
    raw, deblurred = window.images.raw, window.images.deblurred
    height, width = image.shape
    for size in ((1300, 520), (1400, 900), (1700, 800)):
        window.resize(*size)
        QApplication.processEvents()
        redraw()
        for pane in (raw, deblurred):
            seen = pane.view_box.viewRect()
            tightest = min(seen.width() / width, seen.height() / height)
            assert tightest == pytest.approx(1, rel=0.03)


def test_a_zoom_is_kept_when_the_window_is_resized(
    window: MainWindow, session, image, redraw
) -> None:
    session.publish(image)
    redraw()
    window.images.raw.zoom(4)
    redraw()
    seen = window.images.raw.view_box.viewRect()
    window.resize(window.width() + 200, window.height() + 100)
    QApplication.processEvents()
    redraw()
    now = window.images.raw.view_box.viewRect()
    assert now.width() < 1.5 * seen.width()


def test_a_long_message_does_not_widen_the_window(
    window: MainWindow, session, redraw
) -> None:
    redraw()
    least = window.minimumSizeHint()
    session.background_errors.append("the worker died; " * 30 + "\nTraceback: line 1")
    redraw()
    assert window.minimumSizeHint() == least
    assert "Traceback" not in window.message.text()
    assert "Traceback" in window.message.toolTip()


def test_raw_only_frames_keep_the_zoom(
    window: MainWindow, session, image, redraw
) -> None:
    session.publish(image)
    redraw()
    window.images.raw.zoom(4)
    seen = window.images.raw.view_box.viewRect()
    session.publish_raw_only(image, "constant")
    redraw()
    session.publish(image)
    redraw()
    assert window.images.raw.view_box.viewRect() == seen


def test_a_frame_at_half_strength_says_why(
    window: MainWindow, session, image, redraw
) -> None:
    reason = "half strength: the blur is uncertain (± 0.15 waves rms)"
    session.publish(image, strength=0.5, reason=reason)
    redraw()
    assert window.images.deblurred.caption.endswith(f"\n{reason}")
    session.publish(image)
    redraw()
    assert "half" not in window.images.deblurred.caption


def test_the_share_of_the_deblurred_image_is_in_its_caption(
    window: MainWindow, session, image, redraw
) -> None:
    session.publish(image, strength=0.85)
    redraw()
    assert "85% strength" in window.images.deblurred.caption
    session.publish(image)
    redraw()
    assert "strength" not in window.images.deblurred.caption


def test_a_raw_only_frame_shows_no_old_image(
    window: MainWindow, session, image, redraw
) -> None:
    session.publish(image)
    redraw()
    session.publish_raw_only(image, "saturated")
    session.status = replace(
        session.status, state=DriftState.RAW_ONLY, reason="saturated"
    )
    redraw()
    pane = window.images.deblurred
    assert pane.image is None and pane.item.image is None
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
def test_the_window_survives_any_frame(
    window: MainWindow, session, image, redraw, name: str
) -> None:
    pixels = frames()[name]
    session.publish(image)
    redraw()
    session.publish_raw_only(pixels, name)
    redraw()
    window.grab()
    session.publish(pixels, deblurred=np.full(pixels.shape, np.nan, np.float32))
    redraw()
    window.grab()
    session.publish(image)
    redraw()
    window.grab()
    assert window.images.raw.image is image
    assert window.error == ""


def test_an_array_that_cannot_be_shown_is_described(
    window: MainWindow, session, redraw
) -> None:
    session.publish_raw_only(np.zeros(10, np.uint16), "not an image")
    redraw()
    assert "(10,)" in window.images.raw.notice


def test_an_image_of_another_size_is_fitted(
    window: MainWindow, session, image, redraw
) -> None:
    session.publish(image)
    redraw()
    session.publish(np.ascontiguousarray(image[:31, :77]))
    redraw()
    seen = window.images.raw.view_box.viewRect()
    assert seen.center().x() == pytest.approx(77 / 2)
    assert seen.center().y() == pytest.approx(31 / 2)


def test_baselining_is_counted(window: MainWindow, session, image, redraw) -> None:
    session.status = replace(session.status, state=DriftState.BASELINING, n_baseline=7)
    session.publish(image)
    redraw()
    assert window.toolbar.chip.text() == "BASELINING 7/20"


@pytest.mark.parametrize("how", ["button", "key", "elsewhere"])
def test_an_alert_is_acknowledged(
    window: MainWindow, session, image, redraw, how: str, make_alert
) -> None:
    session.publish(image)
    session.status = replace(session.status, state=DriftState.ALARM)
    session.alerts.append(make_alert(1.0, "alarm", "ALARM: the wavefront has moved"))
    redraw()
    assert window.banner.isVisible()
    assert window.banner.text.text() == "<b>ALARM: the wavefront has moved</b>"
    assert window.toolbar.chip.text() == "ALARM"
    if how == "button":
        window.banner.acknowledge_button.click()
    elif how == "key":
        window.commands.acknowledge.trigger()
    else:
        session.status = replace(session.status, acknowledged=True)
    redraw()
    assert window.banner.isHidden()
    assert session.calls == ([] if how == "elsewhere" else ["acknowledge"])

    session.status = replace(session.status, acknowledged=False)
    session.alerts.append(make_alert(2.0, "alarm", "ALARM: it moved again"))
    redraw()
    assert window.banner.isVisible()
    assert window.banner.text.text() == "<b>ALARM: it moved again</b>"


def test_an_alert_shows_its_cause_and_remedy(
    window: MainWindow, session, redraw, make_alert
) -> None:
    text = "ALARM: moved by <40> nm. Likely cause: a tilt. What to do: Level it."
    session.alerts.append(make_alert(1.0, "alarm", text, "a tilt", "Level it."))
    redraw()
    assert window.banner.text.text() == (
        "<b>ALARM: moved by &lt;40&gt; nm.</b><br>Likely cause: a tilt.<br>"
        "What to do: Level it."
    )


def test_an_alert_is_snoozed(
    window: MainWindow, session, image, redraw, make_alert
) -> None:
    session.publish(image)
    session.status = replace(session.status, state=DriftState.ALARM)
    session.alerts.append(make_alert(1.0, "alarm", "ALARM: moved"))
    redraw()
    names = [action.text() for action in window.banner.snooze_button.menu().actions()]
    assert names == ["15 minutes", "1 hour", "4 hours"]
    window.banner.snooze_button.menu().actions()[1].trigger()
    assert session.calls == ["snooze 3600"]
    assert window.banner.isHidden()
    session.status = replace(session.status, snoozed_until=3700.0)
    redraw()
    assert window.banner.isHidden()
    assert window.toolbar.chip.text() == "ALARM · SNOOZED"
    assert "until 1:01:40" in window.toolbar.chip.toolTip()
    session.status = replace(session.status, snoozed_until=None)
    session.alerts.append(make_alert(3700.0, "alarm", "ALARM: still there"))
    redraw()
    assert window.banner.isVisible()


def test_the_window_fits_on_a_small_screen(
    window: MainWindow, session, image, redraw, make_alert
) -> None:
    session.publish(image)
    session.alerts.append(make_alert(1.0, "alarm", "ALARM: moved " + 60 * "far "))
    redraw()
    assert window.minimumSizeHint().width() <= 900
    assert window.minimumSizeHint().height() <= 700
    window.resize(900, 700)
    redraw()
    assert window.size().width() == 900
    assert window.toolbar.chip.isVisible()
    # Hidden actions are in the toolbar's menu; their shortcuts still work.
    window.commands.rebaseline.trigger()
    assert session.calls == ["rebaseline"]


def test_rebaseline_is_passed_to_the_session(
    window: MainWindow, session, image, redraw, make_alert
) -> None:
    session.publish(image)
    session.alerts.append(make_alert(1.0, "warn", "WARN: moved"))
    redraw()
    window.banner.rebaseline_button.click()
    redraw()
    assert session.calls == ["rebaseline"]
    assert window.banner.isHidden()
    window.commands.rebaseline.trigger()
    assert session.calls == ["rebaseline"] * 2


def test_freeze_stops_only_the_images(
    window: MainWindow, session, image, redraw
) -> None:
    first = session.publish(image)
    redraw()
    window.commands.freeze.trigger()
    second = session.publish_raw_only(image + 1, "constant")
    session.status = replace(session.status, state=DriftState.ALARM)
    redraw()
    assert window.shown is first
    assert window.images.raw.image is image
    assert window.toolbar.chip.text() == "ALARM"
    window.commands.freeze.trigger()
    third = session.publish(image)
    redraw()
    assert window.shown is third is not second


def test_space_swaps_while_held(window: MainWindow, session, image, redraw) -> None:
    result = session.publish(image)
    redraw()
    raw = window.images.raw
    QTest.keyPress(window, Qt.Key.Key_Space)
    assert raw.image is result.deblurred
    assert raw.caption.startswith("deblurred (estimate)")
    QTest.keyRelease(window, Qt.Key.Key_Space)
    assert raw.image is image
    QTest.keyPress(window, Qt.Key.Key_Space)
    QApplication.sendEvent(window, QEvent(QEvent.Type.ActivationChange))
    assert raw.image is image
    window.commands.swap.trigger()
    assert raw.image is result.deblurred
    session.publish_raw_only(image, "constant")
    redraw()
    assert raw.image is image and raw.caption.startswith("raw")


def test_keys_move_the_view(window: MainWindow, session, image, redraw) -> None:
    session.publish(image)
    redraw()
    box = window.images.raw.view_box
    centre, width = box.viewRect().center().x(), box.viewRect().width()
    QTest.keyClick(window, Qt.Key.Key_Right)
    assert box.viewRect().center().x() > centre
    QTest.keyClick(window, Qt.Key.Key_Plus)
    assert box.viewRect().width() < width
    QTest.keyClick(window, Qt.Key.Key_Minus)
    assert box.viewRect().width() == pytest.approx(width)


def test_locked_levels_are_those_of_the_raw_image(
    window: MainWindow, session, image, redraw
) -> None:
    session.publish(image)
    redraw()
    raw, deblurred = window.images.raw, window.images.deblurred
    independent = deblurred.item.image.copy()
    assert deblurred._levels != raw._levels
    window.commands.lock.trigger()
    redraw()
    assert deblurred._levels == raw._levels
    assert deblurred.item.image.mean() > independent.mean()


def test_autocontrast_can_be_switched_off(
    window: MainWindow, session, image, redraw
) -> None:
    session.publish(image)
    redraw()
    levels = window.images.raw._levels
    window.commands.auto.trigger()
    session.publish(image * 10)
    redraw()
    assert window.images.raw._levels == levels
    window.commands.auto.trigger()
    assert window.images.raw._levels[1] > 5 * levels[1]


def test_the_crosshair_reads_both_values(
    window: MainWindow, session, image, redraw
) -> None:
    session.publish(image)
    redraw()
    pane = window.images.deblurred
    y, x = image.shape[0] // 2, image.shape[1] // 2
    scene = pane.view_box.mapViewToScene(QPointF(x + 0.5, y + 0.5))
    pane._graphics.scene().sigMouseMoved.emit(scene)
    text = window.images.raw._readout.text()
    assert text.startswith(f"x {x}   y {y}")
    assert text.endswith(f"{image[y, x]:g}")
    assert pane._readout.text().endswith(f"{image[y, x] * 1.5:g}")
    assert all(line.isVisible() for line in window.images.raw._cross)
    QApplication.sendEvent(pane, QEvent(QEvent.Type.Leave))
    assert not any(line.isVisible() for line in window.images.raw._cross)
    assert window.images.raw._readout.text().startswith("frame ")


@pytest.mark.parametrize("units", ["nm", "waves"])
@pytest.mark.parametrize("truth", [True, False])
def test_curves_bands_and_truth(
    session_of, qtbot, make_history, make_alert, units: str, truth: bool
) -> None:
    profile = Profile(display=Display(units=units))
    session = session_of(profile)
    history = make_history(3000, 8, truth=truth)
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
    assert f"{units} rms · band" in drift.legend.text()
    assert "sign of all even modes" in drift.legend.toolTip()
    assert drift.verification.text().startswith("not verified: estimated from")
    assert window.error == ""


def test_short_histories(window: MainWindow, session, redraw, make_history) -> None:
    for n in (0, 1, 2, 3):
        session.history = make_history(n, 8)
        redraw()
    assert len(window.drift._curves[0].getData()[0]) == 3


def test_the_psf_and_the_true_one(window: MainWindow, session, image, redraw) -> None:
    result = session.publish(image)
    redraw()
    rms = np.linalg.norm(result.track.coefficients)
    estimated, true = window.psf.estimated.text.text(), window.psf.true.text.text()
    assert f"{540 * rms:.3g} nm ({rms:.3f} waves)" in estimated
    assert "Strehl 0." in estimated
    assert window.psf.true.isVisible()
    assert f"{540 * 1.1 * rms:.3g} nm ({1.1 * rms:.3f} waves)" in true


def test_a_snapshot_is_saved(
    window: MainWindow, session, image, redraw, tmp_path: Path
) -> None:
    assert window.save_snapshot(tmp_path) == ()
    session.publish(image)
    session.folder = tmp_path
    redraw()
    window.commands.save.trigger()
    assert len(list(tmp_path.iterdir())) == 3
    redraw()
    assert "saved" in window.message.text()


def test_an_error_in_the_window_is_shown_and_survived(session, image, qtbot) -> None:
    def refuse() -> None:
        raise RuntimeError("the session is gone")

    session.acknowledge = refuse
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.commands.acknowledge.trigger()
    assert window.error == "RuntimeError: the session is gone"
    assert "the session is gone" in window.message.text()
    session.publish(image)
    window.refresh()
    assert window.shown is not None


@pytest.mark.parametrize("whose", ["session", "listener"])
def test_background_errors_are_shown(
    window: MainWindow, session, redraw, whose: str
) -> None:
    redraw()
    source = session if whose == "session" else session.listener
    source.background_errors.append("the disk is full")
    redraw()
    assert window.message.text() == "the disk is full"


def test_close_stops_the_timer(session, qtbot) -> None:
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.show()
    assert window.timer.isActive()
    window.close()
    assert not window.timer.isActive()


def test_no_widget_leaks(session, image, make_alert) -> None:
    def cycle() -> weakref.ref[MainWindow]:
        window = MainWindow(session)
        window.show()
        session.publish(image)
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


def test_a_window_is_in_no_cycle_of_references(session, image, qapp) -> None:
    # Else the garbage collector frees its widgets, perhaps in another thread.
    gc.collect()
    gc.disable()
    try:
        window = MainWindow(session)
        window.show()
        session.publish(image)
        window.refresh()
        window.close()
        window.deleteLater()
        gone = weakref.ref(window)
        del window
        # PySide6 keeps any widget until then.
        qapp.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
        assert gone() is None
    finally:
        gc.enable()


def test_the_pointer_outside_the_image(
    window: MainWindow, session, image, redraw
) -> None:
    session.publish(image)
    redraw()
    QTest.mouseMove(window.images.raw, QPoint(1, 1))
    window.images._on_pointed((10_000, 10_000))
    assert window.images.raw.value_at((10_000, 10_000)) == ""
