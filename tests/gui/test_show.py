"""`show` opens the window with and without a running event loop, and in a dock."""

from __future__ import annotations

import os
import signal
import sys
import time
from types import SimpleNamespace

import pytest
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QPainter
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow, QWidget

from deepblur_live.gui import MainWindow, show
from deepblur_live.gui.image_pane import ImagePane


def test_without_an_event_loop_it_returns_when_the_window_is_closed(
    session, image, qapp: QApplication
) -> None:
    result = session.publish(image)
    shown = []

    def close_when_shown() -> None:
        for window in QApplication.topLevelWidgets():
            if isinstance(window, MainWindow) and window.shown is result:
                shown.append(window)
                window.close()

    timer = QTimer()
    timer.timeout.connect(close_when_shown)
    timer.start(20)
    window = show(session, seconds=30)
    timer.stop()
    assert set(shown) == {window}
    assert not window.isVisible()
    assert not window.timer.isActive()


def test_with_an_event_loop_it_returns_at_once(session, qtbot) -> None:
    windows = []
    # A slot runs inside the event loop.
    QTimer.singleShot(0, lambda: windows.append(show(session)))
    qtbot.waitUntil(lambda: bool(windows), timeout=5000)
    qtbot.addWidget(windows[0])
    assert windows[0].isVisible()


def test_in_ipython_with_qt_it_returns_at_once(session, qtbot, monkeypatch) -> None:
    shell = SimpleNamespace(active_eventloop="qt6")
    ipython = SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    window = show(session)
    qtbot.addWidget(window)
    assert window.isVisible()


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to itself")
def test_ctrl_c_closes_the_window(session, qapp: QApplication) -> None:
    before = signal.getsignal(signal.SIGINT)
    QTimer.singleShot(100, lambda: os.kill(os.getpid(), signal.SIGINT))
    window = show(session, seconds=30)
    assert not window.isVisible()
    assert signal.getsignal(signal.SIGINT) is before


class Interrupting(QWidget):
    """Raises Ctrl+C while it is painted, and records whether it was shown after it."""

    shown_after: bool | None = None

    def paintEvent(self, _: object) -> None:
        painter = QPainter(self)
        if self.shown_after is None:
            signal.raise_signal(signal.SIGINT)
            self.shown_after = self.isVisible()
        painter.end()


def test_ctrl_c_within_a_paint_event_closes_the_window_after_it(
    session, qapp: QApplication
) -> None:
    """A window that is closed while it is painted crashes."""
    painted = Interrupting()

    def put_in_the_window() -> None:
        (window,) = (w for w in qapp.topLevelWidgets() if isinstance(w, MainWindow))
        painted.setParent(window)
        painted.resize(50, 50)
        painted.show()

    QTimer.singleShot(100, put_in_the_window)
    window = show(session, seconds=30)
    assert painted.shown_after is True
    assert not window.isVisible()


def test_ctrl_c_while_the_window_is_made_closes_it(
    session, qapp: QApplication, monkeypatch
) -> None:
    """An exception in an event that Qt sends is printed, and lost."""
    raised, resized = [], ImagePane.resizeEvent

    def interrupted(pane, event) -> None:
        resized(pane, event)
        if not raised:
            raised.append(1)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ImagePane, "resizeEvent", interrupted)
    began = time.monotonic()
    assert not show(session, seconds=60).isVisible()
    assert raised and time.monotonic() - began < 30


def test_the_window_closes_after_some_time(session, qapp: QApplication) -> None:
    assert not show(session, seconds=0.05).isVisible()


def test_the_window_works_in_a_dock(session, image, qtbot) -> None:
    host = QMainWindow()
    qtbot.addWidget(host)
    window = MainWindow(session)
    dock = QDockWidget("deblurred", host)
    dock.setWidget(window)
    host.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
    host.show()
    result = session.publish(image)
    qtbot.waitUntil(lambda: window.shown is result, timeout=5000)
    assert window.isVisible()
    assert window.error == ""
