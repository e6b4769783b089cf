"""Start and end a worker: in a process of its own, or on a thread for debugging."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import pickle
import signal
import sys
import threading
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING

from deepblur_live.acquisition.worker import PipelineFactory, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

__all__ = ["ProcessWorker", "ThreadWorker", "Worker"]


class Worker:
    """The owner's handle of a worker; this base class owns the pipes."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._their_tasks, self._tasks = context.Pipe(duplex=False)
        self.replies, self._their_replies = context.Pipe(duplex=False)
        """`replies` yields `Ready`, `Failed` and `Reply`; it ends with the worker."""

    @property
    def pid(self) -> int | None:
        """Process id, or None for a thread."""
        return None

    @property
    def sentinels(self) -> list[int]:
        """Handles that become ready when the worker ends, besides `replies`."""
        return []

    def send(self, task: bytes) -> None:
        """Send a pickled `Task`; OSError when the worker is gone."""
        self._tasks.send_bytes(task)

    def kill(self) -> None:
        """End it at once, where that is possible."""

    def stop(self, timeout: float) -> bool:
        """Ask it to end and wait, then end it; False when it still runs."""
        with contextlib.suppress(OSError):
            self._tasks.send(None)
        self._tasks.close()
        ended = self._join(timeout)
        self.replies.close()
        return ended

    def _join(self, timeout: float) -> bool:
        raise NotImplementedError

    def ending(self) -> str:
        """Describe how it ended."""
        raise NotImplementedError


class ProcessWorker(Worker):
    """A worker in a process of its own, by spawn.

    Parameters
    ----------
    factory
        Pickled `PipelineFactory`.
    """

    def __init__(self, factory: bytes) -> None:
        super().__init__()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_process_main,
            args=(self._their_tasks, self._their_replies, factory),
            name="deepblur-live worker",
            daemon=True,
        )
        try:
            with _interrupts_blocked():
                self._process.start()
        finally:
            # Left open here, they would keep the pipes open after the worker's death.
            self._their_tasks.close()
            self._their_replies.close()

    @property
    def pid(self) -> int | None:
        """Process id."""
        return self._process.pid

    @property
    def sentinels(self) -> list[int]:
        """The process's sentinel."""
        return [self._process.sentinel]

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def _join(self, timeout: float) -> bool:
        self._process.join(timeout)
        for end in (self._process.terminate, self._process.kill):
            if self._process.is_alive():
                end()
                self._process.join(2)
        return not self._process.is_alive()

    def ending(self) -> str:
        """Describe how it ended."""
        self._process.join(1)
        code = self._process.exitcode
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                name = signal.Signals(-code).name
                # When memory runs out, Linux kills the largest process.
                memory = ", as when memory runs out" if name == "SIGKILL" else ""
                return f"killed by {name}{memory}"
        return f"exit code {code}"


class ThreadWorker(Worker):
    """The same loop on a thread of this process, for debugging and tests.

    Parameters
    ----------
    factory
        Makes the pipeline, on the thread.
    open_block
        Returns a block of the ring by its name.
    """

    def __init__(
        self, factory: PipelineFactory, open_block: Callable[[str], memoryview]
    ) -> None:
        super().__init__()
        self._thread = threading.Thread(
            target=serve,
            args=(self._their_tasks, self._their_replies, factory, open_block),
            name="deepblur-live worker",
            daemon=True,
        )
        self._thread.start()

    def _join(self, timeout: float) -> bool:
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def ending(self) -> str:
        """Describe how it ended."""
        return "its thread ended"


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C while a child starts, where the system can; the mask is inherited.

    Interrupted during its imports, the child would print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Starting the tracker unblocks SIGINT: make sure that it runs already.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _BlockReader:
    """Attaches to the ring's block by name; keeps the newest one open."""

    def __init__(self) -> None:
        self._memory: SharedMemory | None = None

    def open(self, name: str) -> memoryview:
        """Return the bytes of the block called `name`."""
        if self._memory is None or self._memory.name != name:
            self.close()
            self._memory = _attach(name)
        assert self._memory.buf is not None  # only after its close
        return self._memory.buf

    def close(self) -> None:
        """Detach from the block."""
        memory, self._memory = self._memory, None
        if memory is None:
            return
        try:
            memory.close()
        except BufferError:
            # An exception may hold a frame, in a cycle with its traceback.
            gc.collect()
            with contextlib.suppress(BufferError):  # the pipeline itself holds a frame
                memory.close()


def _attach(name: str) -> SharedMemory:
    """Attach to a block that another process owns and unlinks."""
    if sys.version_info >= (3, 13):
        return SharedMemory(name, track=False)
    # Before 3.13 attaching also registers the block in this process, whose resource
    # tracker would warn of a leak although the owner unlinks it.
    register = resource_tracker.register
    resource_tracker.register = lambda *_: None
    try:
        return SharedMemory(name)
    finally:
        resource_tracker.register = register


def _process_main(tasks: Connection, replies: Connection, factory: bytes) -> None:
    # Ctrl-C reaches the whole process group; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    blocks = _BlockReader()
    # Unpickled by `serve`, so that a failing import is reported like any other failure.
    serve(tasks, replies, lambda: pickle.loads(factory)(), blocks.open)
    blocks.close()
