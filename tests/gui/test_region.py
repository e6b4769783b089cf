"""The rectangle: statistics of both images in it, and levels taken from it."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPointF, Qt
from qtpy.QtWidgets import QApplication
from still_window import redraw

from deepblur_live.gui.image_pair import CompareMode
from deepblur_live.gui.main_window import MainWindow
from deepblur_live.gui.region import region_statistics


def open_region(window: MainWindow) -> None:
    window.panels["Region"].toggleViewAction().trigger()
    redraw(window)


def place(window: MainWindow, x: int, y: int, width: int, height: int) -> None:
    boxes = window.region.boxes
    # The size first, so that the place is within the image.
    for name, value in (("width", width), ("height", height), ("x", x), ("y", y)):
        boxes[name].setValue(value)


def shown(window: MainWindow, column: int) -> list[float]:
    return [float(label.text()) for label in window.region.values[column][:4]]


def test_statistics_of_finite_values() -> None:
    values = np.array([[1.0, 2.0, np.nan], [3.0, 6.0, np.inf]], np.float32)
    found = region_statistics(values)
    assert (found.mean, found.low, found.high) == (3.0, 1.0, 6.0)
    assert found.std == pytest.approx(np.std([1, 2, 3, 6]))
    # (6 − 1) / (6 + 1), and 3 / 1.8708.
    assert found.texts == ("3", "1.8708", "1", "6", "0.714", "1.6")
    assert region_statistics(np.full(3, np.nan)) is None
    assert region_statistics(np.zeros((2, 2))).texts[4:] == ("–", "–")
    assert region_statistics(np.array([-1.0, 3.0])).texts[4] == "–"
    # Of 16-bit values, squares and sums do not overflow.
    assert region_statistics(np.full(99, 65_535, np.uint16)).mean == 65_535


def test_it_reads_both_images_where_it_is_typed(window, session) -> None:
    rows, columns = np.indices((90, 120))
    session.publish((100 + 3 * columns + 2 * rows).astype(np.uint16))
    open_region(window)
    # The middle third, at first.
    assert window.region.region == (slice(30, 60), slice(40, 80))
    place(window, 10, 20, 4, 5)
    part = session.listener.latest.raw[20:25, 10:14]
    for column, gain in enumerate((1.0, 1.5)):
        wanted = [gain * f(part) for f in (np.mean, np.std, np.min, np.max)]
        assert shown(window, column) == pytest.approx(wanted, rel=1e-4)
    for rectangle in window.region.rectangles:
        assert tuple(rectangle.pos()) == (10, 20)
        assert tuple(rectangle.size()) == (4, 5)
    pixel = session.profile.optics.pixel_size_nm / 1000
    text = window.region._size.text()
    assert text == f"{4 * pixel:.4g} × {5 * pixel:.4g} µm"


def test_dragging_it_in_one_image_moves_it_in_both(window) -> None:
    open_region(window)
    raw, deblurred = window.region.rectangles
    for rectangle, at in ((raw, (7, 11)), (deblurred, (21, 30))):
        rectangle.translate(QPointF(*at) - rectangle.pos())
        assert tuple(raw.pos()) == tuple(deblurred.pos()) == at
        assert window.region.boxes["x"].value() == at[0]
    deblurred.setSize((12, 13))
    assert tuple(raw.size()) == (12, 13)
    assert window.region.region == (slice(30, 43), slice(21, 33))


def test_it_stays_within_the_image(window, session, image) -> None:
    open_region(window)
    height, width = image.shape
    place(window, 10_000, 10_000, 30, 20)
    assert window.region.region == (
        slice(height - 20, height),
        slice(width - 30, width),
    )
    raw = window.region.rectangles[0]
    raw.translate(QPointF(500, 500))
    assert window.region.region[0].stop <= height
    session.publish(image[:15, :20])
    redraw(window)
    assert window.region.region == (slice(5, 10), slice(6, 12))


def test_without_a_deblurred_image_its_column_is_empty(window, session, image):
    open_region(window)
    session.publish_raw_only(image, "saturated")
    redraw(window)
    raw, deblurred = window.region.values
    assert raw[0].text() != "–"
    assert {label.text() for label in deblurred} == {"–"}


def test_it_is_drawn_while_its_panel_is_open(window) -> None:
    rectangles = window.region.rectangles
    assert not any(r.isVisible() for r in rectangles)
    open_region(window)
    assert all(r.isVisible() for r in rectangles)
    window.panels["Region"].hide()
    QApplication.processEvents()
    assert not any(r.isVisible() for r in rectangles)


def test_levels_are_taken_from_it_when_wanted(window, session, image) -> None:
    image = image.copy()
    image[:10, :10] = np.arange(100).reshape(10, 10)
    session.publish(image)
    redraw(window)
    whole = window.images.levels
    open_region(window)
    place(window, 0, 0, 10, 10)
    assert window.images.levels == whole
    window.commands.region_levels.trigger()
    redraw(window)
    (low, high), (_, bright) = window.images.levels
    assert 0 <= low < 1 and 98 < high <= 99 and 147 < bright <= 148.5
    counts, _ = window.levels.histograms[0].plot.getData()
    assert counts[-1] < 100
    # The rectangle stays as long as it has an effect.
    window.panels["Region"].hide()
    redraw(window)
    assert window.region.rectangles[0].isVisible()
    window.commands.region_levels.trigger()
    redraw(window)
    assert not window.region.rectangles[0].isVisible()
    assert window.images.levels[0][1] > 200


def test_levels_from_a_region_without_its_panel(window, image) -> None:
    window.commands.region_levels.trigger()
    redraw(window)
    height, width = image.shape
    part = image[height // 3 : 2 * (height // 3), width // 3 : 2 * (width // 3)]
    clip = window._session.profile.display.clip_percent
    wanted = np.percentile(part, (clip, 100 - clip))
    assert window.images.levels[0] == pytest.approx(tuple(wanted))


def test_keys_alone_reach_it(window, qtbot) -> None:
    window.activateWindow()
    qtbot.keyClick(window, Qt.Key.Key_R)
    redraw(window)
    assert window.region.isVisible()
    box = window.region.boxes["x"]
    box.setFocus()
    box.selectAll()
    # A digit goes into the box, where it is no shortcut.
    zoom = window.images.raw.view_box.viewRect()
    qtbot.keyClicks(box, "10")
    qtbot.keyClick(box, Qt.Key.Key_Return)
    assert window.region.region[1].start == 10
    assert window.images.raw.view_box.viewRect() == zoom
    qtbot.keyClick(box, Qt.Key.Key_Up)
    assert window.region.rectangles[1].pos().x() == 11


def test_an_overlay_mixes_both_images(window, qtbot) -> None:
    images = window.images
    alone = [pane.item.image.astype(float) for pane in (images.raw, images.deblurred)]
    (action,) = (
        action
        for action in window.commands.compare.actions()
        if action.data() == CompareMode.OVERLAY.value
    )
    action.trigger()
    redraw(window)
    assert images.opacity.isVisible() and not images.deblurred.isVisible()
    assert not images.raw.split.isVisible()
    for presses, share in ((0, 0.5), (2, 0.7), (9, 1.0)):
        for _ in range(presses):
            qtbot.keyClick(window, Qt.Key.Key_Period)
        redraw(window)
        wanted = (1 - share) * alone[0] + share * alone[1]
        np.testing.assert_allclose(images.raw.item.image, wanted, atol=0.51)
        assert f"{share:.0%} deblurred (estimate)" in images.raw.caption
    qtbot.keyClick(window, Qt.Key.Key_Comma)
    assert images.opacity.share == pytest.approx(0.9)
    window.commands.compare.actions()[0].trigger()
    assert not images.opacity.isVisible()


def test_after_return_the_letters_are_shortcuts_again(window, qtbot) -> None:
    open_region(window)
    box = window.region.boxes["x"]
    box.setFocus()
    assert window.focusWidget() is box
    qtbot.keyClick(box.lineEdit(), Qt.Key.Key_Return)
    assert window.focusWidget() is not box
