"""Menu bar, state and toolbar above the images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtWidgets

if TYPE_CHECKING:
    from deepblur_live.gui.binding import QtGui
    from deepblur_live.gui.menus import Menus
    from deepblur_live.gui.toolbar import Toolbar

__all__ = ["WindowHead"]

# Below this width in pixels menus, state and quality do not fit side by side.
_NARROW = 560


class WindowHead(QtWidgets.QWidget):
    """The menus and the state in one line, the toolbar in the next.

    In another program's window, and in a narrow one, the menus are behind a button of
    the toolbar.

    Parameters
    ----------
    menus
        The window's menus.
    toolbar
        Its toolbar.
    """

    def __init__(self, menus: Menus, toolbar: Toolbar) -> None:
        super().__init__()
        self._toolbar, self._docked = toolbar, False
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
        """Adapt to a separate window, or to a dock in another one."""
        self._docked = docked
        self._show_menus()

    def resizeEvent(self, event: QtGui.QResizeEvent | None) -> None:
        """Move the menus into the toolbar where the state would be cut off."""
        super().resizeEvent(event)
        self._show_menus()

    def _show_menus(self) -> None:
        # Two menu bars in a window would compete for the same keys.
        behind_button = self._docked or self.width() < _NARROW
        self._bar.setVisible(not behind_button)
        self._toolbar.show_menu_button(behind_button)
