"""The palette of an application: a host's is kept, that of our own is dark."""

from __future__ import annotations

from deepblur_live.gui.binding import QtGui, QtWidgets
from deepblur_live.gui.theme import BACKGROUND, DARK, LIGHT, TEXT, Colours

__all__ = ["colours_of", "darken"]


def colours_of(widget: QtWidgets.QWidget) -> Colours:
    """Return the colours that fit a widget's palette."""
    window = widget.palette().color(QtGui.QPalette.ColorRole.Window)
    return DARK if window.lightness() < 128 else LIGHT


def darken(application: QtWidgets.QApplication) -> None:
    """Make an application dark, whatever the system's style is."""
    application.setStyle("Fusion")
    roles, palette = QtGui.QPalette.ColorRole, QtGui.QPalette()
    colours = {
        roles.Window: BACKGROUND,
        roles.WindowText: TEXT,
        roles.Base: "#1f2226",
        roles.AlternateBase: "#262a2f",
        roles.Text: TEXT,
        roles.PlaceholderText: DARK.muted,
        roles.Button: "#2b2f34",
        roles.ButtonText: TEXT,
        roles.BrightText: "#ffffff",
        roles.ToolTipBase: "#2b2f34",
        roles.ToolTipText: TEXT,
        roles.Highlight: "#27506b",
        roles.HighlightedText: "#ffffff",
        roles.Link: "#56b4e9",
    }
    for role, colour in colours.items():
        palette.setColor(role, QtGui.QColor(colour))
    off = QtGui.QColor("#6a7076")
    for role in (roles.WindowText, roles.Text, roles.ButtonText):
        palette.setColor(QtGui.QPalette.ColorGroup.Disabled, role, off)
    application.setPalette(palette)
