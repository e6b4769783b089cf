"""The menu Help."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, QtGui, QtWidgets
from deepblur_live.gui.commands import allow
from deepblur_live.gui.help_dialogs import (
    ShortcutsDialog,
    about_text,
    documentation_url,
)
from deepblur_live.gui.image_pair import KEYS

if TYPE_CHECKING:
    from deepblur_live.gui.commands import Commands
    from deepblur_live.gui.menus import Menus

__all__ = ["HelpActions"]


class HelpActions(QtCore.QObject):
    """Shows the keys, the documentation and the versions.

    Parameters
    ----------
    commands
        The window's actions; those of the menu Help are connected.
    menus
        The window's menus, whose keys are listed.
    parent
        The window.
    """

    def __init__(
        self, commands: Commands, menus: Menus, parent: QtWidgets.QWidget
    ) -> None:
        super().__init__(parent)
        self._menus = menus
        self.dialog: ShortcutsDialog | None = None
        commands.shortcuts.triggered.connect(self._on_shortcuts)
        commands.about.triggered.connect(self._on_about)
        commands.documentation.triggered.connect(self._on_documentation)
        if not documentation_url():
            allow(commands.documentation, "this version has no web pages; see docs/")

    def _on_shortcuts(self) -> None:
        if self.dialog is None:
            self.dialog = ShortcutsDialog(self._menus.all, KEYS, self._window())
        self.dialog.show()
        self.dialog.raise_()

    def _on_about(self) -> None:
        QtWidgets.QMessageBox.about(self._window(), "deepblur-live", about_text())

    def _on_documentation(self) -> None:
        QtGui.QDesktopServices.openUrl(QtCore.QUrl(documentation_url()))

    def _window(self) -> QtWidgets.QWidget | None:
        parent = self.parent()
        return parent if isinstance(parent, QtWidgets.QWidget) else None
