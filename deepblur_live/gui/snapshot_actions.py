"""Snapshots of the result on screen, in the session's folder or another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, QtWidgets
from deepblur_live.gui.commands import allow
from deepblur_live.gui.guidance import needs_frame
from deepblur_live.gui.snapshot import save_snapshot

if TYPE_CHECKING:
    from deepblur_live.gui.commands import Commands
    from deepblur_live.gui.message_line import MessageLine
    from deepblur_live.runtime.frame import FrameResult
    from deepblur_live.session import LiveSession

__all__ = ["SnapshotActions"]


class SnapshotActions(QtCore.QObject):
    """Saves what is on screen.

    Parameters
    ----------
    session
        The window's session.
    commands
        The window's actions; those of snapshots are connected.
    message
        The window's message line.
    parent
        The window.
    """

    def __init__(
        self,
        session: LiveSession,
        commands: Commands,
        message: MessageLine,
        parent: QtWidgets.QWidget,
    ) -> None:
        super().__init__(parent)
        self._session, self._commands, self._message = session, commands, message
        self._shown: FrameResult | None = None
        self._folder: Path | None = None
        commands.save.triggered.connect(self._on_save)
        commands.save_as.triggered.connect(self._on_save_as)

    def take(self, shown: FrameResult) -> None:
        """Set the result on screen."""
        self._shown = shown

    def update(self) -> None:
        """Grey out the actions while there is nothing to save."""
        for action in (self._commands.save, self._commands.save_as):
            allow(action, needs_frame(self._shown))

    def save(self, folder: Path | None = None) -> tuple[Path, ...]:
        """Save the result on screen.

        Parameters
        ----------
        folder
            By default, the folder chosen last, the session's, or one the user chooses.

        Returns
        -------
        paths
            The files written; none without a result or a folder.
        """
        if self._shown is None:
            self._message.notify("no frame to save yet")
            return ()
        folder = folder or self._folder or self._session.folder or self._choose_folder()
        if folder is None:
            return ()
        paths = save_snapshot(self._shown, self._session, folder)
        self._message.notify(f"saved {paths[-1].stem} in {folder}")
        return paths

    def _on_save(self) -> None:
        self._message.guard(self.save)

    def _on_save_as(self) -> None:
        self._message.guard(self._save_as)

    def _save_as(self) -> None:
        folder = self._choose_folder()
        if folder is not None:
            self._folder = folder
            self.save(folder)

    def _choose_folder(self) -> Path | None:
        parent = self.parent()
        chosen = QtWidgets.QFileDialog.getExistingDirectory(
            parent if isinstance(parent, QtWidgets.QWidget) else None,
            "Folder for snapshots",
            str(self._folder or Path.home()),
        )
        return Path(chosen) if chosen else None
