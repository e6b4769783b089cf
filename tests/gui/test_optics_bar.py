"""The window says that optics are assumed or contradicted, and has them confirmed."""

from __future__ import annotations

from deepblur_live.gui.main_window import MainWindow


def test_a_contradiction_is_confirmed_in_the_window(qtbot, session, image) -> None:
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.show()
    session.publish(image)
    window.refresh()
    bar = window.optics
    assert not bar.isVisible()
    session.optics.check(65.0, "the microscope")
    bar.refresh()
    assert bar.isVisible() and "microscope states pixels of 65 nm" in bar.text.text()
    # It cannot be hidden away.
    assert bar.confirm_button.isVisible() and not bar.hide_button.isVisible()
    bar.confirm_button.click()
    assert not session.optics.contradiction and not bar.isVisible()
    assert "opticsConfirmed" in session.calls and "settled" in session.calls


def test_distances_are_in_pixels_while_the_pixel_size_is_contradicted(
    qtbot, session, image
) -> None:
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.show()
    session.publish(image)
    for name in ("Region", "Line profile"):
        window.panels[name].toggleViewAction().trigger()

    def units() -> list[str]:
        window._slow_at = -float("inf")
        for _ in range(2):  # images are painted before the texts
            window.refresh()
        scale = window.images.raw._scale.text()
        axis = window.line_profile.plot.getAxis("bottom").labelText
        return [scale.split()[1], axis, window.region._size.text().split()[-1]]

    assert units() == ["µm", "distance, µm", "µm"]
    session.optics.check(65.0, "the microscope")
    assert units() == ["px", "distance, pixels", "contradicted"]
    session.optics.confirm()
    assert units() == ["µm", "distance, µm", "µm"]


def test_assumed_optics_are_named_until_the_line_is_hidden(qtbot, session) -> None:
    session.optics.assumed = "optics assumed: NA 1.4: not stated in the profile"
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.show()
    assert window.optics.text.text().startswith("Optics assumed: NA 1.4")
    assert window.optics.isVisible() and not window.optics.confirm_button.isVisible()
    window.optics.hide_button.click()
    window.optics.refresh()
    assert not window.optics.isVisible()


def test_the_quality_is_shown_next_to_the_state(qtbot, session, image) -> None:
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.show()
    assert not window.toolbar.quality.isVisible()
    session.publish(image)
    window.refresh()
    label = window.toolbar.quality
    assert label.isVisible()
    assert label.text().startswith("Strehl 0.7") and label.text().endswith("· fair")
    assert window.toolbar.chip.text() == "UNCHANGED"
    assert "watched for changes 80 %" in window.toolbar.chip.toolTip()
    # Frames that are passed on raw leave what is known.
    session.publish_raw_only(image, "saturated")
    window.refresh()
    assert label.text().endswith("· fair")
