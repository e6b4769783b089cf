"""Start and stop of a recording from the window, and what its status line says."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtWidgets

if TYPE_CHECKING:
    from deepblur_live.gui.binding import QtGui
    from deepblur_live.session import LiveSession
    from deepblur_live.session.recording import RecordingCounts

__all__ = ["RecordControl", "recording_text"]

_FORMATS = "OME-Zarr (*.ome.zarr);;OME-TIFF (*.ome.tiff)"


class RecordControl:
    """Keeps the Record button and a session's recorder in agreement.

    Parameters
    ----------
    session
        The session whose recorder is controlled.
    button
        Checked while a recording runs.
    """

    # The window is passed to the methods and not kept: a cycle of references would
    # leave its widgets to the garbage collector, which may run in another thread.

    def __init__(self, session: LiveSession, button: QtGui.QAction) -> None:
        self._session, self._button = session, button

    def set_recording(self, on: bool, parent: QtWidgets.QWidget) -> Path | None:
        """Start a recording in the session's folder, or stop it.

        Parameters
        ----------
        on
            Whether to start.
        parent
            Parent of the file dialog.

        Returns
        -------
        path
            The file of a recording that was started. In a session without a folder the
            user chooses it; None if the dialog is cancelled.

        Raises
        ------
        OSError, ValueError
            The file cannot be written.
        """
        if not on:
            self._session.recorder.stop()
            return None
        folder = self._session.folder
        path = self._choose(parent) if folder is None else folder / _name()
        return self._start(path)

    def record_in(self, parent: QtWidgets.QWidget) -> Path | None:
        """Start a recording in a file that the user chooses; ends the one before."""
        path = self._choose(parent)
        if path is not None:
            self._session.recorder.stop()
        return self._start(path)

    def update(self) -> None:
        """Show on the button whether a recording runs, whoever started it."""
        self._button.setChecked(self._session.recorder.recording)

    def _start(self, path: Path | None) -> Path | None:
        try:
            if path is not None:
                self._session.recorder.start(path)
        finally:
            self.update()
        return path

    def _choose(self, parent: QtWidgets.QWidget) -> Path | None:
        suggested = str((self._session.folder or Path.home()) / _name())
        name, kind = QtWidgets.QFileDialog.getSaveFileName(
            parent,
            "File for the deblurred frames",
            suggested,
            _FORMATS,
        )
        if not name:
            return None
        if ".ome." not in Path(name).name:
            name += ".ome.tiff" if "tiff" in kind else ".ome.zarr"
        return Path(name)


def recording_text(counts: tuple[RecordingCounts, ...], *, running: bool) -> str:
    """Return the beginning of the status line; empty if everything is written."""
    if not counts or not (running or counts[-1].waiting):
        return ""
    last = counts[-1]
    missing = last.dropped + last.lost + last.unfit
    return (
        f"{'● recording' if running else 'writing'} {last.path.name}: "
        f"{last.written} written"
        + (f", {missing} not written" if missing else "")
        + (f" ({last.error})" if last.error else "")
        + "   │   "
    )


def _name() -> str:
    return f"recording_{datetime.now():%H-%M-%S}.ome.zarr"
