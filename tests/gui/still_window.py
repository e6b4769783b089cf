"""A window that is drawn when the test says so."""

from __future__ import annotations

import math

from qtpy.QtWidgets import QApplication

from deepblur_live.gui.main_window import MainWindow

__all__ = ["redraw"]


def redraw(window: MainWindow) -> None:
    """Draw everything now."""
    window._slow_at = -math.inf
    window.refresh()
    QApplication.processEvents()
