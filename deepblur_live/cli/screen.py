"""Find out whether a window can be opened here, and if not, why."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import subprocess
import sys

__all__ = [
    "BINDINGS",
    "INVISIBLE",
    "NOT_OPENED",
    "binding_fault",
    "find_binding",
    "trial",
    "why_no_window",
]

BINDINGS = ("PyQt6", "PySide6")
INVISIBLE = ("offscreen", "minimal", "vnc")
"""Qt platforms that need no screen: whoever selects one wants no visible window."""
NOT_OPENED = "Qt cannot open the screen"
"""First words of a reason given by `trial`."""

_TRIAL_S = 30.0


def find_binding() -> tuple[str, str] | None:
    """Return name and version of the first Qt binding that loads, or None.

    It is imported, because the system libraries that Qt needs are missing more often
    than the binding itself.
    """
    for name in _in_order():
        try:
            importlib.import_module(f"{name}.QtWidgets")
        except ImportError:
            continue
        return name, importlib.metadata.version(name)
    return None


def _in_order() -> list[str]:
    # QT_API tells qtpy which of several bindings to use.
    wanted = os.environ.get("QT_API", "").lower()
    return sorted(BINDINGS, key=lambda name: name.lower() != wanted)


def binding_fault() -> str:
    """Return why no binding loads."""
    for name in BINDINGS:
        try:
            importlib.import_module(f"{name}.QtWidgets")
        except ModuleNotFoundError:
            continue
        except ImportError as error:
            return f"{name} is installed but does not load: {error}"
    return "no Qt binding is installed"


def why_no_window() -> str:
    """Return why a run must be headless; empty if a window can be opened."""
    wanted = os.environ.get("QT_QPA_PLATFORM", "")
    if wanted in INVISIBLE:
        return f"QT_QPA_PLATFORM is {wanted}"
    screens = wanted, os.environ.get("DISPLAY"), os.environ.get("WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not any(screens):
        return "there is no screen (neither DISPLAY nor WAYLAND_DISPLAY is set)"
    found = find_binding()
    if found is None:
        return binding_fault()
    return trial(found[0]) if sys.platform.startswith("linux") else ""


def trial(binding: str) -> str:
    """Return why Qt cannot open the screen; empty if it can.

    This is tried in a separate process, because Qt aborts when it cannot.
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
    messages = [line for line in tried.stderr.splitlines() if "qt.qpa" in line]
    why = messages[0].partition(": ")[2].rstrip(".") if messages else tried.returncode
    return f"{NOT_OPENED}: {why}"
