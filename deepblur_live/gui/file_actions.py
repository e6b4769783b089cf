"""The menu File: recordings, profiles, sessions and reports, in separate processes."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, QtGui, QtWidgets
from deepblur_live.gui.child_process import ChildProcess
from deepblur_live.gui.commands import allow
from deepblur_live.gui.guidance import needs_folder
from deepblur_live.gui.open_path import open_path
from deepblur_live.gui.profile_dialog import ProfileDialog
from deepblur_live.profile import ProfileError, load_profile

if TYPE_CHECKING:
    from deepblur_live.gui.commands import Commands
    from deepblur_live.gui.message_line import MessageLine
    from deepblur_live.session import LiveSession

__all__ = ["FileActions", "recent_sessions"]

_RECENT = 10
_RECORDINGS = "Recordings (*.tif *.tiff *.zarr zarr.json .zattrs);;All files (*)"


class FileActions(QtCore.QObject):
    """Opens recordings and reports, and reports the outcome.

    Parameters
    ----------
    session
        The window's session.
    commands
        The window's actions; those of the menu File are connected.
    recent
        The menu of recent sessions.
    message
        The window's message line.
    parent
        The window.
    """

    def __init__(
        self,
        session: LiveSession,
        commands: Commands,
        recent: QtWidgets.QMenu,
        message: MessageLine,
        parent: QtWidgets.QWidget,
    ) -> None:
        super().__init__(parent)
        self._session, self._commands, self._message = session, commands, message
        self._recent = recent
        self._profile: Path | None = None
        self._report: tuple[ChildProcess, Path] | None = None
        self._recordings: list[ChildProcess] = []
        commands.open_recording.triggered.connect(self._on_recording)
        commands.open_profile.triggered.connect(self._on_profile)
        commands.edit_profile.triggered.connect(self._on_edit_profile)
        commands.folder.triggered.connect(self._on_folder)
        commands.report.triggered.connect(self._on_report)
        recent.aboutToShow.connect(self._on_recent_menu)
        recent.triggered.connect(self._on_recent)

    def update(self) -> str:
        """Grey out what is not possible; return what is in progress, or empty."""
        session = self._session
        doing = self._poll_report()
        self._poll_recordings()
        allow(
            self._commands.folder,
            "this session writes nothing to disk" if session.folder is None else "",
        )
        busy = "a report is being written" if doing else ""
        allow(self._commands.report, busy or needs_folder(session))
        return doing

    def end(self) -> None:
        """Stop writing a report; recordings in other windows continue."""
        if self._report is not None:
            self._report[0].end()
            self._report = None
        for child in self._recordings:
            child.leave()
        self._recordings = []

    def use_profile(self, path: Path) -> None:
        """Use a profile that was saved here for the recordings opened from here."""
        self._use(path, path.name)

    def write_report(self, folder: Path) -> None:
        """Write the report of a session, and open it when it is written."""
        if self._report is None:
            child = ChildProcess("the report", ["report", str(folder)])
            self._report = child, folder

    def _poll_report(self) -> str:
        if self._report is None:
            return ""
        child, folder = self._report
        if child.exit_code is None:
            return f"writing the report of {folder.name} …"
        if child.exit_code == 0:
            self._message.notify(f"wrote {folder / 'report.html'}")
            open_path(folder / "report.html")
        else:
            self._message.notify(f"the report failed: {child.last_line}")
        child.end()
        self._report = None
        return ""

    def _poll_recordings(self) -> None:
        for child in tuple(self._recordings):
            if child.exit_code is None:
                continue
            if child.exit_code:
                self._message.notify(f"{child.purpose}: {child.last_line}")
            child.end()
            self._recordings.remove(child)

    def _on_recording(self) -> None:
        self._message.guard(self._open_recording)

    def _open_recording(self) -> None:
        name, _ = QtWidgets.QFileDialog.getOpenFileName(
            self._window(), "Open a recording", str(self._place()), _RECORDINGS
        )
        if not name:
            return
        path = Path(name)
        # A Zarr store is a folder, which this dialog cannot choose: take a file in it.
        if path.name in ("zarr.json", ".zattrs"):
            path = path.parent
        arguments = ["replay", str(path), "--window"]
        if self._profile is not None:
            arguments += ["--profile", str(self._profile)]
        if self._session.folder is not None:
            arguments += ["--output", str(self._session.folder.parent)]
        self._recordings.append(ChildProcess(path.name, arguments))
        self._message.notify(f"opening {path.name} in a separate window …")

    def _on_profile(self) -> None:
        self._message.guard(self._open_profile)

    def _open_profile(self) -> None:
        name, _ = QtWidgets.QFileDialog.getOpenFileName(
            self._window(), "Open a profile", str(self._place()), "Profiles (*.toml)"
        )
        if not name:
            return
        try:
            profile = load_profile(Path(name))
        except ProfileError as error:
            QtWidgets.QMessageBox.warning(self._window(), "Open a profile", str(error))
            return
        self._use(Path(name), profile.name)

    def _use(self, path: Path, name: str) -> None:
        self._profile = path
        self._message.notify(
            f"{name}: used for recordings opened from here; this session keeps its own "
            "profile"
        )

    def _on_edit_profile(self) -> None:
        self._message.guard(self._edit_profile)

    def _edit_profile(self) -> None:
        dialog = ProfileDialog(self._session.profile, self._window())
        dialog.setAttribute(QtCore.Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.saved.connect(self.use_profile)
        dialog.show()

    def _on_folder(self) -> None:
        if self._session.folder is not None:
            open_path(self._session.folder)

    def _on_report(self) -> None:
        folder = self._session.folder
        if folder is not None:
            self._message.guard(lambda: self.write_report(folder))

    def _on_recent_menu(self) -> None:
        self._recent.clear()
        folder = self._session.folder
        try:
            found = [] if folder is None else recent_sessions(folder.parent)
        except OSError as error:  # such as a disk that was unplugged
            self._message.notify(f"recent sessions cannot be listed: {error}")
            found = []
        for path in found:
            action = QtGui.QAction(path.name, self._recent)
            action.setData(str(path))
            action.setToolTip(f"Open the report of {path}; write it if there is none")
            self._recent.addAction(action)
        if not found:
            action = QtGui.QAction("no recent sessions", self._recent)
            action.setEnabled(False)
            self._recent.addAction(action)

    def _on_recent(self, action: QtGui.QAction) -> None:
        folder = Path(action.data())
        report = folder / "report.html"
        if report.exists() and folder != self._session.folder:
            open_path(report)
        else:
            self._message.guard(lambda: self.write_report(folder))

    def _place(self) -> Path:
        return Path.home() if self._profile is None else self._profile.parent

    def _window(self) -> QtWidgets.QWidget | None:
        parent = self.parent()
        return parent if isinstance(parent, QtWidgets.QWidget) else None


def recent_sessions(parent: Path) -> list[Path]:
    """Return the folders of the latest sessions in a folder, the latest first."""

    def begun(folder: Path) -> datetime | None:
        try:
            return datetime.strptime(folder.name[:19], "%Y-%m-%d_%H-%M-%S")
        except ValueError:
            return None

    folders = [path for path in parent.iterdir() if begun(path) and path.is_dir()]
    return sorted(folders, reverse=True)[:_RECENT]
