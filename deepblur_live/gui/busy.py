"""A message on the screen while the program waits for something slow."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, QtWidgets

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["busy"]


@contextmanager
def busy(text: str) -> Iterator[None]:
    """Show `text` in the middle of the screen; for waits without an event loop.

    There must be a Qt application, and this must run in its thread.
    """
    label = QtWidgets.QLabel(text)
    label.setWindowFlags(
        QtCore.Qt.WindowType.SplashScreen | QtCore.Qt.WindowType.FramelessWindowHint
    )
    label.setContentsMargins(28, 20, 28, 20)
    label.adjustSize()
    screen = QtWidgets.QApplication.primaryScreen()
    if screen is not None:
        label.move(screen.availableGeometry().center() - label.rect().center())
    label.show()
    # Once to create it, once to paint it.
    QtWidgets.QApplication.processEvents()
    label.repaint()
    QtWidgets.QApplication.processEvents()
    try:
        yield
    finally:
        label.close()
