"""A window that stands still holds nobody up."""

from __future__ import annotations

import threading

import numpy as np

from deepblur_live.gui.main_window import MainWindow


def test_publishing_goes_on_while_the_window_is_blocked(
    session, picture: np.ndarray, qtbot
) -> None:
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.show()
    session.publish(picture)
    qtbot.waitUntil(lambda: window.shown is session.listener.latest, timeout=5000)
    shown_before = window.shown
    done, blocked = threading.Event(), threading.Event()
    published = []

    def produce() -> None:
        assert blocked.wait(10)
        for _ in range(300):
            published.append(session.publish(picture))
        done.set()

    producer = threading.Thread(target=produce)
    producer.start()
    # The GUI's thread stands here, outside its event loop, until all is published:
    # were anything waiting for the window, this would run into the timeout.
    blocked.set()
    assert done.wait(20)
    producer.join(5)
    assert len(published) == 300
    assert window.shown is shown_before
    # Awake again it shows the newest alone, in one step.
    qtbot.waitUntil(lambda: window.shown is published[-1], timeout=5000)
    assert window.error == ""


def test_every_read_is_of_the_newest(session, picture: np.ndarray, qtbot) -> None:
    """A producer at full speed: the window keeps up by leaving frames out."""
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.show()
    stop = threading.Event()

    def produce() -> None:
        while not stop.wait(0.001):
            session.publish(picture)

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        qtbot.waitUntil(
            lambda: window.shown is not None and window.shown.frame.number > 100,
            timeout=20_000,
        )
    finally:
        stop.set()
        producer.join(5)
    assert not producer.is_alive()
    assert window.error == ""
