"""Menu bar, state and toolbar above the images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtWidgets

if TYPE_CHECKING:
    from deepblur_live.gui.menus import Menus
    from deepblur_live.gui.toolbar import Toolbar

__all__ = ["WindowHead"]


class WindowHead(QtWidgets.QWidget):
    """The menus and the state in one line, the toolbar in the next.

    In another program's window the menus are behind a button of the toolbar.

    Parameters
    ----------
    menus
        The window's menus.
    toolbar
        Its toolbar.
    """

    def __init__(self, menus: Menus, toolbar: Toolbar) -> None:
        super().__init__()
        self._toolbar = toolbar
        self._bar = QtWidgets.QMenuBar()
        # In the window on every system: a host has a bar of its own.
        self._bar.setNativeMenuBar(False)
        behind_button = QtWidgets.QMenu(toolbar.menu_button)
        for menu in menus.all:
            self._bar.addMenu(menu)
            behind_button.addMenu(menu)
        toolbar.menu_button.setMenu(behind_button)
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        line = QtWidgets.QHBoxLayout()
        line.setSpacing(0)
        line.addWidget(self._bar, 1)
        line.addWidget(toolbar.state)
        column.addLayout(line)
        column.addWidget(toolbar)

    def set_docked(self, docked: bool) -> None:
        """Adapt to a window of its own, or to a place in another."""
        # Two menu bars in a window would compete for the same keys.
        self._bar.setVisible(not docked)
        self._toolbar.show_menu_button(docked)
