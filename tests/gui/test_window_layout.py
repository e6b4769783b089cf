"""Panels close, come back and are remembered; the window fits the place it gets."""

from __future__ import annotations

import pytest
from pymmcore_plus import CMMCorePlus
from qtpy.QtCore import QByteArray, QRect, Qt
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow, QWidget

from deepblur_live.gui import window_layout
from deepblur_live.gui.main_window import MainWindow


@pytest.fixture
def opened(session, image, qtbot):
    """Return a function that opens a window of a size; it is kept."""
    session.publish(image)

    def opened(*size: int) -> MainWindow:
        window = MainWindow(session)
        qtbot.addWidget(window)
        if size:
            window.resize(*size)
        window.show()
        window.timer.stop()
        QApplication.processEvents()
        return window

    return opened


def visible(window: MainWindow) -> set[str]:
    return {name for name, panel in window.panels.items() if not panel.isHidden()}


def test_it_opens_within_the_screen(opened) -> None:
    screen = QApplication.primaryScreen().availableSize()
    window = opened()
    assert window.width() <= screen.width() and window.height() <= screen.height()


def test_pictures_get_the_room_of_a_small_window(opened) -> None:
    assert visible(opened(1400, 900)) == {"Drift", "PSF", "Levels"}
    assert visible(opened(1024, 768)) == {"Drift", "PSF"}
    assert visible(opened(400, 300)) == set()


@pytest.mark.parametrize("width", [1280, 1024])
def test_nothing_is_hidden_in_the_toolbar(opened, session, width: int) -> None:
    session.core = CMMCorePlus()  # with the actions of a camera
    window = opened(width, 720)
    window.refresh()
    QApplication.processEvents()
    extension = window.toolbar.findChild(QWidget, "qt_toolbar_ext_button")
    assert window.toolbar.exposure.isVisible() and not extension.isVisible()
    window.close()


def test_the_state_is_not_cut_off_in_a_narrow_window(opened) -> None:
    window = opened(1024, 768)
    window.refresh()
    assert window._head._bar.isVisible()
    window.resize(400, 300)
    QApplication.processEvents()
    assert not window._head._bar.isVisible()
    assert window.toolbar.menu_button.isVisible()
    for label in (window.toolbar.chip, window.toolbar.quality):
        assert label.isVisible() and label.width() >= label.sizeHint().width()
    window.resize(1024, 768)
    QApplication.processEvents()
    assert window._head._bar.isVisible() and not window.toolbar.menu_button.isVisible()


def test_panels_close_and_open_by_key_and_menu(opened) -> None:
    window = opened(1400, 900)
    toggle = window.panels["PSF"].toggleViewAction()
    assert toggle in window._menus.view.actions() and toggle.isCheckable()
    toggle.trigger()
    assert "PSF" not in visible(window)
    toggle.trigger()
    assert "PSF" in visible(window)


def test_the_size_is_remembered(opened) -> None:
    window = opened(700, 500)
    window.close()
    assert opened().size() == window.size()


def test_the_layout_is_remembered_and_reset(opened) -> None:
    window = opened(1400, 900)
    window.panels["PSF"].close()
    window.panels["Line profile"].show()
    window.close()
    again = opened()
    assert visible(again) == {"Drift", "Levels", "Line profile"}
    again.resize(1400, 900)
    again.commands.reset_layout.trigger()
    assert visible(again) == {"Drift", "PSF", "Levels"}


@pytest.mark.parametrize("damage", ["panels", "geometry", "kind"])
def test_a_damaged_layout_is_replaced_by_the_default(opened, damage: str) -> None:
    window = opened(1400, 900)
    window.panels["Drift"].close()
    window.close()
    settings = window_layout._settings()
    if damage == "kind":
        settings.setValue("window/panels", 7)
        settings.setValue("window/geometry", ["no", "bytes"])
    else:
        settings.setValue(f"window/{damage}", QByteArray(b"not from Qt"))
    settings.sync()
    again = opened(1400, 900)
    assert ("Drift" in visible(again)) is (damage != "geometry")
    assert window_layout._can_be_seen(again.geometry())
    assert again.error == ""


def test_a_window_on_a_screen_that_is_gone_is_not_restored(opened) -> None:
    screen = QApplication.primaryScreen().availableGeometry()
    right = screen.right() + 500
    assert not window_layout._can_be_seen(QRect(right, 100, 800, 600))
    # Nor one whose title bar is above the screen.
    assert not window_layout._can_be_seen(QRect(0, screen.top() - 600, 800, 600))
    assert window_layout._can_be_seen(QRect(screen.right() - 100, 100, 800, 600))


def test_in_a_small_dock_of_a_host(session, image, qtbot) -> None:
    host = QMainWindow()
    qtbot.addWidget(host)
    host.setCentralWidget(QWidget())
    session.publish(image)
    window = MainWindow(session)
    dock = QDockWidget("deblurred", host)
    dock.setWidget(window)
    host.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
    host.resize(640, 330)
    host.show()
    QApplication.processEvents()
    assert window.minimumSizeHint().width() <= 400
    assert window.minimumSizeHint().height() <= 300
    # No second menu bar, which would take the host's keys.
    assert not window._head._bar.isVisible()
    assert window.toolbar.menu_button.menu().actions()[0].text() == "&File"
    assert all(
        action.shortcutContext() is Qt.ShortcutContext.WidgetWithChildrenShortcut
        for action in window.actions()
    )
    assert QApplication.instance().styleSheet() == "" == window.styleSheet()


def test_the_hosts_colours_are_taken(opened) -> None:
    window = opened(1400, 900)
    grounds = []
    for colour in ("#202020", "#f0f0f0"):
        palette = QPalette(window.palette())
        palette.setColor(QPalette.ColorRole.Window, colour_of(colour))
        window.setPalette(palette)
        QApplication.processEvents()
        brush = window.drift._graphics.backgroundBrush()
        grounds.append(brush.color().lightness())
        assert window.levels._graphics.backgroundBrush() == brush
    assert grounds[0] < 60 and grounds[1] > 200


def colour_of(name: str):
    from qtpy.QtGui import QColor

    return QColor(name)


def test_a_long_alert_folds_to_one_line(opened, session, make_alert, qtbot) -> None:
    session.alerts.append(make_alert(1.0, "alarm", 40 * "far ", "a tilt", "Level it."))
    window = opened(1280, 720)
    window.refresh()
    QApplication.processEvents()
    low = window.banner.height()
    assert window.banner.folded and low < 50
    window.banner.fold_button.click()
    assert not window.banner.folded
    qtbot.waitUntil(lambda: window.banner.height() > low, timeout=5000)
    window.resize(500, 720)
    qtbot.waitUntil(
        lambda: not window.banner.rebaseline_button.isVisible(), timeout=5000
    )
    responses = window.banner.menu_button.menu().actions()
    # There is no camera for a focus sweep.
    names = [action.text() for action in responses if action.isVisible()]
    assert names == ["Acknowledge", "Re-baseline", "Snooze"]
    window.banner.menu_button.menu().actions()[2].trigger()
    assert session.calls == ["rebaseline"]
