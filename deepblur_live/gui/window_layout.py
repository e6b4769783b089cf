"""Where the panels are: by default, after a reset, and as last left by the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, QtWidgets

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["add_panel", "initial_size", "restore", "save", "set_default"]

# Increased when the panels change, so that an older layout is not restored.
_VERSION = 2
# In smaller windows the panels share one place, and the histograms are closed.
_WIDE, _HIGH = 1200, 640
# In windows below this height (a small dock), only the images are shown at first.
_LOW = 560
_LARGEST = QtCore.QSize(1400, 900)
# Width of the title bar that must be on a screen, so that the window can be moved.
_GRASP = 80
_Area = QtCore.Qt.DockWidgetArea


def add_panel(
    window: QtWidgets.QMainWindow,
    name: str,
    widget: QtWidgets.QWidget,
    key: str,
    *,
    scrolled: bool = False,
) -> QtWidgets.QDockWidget:
    """Create a panel of a window; its place is set later.

    Parameters
    ----------
    window
        The window.
    name
        Title of the panel and its entry in the menu.
    widget
        The content.
    key
        Shortcut that shows and hides it.
    scrolled
        Scroll the content where there is too little room for it.
    """
    panel = QtWidgets.QDockWidget(name, window)
    panel.setObjectName(name)
    if scrolled:
        area = QtWidgets.QScrollArea()
        area.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
        area.setWidgetResizable(True)
        area.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        area.setWidget(widget)
        widget = area
    panel.setWidget(widget)
    action = panel.toggleViewAction()
    assert action is not None
    action.setShortcut(key)
    action.setShortcutContext(QtCore.Qt.ShortcutContext.WidgetWithChildrenShortcut)
    action.setWhatsThis("show or hide this panel")
    action.setToolTip(f"Show or hide this panel ({key})")
    # It may be behind another one.
    action.triggered.connect(panel.raise_)
    window.addAction(action)
    panel.hide()  # until the layout says whether it is shown
    return panel


def initial_size() -> QtCore.QSize:
    """Return the size of a new window: large, but within the screen."""
    screen = QtWidgets.QApplication.primaryScreen()
    if screen is None:
        return _LARGEST
    # The frame and the title bar of a window are not part of its size.
    return _LARGEST.boundedTo(screen.availableSize() - QtCore.QSize(20, 50))


def set_default(
    window: QtWidgets.QMainWindow,
    panels: Mapping[str, QtWidgets.QDockWidget],
) -> None:
    """Put the panels in their places, as fits the window's size."""
    drift, psf, levels, line, region = (
        panels[name] for name in ("Drift", "PSF", "Levels", "Line profile", "Region")
    )
    width, height = window.width(), window.height()
    wide = width >= _WIDE
    for panel in panels.values():
        panel.setFloating(False)
        window.removeDockWidget(panel)
    below = _Area.BottomDockWidgetArea
    window.addDockWidget(below, drift)
    window.addDockWidget(below, psf)
    window.addDockWidget(below, line)
    window.addDockWidget(below, region)
    window.addDockWidget(_Area.RightDockWidgetArea, levels)
    if wide:
        window.splitDockWidget(drift, psf, QtCore.Qt.Orientation.Horizontal)
        window.splitDockWidget(drift, line, QtCore.Qt.Orientation.Horizontal)
        window.tabifyDockWidget(drift, region)
    else:
        for panel in (psf, line, region):
            window.tabifyDockWidget(drift, panel)
    for panel in (drift, psf):
        panel.setVisible(height >= _LOW)
    drift.raise_()
    levels.setVisible(wide and height >= _HIGH)
    line.hide()
    region.hide()
    low = round(min(280.0, 0.3 * height))
    window.resizeDocks([drift, psf], [low, low], QtCore.Qt.Orientation.Vertical)
    if wide:
        # Two PSFs of a simulated camera, or maps, fit.
        side = 310
        window.resizeDocks(
            [drift, psf], [width - side, side], QtCore.Qt.Orientation.Horizontal
        )
        window.resizeDocks([levels], [220], QtCore.Qt.Orientation.Horizontal)


def save(window: QtWidgets.QMainWindow) -> None:
    """Save the places of the panels, and the geometry of a separate window."""
    settings, group = _settings(), _group(window)
    settings.setValue(f"{group}/panels", window.saveState(_VERSION))
    if window.isWindow():
        settings.setValue(f"{group}/geometry", window.saveGeometry())


def restore(window: QtWidgets.QMainWindow) -> bool:
    """Restore what was saved; False if there is nothing, or it cannot be used."""
    settings, group = _settings(), _group(window)
    if window.isWindow():
        before = window.geometry()
        geometry = settings.value(f"{group}/geometry")
        if not (
            isinstance(geometry, QtCore.QByteArray)
            and window.restoreGeometry(geometry)
            and _can_be_seen(window.geometry())
        ):
            window.setGeometry(before)
    panels = settings.value(f"{group}/panels")
    return isinstance(panels, QtCore.QByteArray) and bool(
        window.restoreState(panels, _VERSION)
    )


def _settings() -> QtCore.QSettings:
    # A file, on every system: it can be looked at, and removed.
    return QtCore.QSettings(
        QtCore.QSettings.Format.IniFormat,
        QtCore.QSettings.Scope.UserScope,
        "deepblur-live",
        "window",
    )


def _group(window: QtWidgets.QMainWindow) -> str:
    """Return the group of settings: a host gives less room than a screen."""
    return "window" if window.isWindow() else "docked"


def _can_be_seen(geometry: QtCore.QRect) -> bool:
    title = QtCore.QRect(geometry.topLeft(), QtCore.QSize(geometry.width(), 30))
    for screen in QtWidgets.QApplication.screens():
        shown = title.intersected(screen.availableGeometry())
        if shown.width() >= _GRASP and not shown.isEmpty():
            return True
    return False
