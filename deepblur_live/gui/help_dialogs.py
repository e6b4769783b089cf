"""The list of keys, and the versions: for the menu Help."""

from __future__ import annotations

import html
import platform
from importlib import metadata
from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, QtGui, QtWidgets

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ShortcutsDialog", "about_text", "documentation_url", "shortcuts_html"]

_PARTS = ("pymmcore-plus", "torch", "numpy", "pyqtgraph")


class ShortcutsDialog(QtWidgets.QDialog):
    """The keys of a window, from its menus.

    Parameters
    ----------
    menus
        The menus whose actions are listed.
    keys
        Keys without an action, with what they do.
    """

    def __init__(
        self,
        menus: Iterable[QtWidgets.QMenu],
        keys: Iterable[tuple[str, str]],
        parent: QtWidgets.QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keyboard shortcuts")
        self.text = QtWidgets.QTextBrowser()
        self.text.setHtml(shortcuts_html(menus, keys))
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text)
        self.resize(620, 560)


def shortcuts_html(
    menus: Iterable[QtWidgets.QMenu], keys: Iterable[tuple[str, str]]
) -> str:
    """Return a table of keys for each menu, and one of the other keys."""
    native = QtGui.QKeySequence.SequenceFormat.NativeText
    parts = []
    for menu in menus:
        rows = [
            (action.shortcut().toString(native), _meaning(action))
            for action in _leaves(menu)
            if not action.shortcut().isEmpty()
        ]
        parts.append(_table(menu.title().replace("&", ""), rows))
    parts.append(_table("Images", list(keys)))
    return "".join(parts)


def about_text() -> str:
    """Return the versions of the program, its main dependencies, Qt and Python."""
    qt = f"Qt {QtCore.qVersion()}"
    parts = [f"{name} {metadata.version(name)}" for name in _PARTS]
    python = f"Python {platform.python_version()}, {platform.system()}"
    return "\n".join(
        [f"deepblur-live {metadata.version('deepblur-live')}", "", *parts, qt, python]
    )


def documentation_url() -> str:
    """Return the address of the documentation; empty if the package states none."""
    urls = metadata.metadata("deepblur-live").get_all("Project-URL") or []
    named = dict(url.split(", ", 1) for url in urls)
    return str(named.get("Documentation") or named.get("Homepage") or "")


def _leaves(menu: QtWidgets.QMenu) -> list[QtGui.QAction]:
    found = []
    for action in menu.actions():
        below = action.menu()
        found += [action] if below is None else _leaves(below)
    return found


def _meaning(action: QtGui.QAction) -> str:
    meaning = action.whatsThis()
    return f"{action.text()}: {meaning}" if meaning else action.text()


def _table(title: str, rows: list[tuple[str, str]]) -> str:
    cells = "".join(
        f"<tr><td><b>{html.escape(key)}</b>&nbsp;&nbsp;</td>"
        f"<td>{html.escape(text)}</td></tr>"
        for key, text in rows
    )
    return f"<h3>{html.escape(title)}</h3><table cellpadding='2'>{cells}</table>"
