"""Whether a window can be opened here, and if not, why."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import subprocess
import sys

__all__ = [
    "BINDINGS",
    "NOT_OPENED",
    "UNSEEN",
    "binding_fault",
    "find_binding",
    "trial",
    "why_no_window",
]

BINDINGS = ("PyQt6", "PySide6")
UNSEEN = ("offscreen", "minimal", "vnc")
"""Platforms of Qt that need no screen: who sets one wants no window to look at."""
NOT_OPENED = "Qt does not open the screen"
"""How `trial` begins its reason."""

_TRIAL_S = 30.0


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
    wanted = os.environ.get("QT_QPA_PLATFORM", "")
    if wanted in UNSEEN:
        return f"QT_QPA_PLATFORM is {wanted}"
    screens = wanted, os.environ.get("DISPLAY"), os.environ.get("WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not any(screens):
        return "there is no screen (neither DISPLAY nor WAYLAND_DISPLAY is set)"
    found = find_binding()
    if found is None:
        return binding_fault()
    return trial(found[0]) if sys.platform.startswith("linux") else ""


def trial(binding: str) -> str:
    """Return why Qt does not open the screen; empty where it does.

    Tried by a process of its own: where a library of the screen's is missing, or the
    screen is out of reach, Qt aborts.
    """
    script = f"from {binding}.QtWidgets import QApplication; QApplication([])"
    try:
        tried = subprocess.run(
            [sys.executable, "-c", script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TRIAL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{NOT_OPENED}: {error}"
    if tried.returncode == 0:
        return ""
    said = [line for line in tried.stderr.splitlines() if "qt.qpa" in line]
    why = said[0].partition(": ")[2].rstrip(".") if said else tried.returncode
    return f"{NOT_OPENED}: {why}"
