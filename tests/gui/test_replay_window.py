"""The window of a replay."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from deepblur_live.cli.windowed import show_replay
from deepblur_live.gui.main_window import MainWindow


def windows() -> list[MainWindow]:
    return [w for w in QApplication.topLevelWidgets() if isinstance(w, MainWindow)]


def test_the_window_shows_that_a_replay_has_finished(session, image, qtbot) -> None:
    class Recording:
        interval_s = 0.5

        def __len__(self) -> int:
            return 3

        def __iter__(self) -> Iterator[tuple[object, dict[str, object]]]:
            return iter([(image, {})] * 3)

    waited: list[float] = []
    session.listener.submit = lambda pixels, *_, **__: session.publish(pixels)
    session.listener.drain = lambda seconds: waited.append(seconds) or len(waited) > 2
    shown: set[str] = set()
    timer = QTimer()
    timer.timeout.connect(
        lambda: shown.update(window.toolbar.chip.text() for window in windows())
    )
    timer.start(50)
    show_replay(session, Recording(), seconds=1.0)
    timer.stop()
    # The last frames are waited for.
    assert "FINISHED" in shown and len(waited) == 3


def test_the_window_shows_that_a_replay_has_failed(session, qtbot) -> None:
    class Damaged:
        def __len__(self) -> int:
            return 9

        def __iter__(self) -> Iterator[None]:
            raise ValueError("img7.tif: not a readable TIFF")

    shown: list[str] = []
    timer = QTimer()
    timer.timeout.connect(
        lambda: shown.extend(
            window.message.text()
            for window in QApplication.topLevelWidgets()
            if isinstance(window, MainWindow)
        )
    )
    timer.start(50)
    with pytest.raises(ValueError, match=r"img7\.tif"):
        show_replay(session, Damaged(), seconds=0.6)
    timer.stop()
    assert any("replay ended: img7.tif" in text for text in shown)
