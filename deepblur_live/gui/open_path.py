"""Opening a file or folder outside this program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, QtGui

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["open_path"]


def open_path(path: Path) -> None:
    """Open a folder or a page with the system's default program."""
    QtGui.QDesktopServices.openUrl(QtCore.QUrl.fromLocalFile(str(path)))
