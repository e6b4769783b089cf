"""The window: raw and deblurred images, the drift plot, and the session's state.

A timer in the GUI thread fetches the newest result; the acquisition never waits for
the window.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepblur_live.gui.event_loop import application, show
    from deepblur_live.gui.main_window import MainWindow
    from deepblur_live.gui.panels import DriftPanel, ImagesPanel, PsfPanel, StatePanel

__all__ = [
    "DriftPanel",
    "ImagesPanel",
    "MainWindow",
    "PsfPanel",
    "StatePanel",
    "application",
    "show",
]

_MODULES = {
    "DriftPanel": "deepblur_live.gui.panels",
    "ImagesPanel": "deepblur_live.gui.panels",
    "PsfPanel": "deepblur_live.gui.panels",
    "StatePanel": "deepblur_live.gui.panels",
    "MainWindow": "deepblur_live.gui.main_window",
    "application": "deepblur_live.gui.event_loop",
    "show": "deepblur_live.gui.event_loop",
}


def __getattr__(name: str) -> Any:
    # Lazy: parts of this package are used where Qt is not installed.
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
