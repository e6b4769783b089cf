"""The window of a replay."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from deepblur_live.cli.windowed import show_replay
from deepblur_live.gui.main_window import MainWindow


def test_the_window_shows_that_a_replay_has_failed(session, qtbot) -> None:
    def frames() -> Iterator[None]:
        raise ValueError("img7.tif: not a readable TIFF")
        yield

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
        show_replay(session, frames(), seconds=0.6)
    timer.stop()
    assert any("replay ended: img7.tif" in text for text in shown)
