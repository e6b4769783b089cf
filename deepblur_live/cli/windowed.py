"""A run in the window: the same rig, shown, until the window is closed."""

from __future__ import annotations

import functools
import signal
import threading
from typing import TYPE_CHECKING

from deepblur_live.cli.headless import feed
from deepblur_live.gui.binding import QtCore, QtWidgets
from deepblur_live.gui.main_window import MainWindow

if TYPE_CHECKING:
    from deepblur_live.acquisition.replay import ReplaySource
    from deepblur_live.cli.mda import MdaRun
    from deepblur_live.cli.rig import Rig

__all__ = ["application", "show_live", "show_replay"]

_JOIN_S = 10.0


@functools.cache
def application() -> QtWidgets.QApplication:
    """Return Qt's application; it must exist before the core that it will show.

    Kept for as long as the program lives: Qt aborts where a widget outlives it.
    """
    running = QtWidgets.QApplication.instance()
    if isinstance(running, QtWidgets.QApplication):
        return running
    return QtWidgets.QApplication(["deepblur-live"])


def show_live(
    rig: Rig, *, start: bool, seconds: float | None = None, mda: MdaRun | None = None
) -> None:
    """Show a rig with a core until the window is closed, or for `seconds`.

    Parameters
    ----------
    rig
        A running rig.
    start
        Whether live mode starts by itself.
    seconds
        After which the window closes by itself; None for never.
    mda
        What is run beside; the window stays after its end.
    """
    assert rig.core is not None
    window = MainWindow(rig.session, mmcore=rig.core)
    if start:
        rig.core.startContinuousSequenceAcquisition()
    if mda is not None:
        mda.start()
    _show(window, seconds)
    if mda is not None:
        _ = mda.ended  # raises what it ended with


def show_replay(rig: Rig, source: ReplaySource, seconds: float | None = None) -> None:
    """Show a recording going through the rig until the window is closed."""
    stop = threading.Event()
    failure: list[Exception] = []

    def run() -> None:
        try:
            feed(rig, source, stop=stop)
        except Exception as error:  # handed to the caller when the window is closed
            failure.append(error)
            # The window says it now.
            rig.session.background_errors.append(f"the replay ended: {error}")

    feeder = threading.Thread(target=run, name="replay", daemon=True)
    window = MainWindow(rig.session)
    feeder.start()
    try:
        _show(window, seconds)
    finally:
        stop.set()
        feeder.join(_JOIN_S)
    if failure:
        raise failure[0]


def _show(window: MainWindow, seconds: float | None) -> None:
    app = application()
    # An exception out of a Qt slot aborts the program: no KeyboardInterrupt in here.
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    told = [getattr(signal, name) for name in names if hasattr(signal, name)]
    told = [number for number in told if signal.getsignal(number) != signal.SIG_IGN]
    before = [signal.signal(number, lambda *_: window.close()) for number in told]
    try:
        window.show()
        if seconds is not None:
            QtCore.QTimer.singleShot(round(1000 * seconds), window.close)
        app.exec()
    finally:
        for number, handler in zip(told, before, strict=True):
            signal.signal(number, handler)
        window.close()
        window.deleteLater()
        app.processEvents()
