"""The menu Session: the camera, recordings, the baseline, alerts and focus sweeps."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, QtGui, QtWidgets
from deepblur_live.gui.commands import allow
from deepblur_live.gui.guidance import needs_session
from deepblur_live.gui.record_control import RecordControl
from deepblur_live.gui.sweep_dialog import SweepDialog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deepblur_live.gui.alert_banner import AlertBanner
    from deepblur_live.gui.camera_link import CameraLink
    from deepblur_live.gui.commands import Commands
    from deepblur_live.gui.message_line import MessageLine
    from deepblur_live.gui.toolbar import Toolbar
    from deepblur_live.session import LiveSession

__all__ = ["SessionActions"]

logger = logging.getLogger(__name__)


class SessionActions(QtCore.QObject):
    """Forwards the user's actions to the session and the camera.

    Parameters
    ----------
    session
        The window's session.
    link
        The controls of its camera, or None.
    commands
        The window's actions; those of the menu Session are connected.
    toolbar, banner
        The window's toolbar (exposure) and alert banner (responses).
    message
        The window's message line.
    parent
        The window.
    """

    def __init__(
        self,
        session: LiveSession,
        link: CameraLink | None,
        commands: Commands,
        toolbar: Toolbar,
        banner: AlertBanner,
        message: MessageLine,
        parent: QtWidgets.QWidget,
    ) -> None:
        super().__init__(parent)
        self._session, self._link, self._commands = session, link, commands
        self._toolbar, self._banner, self._message = toolbar, banner, message
        self._record = RecordControl(session, commands.record)
        self._sweep: SweepDialog | None = None
        # Bound methods, as a connected closure would keep the window alive.
        commands.record.triggered.connect(self._on_record)
        commands.record_in.triggered.connect(self._on_record_in)
        commands.acknowledge.triggered.connect(self._on_acknowledge)
        commands.rebaseline.triggered.connect(self._on_rebaseline)
        for action in commands.snoozes:
            action.triggered.connect(self._on_snooze_action)
        banner.acknowledge_button.clicked.connect(self._on_acknowledge)
        banner.rebaseline_button.clicked.connect(self._on_rebaseline)
        banner.snoozed.connect(self._on_snooze)
        if link is None:
            for action in (
                commands.live,
                commands.snap,
                commands.edit_exposure,
                commands.every_frame,
                commands.sweep,
                commands.check,
            ):
                allow(action, "this session has no camera")
            return
        banner.sweep_button.setVisible(True)
        banner.sweep_button.clicked.connect(self._on_sweep)
        commands.sweep.triggered.connect(self._on_sweep)
        commands.check.triggered.connect(self._on_check)
        commands.live.triggered.connect(link.set_live)
        commands.snap.triggered.connect(link.snap)
        commands.edit_exposure.triggered.connect(toolbar.edit_exposure)
        commands.every_frame.triggered.connect(self._on_every_frame)
        toolbar.exposure_edited.connect(self._on_exposure)

    def update(self) -> None:
        """Show the state of the camera and the session on the actions."""
        session, commands = self._session, self._commands
        self._record.update()
        ended = needs_session(session)
        for action in (commands.record, commands.record_in, commands.rebaseline):
            allow(action, ended)
        quiet = "" if session.alerts else "there has been no alert"
        allow(commands.acknowledge, ended or quiet)
        for action in commands.snoozes:
            allow(action, ended)
        if self._link is not None:
            self._toolbar.show_camera(self._link)
            allow(commands.every_frame, ended)
            allow(commands.sweep, ended)
            allow(commands.check, ended)
            commands.every_frame.setChecked(session.listener.processes_every_frame)

    def end(self) -> None:
        """Wait for a focus sweep; the window is closing."""
        if self._sweep is not None and not self._sweep.end():
            logger.warning("a focus sweep did not end while the window was closing")

    def _on_every_frame(self, on: bool) -> None:
        self._message.guard(lambda: self._session.process_every_frame(on))

    def _on_record(self, on: bool) -> None:
        self._message.guard(
            lambda: self._notify_path(self._record.set_recording(on, self._window()))
        )

    def _on_record_in(self) -> None:
        self._message.guard(
            lambda: self._notify_path(self._record.record_in(self._window()))
        )

    def _notify_path(self, path: Path | None) -> None:
        if path is not None:
            self._message.notify(f"recording the deblurred frames in {path}")

    def _on_acknowledge(self) -> None:
        self._respond(self._session.acknowledge)

    def _on_rebaseline(self) -> None:
        self._respond(self._session.rebaseline)

    def _on_snooze(self, seconds: float) -> None:
        self._respond(lambda: self._session.snooze(seconds))

    def _on_snooze_action(self) -> None:
        action = self.sender()
        if isinstance(action, QtGui.QAction):
            self._on_snooze(float(action.data()))

    def _respond(self, response: Callable[[], None]) -> None:
        """Respond to the alert and hide its banner."""

        def respond() -> None:
            response()
            self._banner.dismiss()

        self._message.guard(respond)

    def _on_sweep(self) -> None:
        self._message.guard(self._open_sweep)

    def _on_check(self) -> None:
        self._message.guard(lambda: self._open_sweep().check.click())

    def _open_sweep(self) -> SweepDialog:
        if self._sweep is None:
            self._sweep = SweepDialog(self._session, self._window())
        self._sweep.show()
        self._sweep.raise_()
        return self._sweep

    def _on_exposure(self, exposure_ms: float) -> None:
        if self._link is not None and exposure_ms != self._link.exposure_ms:
            self._link.set_exposure(exposure_ms)
        self._window().setFocus()

    def _window(self) -> QtWidgets.QWidget:
        parent = self.parent()
        assert isinstance(parent, QtWidgets.QWidget)
        return parent
