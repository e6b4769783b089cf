"""Solves one estimation problem at a time, on its own thread or inline."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.identification import Problem, Solution

__all__ = ["AsyncEstimator"]

# A problem takes a second or two; one that takes longer than this is lost.
_TIMEOUT_S = 30.0


class AsyncEstimator:
    """Solves one estimation problem at a time.

    Parameters
    ----------
    solve
        Returns the solution of a problem.
    asynchronous
        Whether on a thread of its own, which `close` ends.
    """

    def __init__(
        self, solve: Callable[[Problem], Solution], asynchronous: bool
    ) -> None:
        self._solve = solve
        self._thread = ThreadPoolExecutor(1, "identification") if asynchronous else None
        self._pending: tuple[float, Future[Solution]] | None = None

    def start(self, time: float, problem: Problem) -> None:
        """Start on a problem posed at `time`; the solution of the last one is lost."""
        if self._thread is not None:
            future = self._thread.submit(self._solve, problem)
        else:
            future = Future()
            future.set_result(self._solve(problem))
        self._pending = time, future

    def take(self, wait: bool) -> tuple[float, Solution] | None:
        """Return when the problem was posed, and its solution; None if there is none.

        Raises
        ------
        TimeoutError
            No solution came within half a minute. Any error of `solve` is raised too.
        """
        if self._pending is None or not (wait or self._pending[1].done()):
            return None
        (time, future), self._pending = self._pending, None
        return time, future.result(_TIMEOUT_S)

    def cancel(self) -> None:
        """Forget the problem."""
        if self._pending is not None:
            self._pending[1].cancel()
            self._pending = None

    def close(self) -> None:
        """End the thread, after the problem that it works on."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
