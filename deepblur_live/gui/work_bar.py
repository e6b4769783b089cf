"""A progress bar that runs its work on a separate thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from deepblur_live.gui.binding import QtCore, QtWidgets, Signal

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WorkBar"]

_POLL_MS = 100


class WorkBar(QtWidgets.QProgressBar):
    """Runs one task at a time, such as a focus sweep, and shows its progress.

    Parameters
    ----------
    name
        Name of the thread.
    """

    done = Signal(object)
    """What the work returned, or the exception that it raised."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setRange(0, 100)
        self._name = name
        self._thread: threading.Thread | None = None
        self._share = 0.0
        self._outcomes: list[Any] = []
        self._timer = QtCore.QTimer(self)
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self._on_timer)

    @property
    def busy(self) -> bool:
        """Whether a task is running."""
        return self._thread is not None

    def work(self, work: Callable[[Callable[[float], None]], Any]) -> None:
        """Call `work` on a thread; it reports its share, 0 to 1, to its argument."""
        self._share = 0.0
        self._outcomes.clear()

        def run() -> None:
            try:
                outcome = work(self._advance)
            except Exception as error:  # for the user to see
                outcome = error
            self._outcomes.append(outcome)

        # A daemon, so that a stage that does not respond cannot block the exit.
        self._thread = threading.Thread(target=run, name=self._name, daemon=True)
        self._thread.start()
        self._timer.start()

    def end(self, timeout_s: float) -> bool:
        """Wait for the work; False if it is not done after `timeout_s` seconds."""
        self._timer.stop()
        if self._thread is not None:
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True

    def _advance(self, share: float) -> None:
        self._share = share

    def _on_timer(self) -> None:
        self.setValue(round(100 * self._share))
        if not self._outcomes:
            return
        self._timer.stop()
        assert self._thread is not None
        self._thread.join()
        self._thread = None
        outcome = self._outcomes.pop()
        if isinstance(outcome, Exception):
            self.setValue(0)
        self.done.emit(outcome)
