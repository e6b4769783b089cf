"""Whether a window can be opened here, and if not, why."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys

__all__ = ["BINDINGS", "binding_fault", "find_binding", "why_no_window"]

BINDINGS = ("PyQt6", "PySide6")


def find_binding() -> tuple[str, str] | None:
    """Return name and version of the Qt binding that loads first, or None.

    Looks at the binding's own modules, because the libraries that Qt needs from the
    system are missing more often than the binding itself.
    """
    for name in _in_order():
        try:
            importlib.import_module(f"{name}.QtWidgets")
        except ImportError:
            continue
        return name, importlib.metadata.version(name)
    return None


def _in_order() -> list[str]:
    # QT_API is how qtpy is told which of several bindings to take.
    wanted = os.environ.get("QT_API", "").lower()
    return sorted(BINDINGS, key=lambda name: name.lower() != wanted)


def binding_fault() -> str:
    """Return why no binding loads, for a person to read."""
    for name in BINDINGS:
        try:
            importlib.import_module(f"{name}.QtWidgets")
        except ModuleNotFoundError:
            continue
        except ImportError as error:
            return f"{name} is installed and does not load: {error}"
    return "no Qt binding is installed"


def why_no_window() -> str:
    """Return why a run must be headless; empty where a window can be opened."""
    if os.environ.get("QT_QPA_PLATFORM", "") in ("offscreen", "minimal", "vnc"):
        return f"QT_QPA_PLATFORM is {os.environ['QT_QPA_PLATFORM']}"
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return "there is no screen (neither DISPLAY nor WAYLAND_DISPLAY is set)"
    return "" if find_binding() else binding_fault()
