"""Qt and pyqtgraph with one common binding; all widgets import them from here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PyQt6 import QtCore, QtGui, QtWidgets
    from PyQt6.QtCore import pyqtSignal as Signal
else:
    import qtpy
    from qtpy import QtCore, QtGui, QtWidgets
    from qtpy.QtCore import Signal

    # qtpy and pyqtgraph search in different orders and could load different bindings.
    os.environ.setdefault("PYQTGRAPH_QT_LIB", qtpy.API_NAME)

import pyqtgraph as pg

__all__ = ["QtCore", "QtGui", "QtWidgets", "Signal", "pg"]
