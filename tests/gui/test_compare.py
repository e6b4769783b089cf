"""Compare modes, contrast by hand, colormaps and the line profile."""

from __future__ import annotations

import numpy as np
import pytest
from still_window import redraw

from deepblur_live.gui.image_pair import CompareMode
from deepblur_live.gui.main_window import MainWindow


def compare(window: MainWindow, mode: CompareMode) -> None:
    (action,) = (
        action
        for action in window.commands.compare.actions()
        if action.data() == mode.value
    )
    action.trigger()
    redraw(window)


def test_split_shows_each_image_on_its_side_of_the_line(window, image) -> None:
    raw = window.images.raw
    compare(window, CompareMode.SIDE)
    alone = raw.item.image.copy()
    deblurred = window.images.deblurred.item.image.copy()
    compare(window, CompareMode.SPLIT)
    assert not window.images.deblurred.isVisible()
    width = image.shape[1]
    # The view is wider, but as many image pixels are drawn.
    assert raw.item.image.shape == alone.shape == deblurred.shape
    for line in (0.25 * width, 0.75 * width):
        raw.split.setValue(line)
        redraw(window)
        split = raw.item.image
        column = round(line * split.shape[1] / width)
        np.testing.assert_array_equal(split[:, :column], alone[:, :column])
        np.testing.assert_array_equal(split[:, column:], deblurred[:, column:])
    assert "right: deblurred (estimate)" in raw.caption
    compare(window, CompareMode.SIDE)
    assert window.images.deblurred.isVisible() and not raw.split.isVisible()


def test_flicker_shows_them_in_turn(window, session, image) -> None:
    compare(window, CompareMode.FLICKER)
    images = window.images
    assert images._turns.isActive() and images.raw.image is image
    images._turns.timeout.emit()
    assert images.raw.image is session.listener.latest.deblurred
    images._turns.timeout.emit()
    assert images.raw.image is image
    compare(window, CompareMode.SIDE)
    assert not images._turns.isActive()


@pytest.mark.parametrize("mode", [CompareMode.SPLIT, CompareMode.FLICKER])
def test_one_image_says_that_a_frame_is_not_deblurred(
    window, session, image, mode
) -> None:
    compare(window, mode)
    session.publish_raw_only(image, "saturated")
    redraw(window)
    assert window.images.raw.image is image
    assert "not deblurred\nsaturated" in window.images.raw.caption


def test_a_handle_of_the_histogram_sets_the_contrast(window, session, image) -> None:
    raw, deblurred = window.levels.histograms
    assert raw.getLevels() == pytest.approx(window.images.levels[0])
    edges, _ = raw.plot.getData()
    assert image.min() <= edges[0] and edges[-1] <= image.max()
    deblurred.region.setRegion((50.0, 700.0))
    assert window.images.levels[1] == (50.0, 700.0)
    assert not window.commands.auto.isChecked()
    session.publish(image * 3)
    redraw(window)
    assert window.images.levels[1] == (50.0, 700.0)
    assert deblurred.getLevels() == (50.0, 700.0)
    window.commands.auto.trigger()
    redraw(window)
    assert deblurred.getLevels() != (50.0, 700.0)


def test_drawing_the_histogram_does_not_end_autocontrast(window, session, image):
    session.publish(image * 2)
    redraw(window)
    assert window.commands.auto.isChecked()


def test_a_colormap_colours_both_images(window) -> None:
    panes = (window.images.raw, window.images.deblurred)
    grey = [pane.grab().toImage() for pane in panes]
    for action in window.commands.colormaps.actions():
        if action.data() == "viridis":
            action.trigger()
    redraw(window)
    for pane, before in zip(panes, grey, strict=True):
        centre = pane.rect().center()
        colour = pane.grab().toImage().pixelColor(centre)
        assert before.pixelColor(centre).saturation() == 0
        assert colour.saturation() > 0


def test_the_line_profile_reads_both_images(window, session) -> None:
    rows, columns = np.indices((90, 120))
    ramp = (3 * columns + 2 * rows).astype(np.uint16)
    session.publish(ramp)
    window.panels["Line profile"].show()
    redraw(window)
    view = window.line_profile
    pixel_um = session.profile.optics.pixel_size_nm / 1000
    for slope, curve in zip((3.0, 4.5), view.curves, strict=True):
        distance, values = curve.getData()
        assert len(values) == 40
        # Along x through the middle third, row 45.
        np.testing.assert_allclose(np.diff(distance), pixel_um)
        np.testing.assert_allclose(np.diff(values), slope)
    assert view.curves[0].getData()[1][0] == pytest.approx(3 * 40 + 2 * 45)
    # The copy of the line in the other image is at the same place.
    x, y = view._copy.getData()
    assert list(x) == [40, 80] and list(y) == [45, 45]


def test_a_line_that_leaves_the_image_has_no_values_there(window, session) -> None:
    session.publish(np.full((90, 120), 7, np.uint16))
    window.panels["Line profile"].show()
    redraw(window)
    view = window.line_profile
    view.line.movePoint(view.line.getHandles()[1], (150, 45))
    _, values = view.curves[0].getData()
    assert np.isnan(values[-20:]).all() and (values[:70] == 7).all()


def test_the_line_is_shown_with_its_plot_only(window) -> None:
    panel = window.panels["Line profile"]
    panel.show()
    redraw(window)
    assert window.line_profile.line.isVisible()
    panel.hide()
    assert not window.line_profile.line.isVisible()
    assert not window.line_profile._copy.isVisible()
