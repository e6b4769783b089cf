"""The message line at the bottom of the window: errors first, then notices."""

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
    """Shows errors of the window and the camera, and notices, for a few seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("message")
        # A long text is cut off rather than widening the window; see the tooltip.
        self.setMinimumWidth(1)
        self.error = ""
        self._notice = ""
        self._error_until = self._notice_until = 0.0
        self._background: tuple[str, ...] = ()

    def guard(self, action: Callable[[], object]) -> None:
        """Run `action`; show and log its exception instead of raising it.

        PyQt6 aborts the program when an exception leaves a slot.
        """
        try:
            action()
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            if text != self.error:
                logger.exception("error in the window")
            self.error, self._error_until = text, time.monotonic() + _SHOWN_S
            self._show(text)

    def notify(self, text: str) -> None:
        """Show a notice at the next update."""
        self._notice, self._notice_until = text, time.monotonic() + _SHOWN_S

    def update_from(self, background: Sequence[str], camera: str) -> None:
        """Show the most important message.

        Parameters
        ----------
        background
            All errors of background threads so far; the newest is shown when it is new.
        camera
            The camera's current error, or empty.
        """
        if background and tuple(background) != self._background:
            self.notify(background[-1])
        self._background = tuple(background)
        now = time.monotonic()
        error = self.error if now <= self._error_until else ""
        notice = self._notice if now <= self._notice_until else ""
        self._show(error or camera or notice)

    def _show(self, text: str) -> None:
        # The lines after the first hold the worker's traceback.
        self.setText(text.partition("\n")[0])
        self.setToolTip(text)
