"""The menu entry of a calibration with beads."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, QtWidgets, Signal
from deepblur_live.gui.calibration.dialog import CalibrationDialog

if TYPE_CHECKING:
    from deepblur_live.gui.commands import Commands
    from deepblur_live.gui.message_line import MessageLine
    from deepblur_live.session import LiveSession

__all__ = ["CalibrationActions"]

logger = logging.getLogger(__name__)


class CalibrationActions(QtCore.QObject):
    """Opens the dialog; it keeps its state while it is closed.

    Parameters
    ----------
    session
        The window's session.
    commands
        The window's actions.
    message
        The line in which the window shows messages.
    parent
        The window.
    """

    saved = Signal(object)
    """The path of a profile that uses a new calibration."""

    def __init__(
        self,
        session: LiveSession,
        commands: Commands,
        message: MessageLine,
        parent: QtWidgets.QWidget,
    ) -> None:
        super().__init__(parent)
        self._session, self._message = session, message
        self.dialog: CalibrationDialog | None = None
        # A bound method, as a connected closure would keep the window alive.
        commands.calibrate.triggered.connect(self._on_calibrate)

    def end(self) -> None:
        """End the sweep or the fit that runs; the window is closing."""
        if self.dialog is not None and not self.dialog.end():
            logger.warning("a sweep did not end while the window was closing")

    def _on_calibrate(self) -> None:
        self._message.guard(self._open)

    def _open(self) -> None:
        if self.dialog is None:
            parent = self.parent()
            assert isinstance(parent, QtWidgets.QWidget)
            self.dialog = CalibrationDialog(self._session, parent)
            self.dialog.saved.connect(self.saved)
        self.dialog.show()
        self.dialog.raise_()
