"""The thread that writes the session's files, so that a slow disk delays no other."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DiskThread"]


class DiskThread:
    """Executes tasks in order on a separate thread, with a bounded queue.

    A network disk may hang for minutes, so methods return at once, with whether the
    task was accepted.

    Parameters
    ----------
    on_error
        Called with what a task raises; must not raise itself.
    max_waiting
        Maximum number of tasks in the queue.
    """

    def __init__(
        self, on_error: Callable[[Exception], None], *, max_waiting: int = 2000
    ) -> None:
        self._on_error = on_error
        self._tasks: queue.Queue[Callable[[], object] | None]
        self._tasks = queue.Queue(max_waiting)
        self._ending = False
        self._done = threading.Event()
        # A daemon: a disk that never responds must not keep the program from ending.
        self._thread = threading.Thread(
            target=self._run, name="session's disk", daemon=True
        )
        self._thread.start()

    def put(self, task: Callable[[], object]) -> bool:
        """Queue a task; return False if the queue is full or closed."""
        if self._ending:
            return False
        try:
            self._tasks.put_nowait(task)
        except queue.Full:
            return False
        return True

    def wait(self, timeout: float) -> bool:
        """Wait for the tasks queued so far; False after `timeout` seconds."""
        if self._ending:
            return False
        done = threading.Event()
        deadline = time.monotonic() + timeout
        try:
            self._tasks.put(done.set, timeout=timeout)
        except queue.Full:
            return False
        return done.wait(deadline - time.monotonic())

    def close(self, timeout: float) -> bool:
        """Finish the queue and end; False if it takes more than `timeout` seconds."""
        deadline = time.monotonic() + timeout
        if not self._ending:
            self._ending = True
            try:
                self._tasks.put(None, timeout=timeout)
            except queue.Full:
                return False
        # Not by joining first: an interrupted join marks a running thread as ended
        # (Python 3.11 and 3.12), and this method may be called again.
        if not self._done.wait(max(0.0, deadline - time.monotonic())):
            return False
        self._thread.join()
        return True

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
            except Exception as error:
                self._on_error(error)
        self._done.set()
