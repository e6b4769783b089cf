"""A blocked window does not block the pipeline."""

from __future__ import annotations

import threading

import numpy as np

from deepblur_live.gui.main_window import MainWindow


def test_results_are_published_while_the_window_is_blocked(
    session, image: np.ndarray, qtbot
) -> None:
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.show()
    session.publish(image)
    qtbot.waitUntil(lambda: window.shown is session.listener.latest, timeout=5000)
    shown_before = window.shown
    done, blocked = threading.Event(), threading.Event()
    published = []

    def produce() -> None:
        assert blocked.wait(10)
        for _ in range(300):
            published.append(session.publish(image))
        done.set()

    producer = threading.Thread(target=produce)
    producer.start()
    # The GUI thread waits here, outside its event loop, until everything is published;
    # if anything waited for the window, this would time out.
    blocked.set()
    assert done.wait(20)
    producer.join(5)
    assert len(published) == 300
    assert window.shown is shown_before
    # Afterwards, only the newest result is shown.
    qtbot.waitUntil(lambda: window.shown is published[-1], timeout=5000)
    assert window.error == ""


def test_a_fast_producer_is_followed_by_skipping_frames(
    session, image: np.ndarray, qtbot
) -> None:
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.show()
    stop = threading.Event()

    def produce() -> None:
        while not stop.wait(0.001):
            session.publish(image)

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
