"""The progress of a replay; after its end a slider through its frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, QtWidgets
from deepblur_live.gui.state_text import Chip

if TYPE_CHECKING:
    from deepblur_live.gui.commands import Commands
    from deepblur_live.gui.replay import Replay
    from deepblur_live.runtime.frame import FrameResult
    from deepblur_live.session import LiveSession

__all__ = ["ReplayBar"]


class ReplayBar(QtWidgets.QWidget):
    """One line below the images.

    Parameters
    ----------
    replay
        The recording.
    session
        The session that processes it.
    commands
        The window's actions: the report and the folder are offered at the end.
    """

    def __init__(
        self, replay: Replay, session: LiveSession, commands: Commands
    ) -> None:
        super().__init__()
        self._replay, self._session = replay, session
        self._wanted: int | None = None
        self.text = QtWidgets.QLabel()
        self.progress = QtWidgets.QProgressBar()
        self.progress.setRange(0, len(replay))
        self.progress.setTextVisible(False)
        self.progress.setMaximumHeight(10)
        self.slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        self.slider.setRange(0, max(0, len(replay) - 1))
        self.slider.setAccessibleName("Frame of the recording")
        self.slider.setToolTip("Show a frame of the recording")
        self.report_button = QtWidgets.QPushButton("Report")
        self.report_button.setToolTip(commands.report.toolTip())
        self.report_button.clicked.connect(commands.report.trigger)
        self.folder_button = QtWidgets.QPushButton("Open folder")
        self.folder_button.setToolTip(commands.folder.toolTip())
        self.folder_button.clicked.connect(commands.folder.trigger)
        # A narrow window cuts the text off.
        self.text.setMinimumWidth(60)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text)
        layout.addWidget(self.progress, 1)
        layout.addWidget(self.slider, 1)
        for button in (self.report_button, self.folder_button):
            button.hide()
            layout.addWidget(button)
        self.slider.hide()
        self.slider.valueChanged.connect(self._on_slider)

    def update_text(self, chip: Chip) -> Chip:
        """Show how far the replay is; return the state to show in place of `chip`."""
        if not self._replay.finished.is_set():
            statistics = self._session.listener.statistics
            done = statistics.processed + statistics.dropped
            self.progress.setValue(done)
            self.text.setText(f"frame {done} of {len(self._replay)}")
            return chip
        if not self.progress.isHidden():
            self._end()
        if self._replay.error:
            return Chip(None, "REPLAY FAILED", self._replay.error)
        reason = f"all frames of the recording are processed; last state: {chip.text}"
        return Chip(None, "FINISHED", reason)

    def take_frame(self) -> FrameResult | None:
        """Return the frame that the slider asks for, once; None if it has not moved.

        Called once per tick, however fast the slider moves.

        Raises
        ------
        SeriesError
            It cannot be read.
        """
        index, self._wanted = self._wanted, None
        if index is None:
            return None
        return self._replay.frame(index, self._session.recorder)

    def close_files(self) -> None:
        """Close the file of the deblurred frames."""
        self._replay.close()

    def _end(self) -> None:
        """Show the slider and the buttons for a finished replay."""
        recorder, folder = self._session.recorder, self._session.folder
        if recorder.recording:
            recorder.stop()  # nothing more comes
        end = "ended early" if self._replay.error else "finished"
        where = "" if folder is None else f", saved in {folder.name}"
        self.text.setText(f"Replay {end}: {len(self._replay)} frames{where}")
        self.text.setToolTip("" if folder is None else str(folder))
        self.progress.hide()
        blocked = QtCore.QSignalBlocker(self.slider)
        self.slider.setValue(self.slider.maximum())
        blocked.unblock()
        self.slider.setVisible(self.slider.maximum() > 0)
        self.folder_button.setVisible(folder is not None)
        followed = self._session.family.n_coefficients > 0
        self.report_button.setVisible(folder is not None and followed)

    def _on_slider(self, index: int) -> None:
        self._wanted = index
