"""Solves one estimation problem at a time, on its own thread or inline."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from deepblur_live.runtime.cuda_streams import background_stream
from deepblur_live.runtime.device import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from deepblur_live.identification import Problem, Solution

__all__ = ["AsyncEstimator", "EstimatorThread"]

# A problem takes a second or two; after this time it is abandoned.
_TIMEOUT_S = 30.0
# Linux: how much lower the priority of the thread is, in steps of `nice`. See
# docs/decisions/0163-identification-beside-the-frames.md
_NICER = 5
# Where the frames use all cores, the thread is paused while one is computed, for so
# many seconds at most, and has at least this share of the time. See
# docs/decisions/0261-frames-on-all-cores.md
_LONGEST_PAUSE_S, _SHARE = 1.0, 0.25
_NO_PAUSES: AbstractContextManager[object] = contextlib.nullcontext()


class EstimatorThread:
    """A background thread on which problems are solved, one at a time.

    Several estimators may share it. It begins with the first problem.

    Parameters
    ----------
    on_card
        Whether frames are deblurred on a card; the thread then uses it when no frame
        needs it. On a CPU the thread computes on one core only, with a lower priority,
        as the frames need the cores as well; if torch uses all cores, it is paused
        between `begin_frame` and `end_frame`.
    """

    def __init__(self, on_card: bool = False) -> None:
        self._on_card = on_card
        self._thread: ThreadPoolExecutor | None = None
        self._stream: AbstractContextManager[object] = contextlib.nullcontext()
        # Number of problems not yet solved, including those no longer wanted.
        self._unsolved, self._lock = 0, threading.Lock()
        self._last: Future[Solution] | None = None
        # Whether the thread is paused for frames; set while it is not; and when the
        # last frame began and ended.
        self._pauses, self._resumed = False, threading.Event()
        self._resumed.set()
        self._began = self._ended = 0.0

    @property
    def working(self) -> bool:
        """Whether there is a problem that it has not solved yet."""
        with self._lock:
            return self._unsolved > 0

    def submit(self, solve: Callable[[], Solution]) -> Future[Solution]:
        """Solve a problem after those before it; `withdraw` takes it back."""
        if self._thread is None:
            self._start()
        assert self._thread is not None
        with self._lock:
            self._unsolved += 1
        future = self._last = self._thread.submit(self._solve, solve)
        return future

    def withdraw(self, future: Future[Solution]) -> None:
        """Do not solve a problem that has not been begun."""
        if future.cancel():
            self._count_ended()

    def begin_frame(self) -> None:
        """Pause the thread, if frames use all cores, when it has had its share.

        For a frame, before it is computed.
        """
        if not self._pauses:
            return
        if self._last is not None:
            now = time.perf_counter()
            lacking = _SHARE * (now - self._began) - (now - self._ended)
            if lacking > 0:
                wait([self._last], lacking)
        self._began = time.perf_counter()
        self._resumed.clear()

    def end_frame(self) -> None:
        """Let the thread go on."""
        self._ended = time.perf_counter()
        self._resumed.set()

    def close(self) -> None:
        """End the thread, after the problem that it works on."""
        self._resumed.set()
        if self._thread is not None:
            last = [] if self._last is None else [self._last]
            ended = not wait(last, _TIMEOUT_S).not_done
            self._thread.shutdown(wait=ended, cancel_futures=True)

    def _start(self) -> None:
        self._thread = ThreadPoolExecutor(1, "identification")
        if self._on_card:
            self._stream = background_stream(torch.device("cuda"))
        else:
            count = torch.get_num_threads()
            self._pauses = count >= usable_cores()
            self._began = self._ended = time.perf_counter()
            self._thread.submit(_give_way).result(_TIMEOUT_S)
            # The thread's setting has become torch's default for later threads: restore
            # it.
            torch.set_num_threads(count)

    def _solve(self, solve: Callable[[], Solution]) -> Solution:
        try:
            with self._stream, _Pauses(self._resumed) if self._pauses else _NO_PAUSES:
                return solve()
        finally:
            self._count_ended()

    def _count_ended(self) -> None:
        with self._lock:
            self._unsolved -= 1


class AsyncEstimator:
    """Solves one estimation problem at a time.

    Parameters
    ----------
    solve
        Returns the solution of a problem.
    thread
        Where problems are solved in the background; its own if None.
    """

    def __init__(
        self,
        solve: Callable[[Problem], Solution],
        thread: EstimatorThread | None = None,
    ) -> None:
        self._solve = solve
        self._thread = thread or EstimatorThread()
        self._pending: tuple[float, Future[Solution]] | None = None

    @property
    def busy(self) -> bool:
        """Whether a problem is being solved."""
        return self._pending is not None and not self._pending[1].done()

    def start(self, time: float, problem: Problem, background: bool) -> None:
        """Start on a problem posed at `time`; the solution of the last one is lost.

        In the background it is solved on the thread. So is any other while that works:
        problems are solved one at a time.
        """
        if background or self._thread.working:
            future = self._thread.submit(partial(self._solve, problem))
        else:
            future = Future()
            future.set_result(self._solve(problem))
        self._pending = time, future

    def begin_frame(self) -> None:
        """As in `EstimatorThread`."""
        self._thread.begin_frame()

    def end_frame(self) -> None:
        """As in `EstimatorThread`."""
        self._thread.end_frame()

    def take(self, wait: bool) -> tuple[float, Solution] | None:
        """Return the time of the problem and its solution; None without a solution.

        Raises
        ------
        TimeoutError
            No solution came within half a minute. Any error of `solve` is raised too.
        """
        if self._pending is None or not (wait or self._pending[1].done()):
            return None
        (time, future), self._pending = self._pending, None
        if wait:
            self._thread.end_frame()
        return time, future.result(_TIMEOUT_S)

    def cancel(self) -> None:
        """Forget the problem."""
        if self._pending is not None:
            self._thread.withdraw(self._pending[1])
            self._pending = None

    def close(self) -> None:
        """End the thread, after the problem that it works on."""
        self._thread.close()


class _Pauses(TorchFunctionMode):
    """Pauses its thread before any of torch's functions, until an event is set."""

    def __init__(self, resumed: threading.Event) -> None:
        super().__init__()
        self._resumed = resumed

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self._resumed.wait(_LONGEST_PAUSE_S)
        return func(*args, **(kwargs or {}))


def _give_way() -> None:
    """Leave the cores to the other threads of this process, on the calling thread."""
    # Without this, the thread's first operation would reset the number of its threads.
    torch.get_num_threads()
    torch.set_num_threads(1)
    if sys.platform == "linux":
        # Linux has a priority per thread; a process may always lower it.
        thread = threading.get_native_id()
        # Some containers forbid it.
        with contextlib.suppress(OSError):
            now = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, now + _NICER)
