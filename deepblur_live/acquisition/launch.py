"""Start and end a worker: in a process of its own, or on a thread to debug with."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
import sys
import threading
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Protocol

from deepblur_live.acquisition.worker import PipelineFactory, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

__all__ = ["ProcessWorker", "ThreadWorker", "Worker"]


class Worker(Protocol):
    """The worker as its owner sees it."""

    replies: Connection
    """Where `Ready`, `Failed` and `Reply` come from; ends when the worker does."""

    @property
    def pid(self) -> int | None:
        """Process id, or None for a thread."""
        ...

    @property
    def sentinels(self) -> list[int]:
        """Handles that become ready when the worker ends."""
        ...

    def send(self, task: bytes) -> None:
        """Send a pickled `Task`; OSError when the worker is gone."""
        ...

    def kill(self) -> None:
        """End it now where that can be done."""
        ...

    def stop(self, timeout: float) -> bool:
        """Ask it to end, wait, then end it; False when it still runs."""
        ...

    def ending(self) -> str:
        """Say how it ended, for a person."""
        ...


class ProcessWorker:
    """A worker in a process of its own, by spawn.

    Parameters
    ----------
    factory
        Pickled `PipelineFactory`.
    """

    def __init__(self, factory: bytes) -> None:
        context = multiprocessing.get_context("spawn")
        tasks, self._tasks = context.Pipe(duplex=False)
        self.replies, replies = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_process_main,
            args=(tasks, replies, factory),
            name="deepblur-live worker",
            daemon=True,
        )
        try:
            with _interrupts_blocked():
                self._process.start()
        finally:
            # Ours would keep the pipes open after the worker's death.
            tasks.close()
            replies.close()

    @property
    def pid(self) -> int | None:
        """Process id."""
        return self._process.pid

    @property
    def sentinels(self) -> list[int]:
        """The process's sentinel."""
        return [self._process.sentinel]

    def send(self, task: bytes) -> None:
        """Send a pickled `Task`; OSError when the worker is gone."""
        self._tasks.send_bytes(task)

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def stop(self, timeout: float) -> bool:
        """Ask it to end, wait `timeout` seconds, terminate it, then kill it."""
        with contextlib.suppress(OSError):
            self._tasks.send(None)
        self._tasks.close()
        self._process.join(timeout)
        for end in (self._process.terminate, self._process.kill):
            if self._process.is_alive():
                end()
                self._process.join(2)
        self.replies.close()
        return not self._process.is_alive()

    def ending(self) -> str:
        """Say how it ended, for a person."""
        self._process.join(1)
        code = self._process.exitcode
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"


class ThreadWorker:
    """The same loop on a thread of this process, for debugging and tests.

    Parameters
    ----------
    factory
        Makes the pipeline, on the thread.
    open_block
        Bytes of a block of the ring by its name.
    """

    def __init__(
        self, factory: PipelineFactory, open_block: Callable[[str], memoryview]
    ) -> None:
        tasks, self._tasks = multiprocessing.Pipe(duplex=False)
        self.replies, replies = multiprocessing.Pipe(duplex=False)
        self._thread = threading.Thread(
            target=serve,
            args=(tasks, replies, factory, open_block),
            name="deepblur-live worker",
            daemon=True,
        )
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """None: it has no process of its own."""
        return None

    @property
    def sentinels(self) -> list[int]:
        """None are needed: its end closes the pipe."""
        return []

    def send(self, task: bytes) -> None:
        """Send a pickled `Task`; OSError when the worker is gone."""
        self._tasks.send_bytes(task)

    def kill(self) -> None:
        """Do nothing: a thread cannot be ended from outside."""

    def stop(self, timeout: float) -> bool:
        """Ask it to end and wait; False when it still runs."""
        with contextlib.suppress(OSError):
            self._tasks.send(None)
        self._tasks.close()
        self._thread.join(timeout)
        self.replies.close()
        return not self._thread.is_alive()

    def ending(self) -> str:
        """Say how it ended, for a person."""
        return "its thread ended"


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Start a child with Ctrl-C blocked, where the system can (the mask is inherited).

    It would otherwise print a traceback when interrupted while it still imports.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Starting the tracker unblocks SIGINT: have it running before.
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
        """Let go of the block."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None


def _attach(name: str) -> SharedMemory:
    """Attach to a block that another process owns and unlinks."""
    if sys.version_info >= (3, 13):
        return SharedMemory(name, track=False)
    # Before 3.13 attaching registers the block as ours, and the tracker would warn of
    # a leak that is none.
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
    # Unpickled here, so that an import that fails is told like any other failure.
    serve(tasks, replies, lambda: pickle.loads(factory)(), blocks.open)
    blocks.close()
