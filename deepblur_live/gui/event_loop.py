"""Open the window of a session, in a script or in a Qt program that already runs."""

from __future__ import annotations

import functools
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, QtWidgets
from deepblur_live.gui.main_window import MainWindow
from deepblur_live.gui.palette import darken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deepblur_live.gui.replay import Replay
    from deepblur_live.session import LiveSession

__all__ = ["application", "show"]

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


@functools.cache
def application() -> QtWidgets.QApplication:
    """Return Qt's application; create one with a dark palette if there is none.

    An existing one keeps its style. The reference is kept until the program ends: Qt
    aborts if a widget outlives the application.
    """
    running = QtWidgets.QApplication.instance()
    if isinstance(running, QtWidgets.QApplication):
        return running
    created = QtWidgets.QApplication(["deepblur-live"])
    darken(created)
    return created


def show(
    session: LiveSession,
    *,
    seconds: float | None = None,
    replay: Replay | None = None,
) -> MainWindow:
    """Show a session in a window.

    Where Qt's event loop runs already (napari, pymmcore-gui, IPython after ``%gui qt``)
    the window is returned at once; keep a reference to it, as Qt does not. Elsewhere
    this runs the event loop and returns when the window is closed; Ctrl+C closes it.

    Parameters
    ----------
    session
        The session; close it after the window. If it has a core, the window controls
        live mode and exposure.
    seconds
        Close the window after this time.
    replay
        The recording that the session processes, for progress and a slider.
    """
    app = application()
    if _event_loop_runs():
        return _opened(session, seconds, replay)
    with _closed_by_signals() as windows:
        window = _opened(session, seconds, replay)
        windows.append(window)
        try:
            app.exec()
        finally:
            window.close()
    return window


def _opened(
    session: LiveSession, seconds: float | None, replay: Replay | None
) -> MainWindow:
    window = MainWindow(session, replay=replay)
    window.show()
    if seconds is not None:
        QtCore.QTimer.singleShot(round(1000 * seconds), window.close)
    return window


def _event_loop_runs() -> bool:
    thread = QtCore.QThread.currentThread()
    if thread is not None and thread.loopLevel() > 0:
        return True
    # IPython runs Qt's loop only while it waits for input.
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return str(getattr(shell, "active_eventloop", "")).startswith("qt")


@contextmanager
def _closed_by_signals() -> Iterator[list[MainWindow]]:
    """Close the windows in the yielded list on Ctrl+C, from the event loop.

    A KeyboardInterrupt in a Qt slot, or in an event while a window is created, would
    abort the program or get lost. Python runs a signal's handler between any two
    instructions, also within a paint event: closing a window there crashes. Qt's event
    loop closes it instead.
    """
    windows: list[MainWindow] = []

    def close_all() -> None:
        for window in windows:
            window.close()

    def close(*_: object) -> None:
        QtCore.QTimer.singleShot(0, close_all)

    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    handled = [n for n in numbers if signal.getsignal(n) != signal.SIG_IGN]
    before = [signal.signal(n, close) for n in handled]
    try:
        yield windows
    finally:
        for number, handler in zip(handled, before, strict=True):
            signal.signal(number, handler)
