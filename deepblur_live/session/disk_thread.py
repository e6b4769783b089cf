"""The one thread that touches the session's disk, so that a slow disk holds nobody."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DiskThread"]


class DiskThread:
    """Does pieces of work in order, on a thread of its own, a bounded number waiting.

    A network disk may hang for minutes: those who put work in go on, and learn that
    theirs was not taken.

    Parameters
    ----------
    on_error
        Told what a piece of work has raised; must not raise itself.
    most_waiting
        Pieces that may wait.
    """

    def __init__(
        self, on_error: Callable[[Exception], None], *, most_waiting: int = 2000
    ) -> None:
        self._on_error = on_error
        self._work: queue.Queue[Callable[[], object] | None]
        self._work = queue.Queue(most_waiting)
        self._ended = False
        self._done = threading.Event()
        # A disk that never answers must not keep the program from ending.
        self._thread = threading.Thread(
            target=self._run, name="session's disk", daemon=True
        )
        self._thread.start()

    def put(self, work: Callable[[], object]) -> bool:
        """Have `work` done in its turn; False when there is no room for it."""
        if self._ended:
            return False
        try:
            self._work.put_nowait(work)
        except queue.Full:
            return False
        return True

    def wait(self, timeout: float) -> bool:
        """Wait until what was put in so far is done; False after `timeout` seconds."""
        if self._ended:
            return False
        done = threading.Event()
        deadline = time.monotonic() + timeout
        try:
            self._work.put(done.set, timeout=timeout)
        except queue.Full:
            return False
        return done.wait(deadline - time.monotonic())

    def close(self, timeout: float) -> bool:
        """Do what waits and end; False when that takes more than `timeout` seconds."""
        deadline = time.monotonic() + timeout
        if not self._ended:
            self._ended = True
            try:
                self._work.put(None, timeout=timeout)
            except queue.Full:
                return False
        # Not by joining at once: a join that is interrupted takes the thread for ended
        # (Python 3.11 and 3.12), and this one may be asked again.
        if not self._done.wait(max(0.0, deadline - time.monotonic())):
            return False
        self._thread.join()
        return True

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except Exception as error:
                self._on_error(error)
        self._done.set()
