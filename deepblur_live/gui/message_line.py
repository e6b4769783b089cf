"""The line at the foot that says what went wrong, or what has just been done."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtWidgets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["MessageLine"]

logger = logging.getLogger(__name__)

_SHOWN_S = 8.0


class MessageLine(QtWidgets.QLabel):
    """Shows, for some seconds each: the window's errors, the camera's, other news."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("message")
        # A long text is cut, not a reason for the window to grow; the tooltip has it.
        self.setMinimumWidth(1)
        self.error = ""
        self._error_until = self._note_until = 0.0
        self._note = ""
        self._background: tuple[str, ...] = ()

    def guard(self, work: Callable[[], object]) -> None:
        """Do `work`; what it raises is shown and logged, not raised.

        An exception that leaves a slot ends the program under PyQt6.
        """
        try:
            work()
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            if text != self.error:
                logger.exception("the window could not do what was asked")
            self.error, self._error_until = text, time.monotonic() + _SHOWN_S
            self._show(text)

    def say(self, text: str) -> None:
        """Tell something that has been done."""
        self._note, self._note_until = text, time.monotonic() + _SHOWN_S

    def update_from(self, background: Sequence[str], camera: str) -> None:
        """Show what matters most now.

        Parameters
        ----------
        background
            What has gone wrong out of sight so far; the newest is told when it comes.
        camera
            The core's standing error, or empty.
        """
        if background and tuple(background) != self._background:
            self.say(background[-1])
        self._background = tuple(background)
        now = time.monotonic()
        error = self.error if now <= self._error_until else ""
        note = self._note if now <= self._note_until else ""
        self._show(error or camera or note)

    def _show(self, text: str) -> None:
        # Below the first line of an error stands the worker's traceback.
        self.setText(text.partition("\n")[0])
        self.setToolTip(text)
