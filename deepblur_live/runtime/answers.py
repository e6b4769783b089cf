"""Answers of an identifier: worked out beside the frames, or at once."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.identification import Answer, Question

__all__ = ["Answers"]

# An answer takes a second or two; one that takes so long is lost.
_PATIENCE_S = 30.0


class Answers:
    """Works out one answer at a time.

    Parameters
    ----------
    answer
        From a question to its answer.
    beside
        Whether on a thread of its own, which `close` ends.
    """

    def __init__(self, answer: Callable[[Question], Answer], beside: bool) -> None:
        self._answer = answer
        self._thread = ThreadPoolExecutor(1, "identification") if beside else None
        self._asked: tuple[float, Future[Answer]] | None = None

    def ask(self, time: float, question: Question) -> None:
        """Have a question answered that was asked at `time`; the last one is lost."""
        if self._thread is not None:
            future = self._thread.submit(self._answer, question)
        else:
            future = Future()
            future.set_result(self._answer(question))
        self._asked = time, future

    def take(self, wait: bool) -> tuple[float, Answer] | None:
        """Return when it was asked, and the answer; None if there is none.

        What went wrong with the answer is raised.

        Raises
        ------
        TimeoutError
            It was waited for, and has not come in half a minute.
        """
        if self._asked is None or not (wait or self._asked[1].done()):
            return None
        (time, future), self._asked = self._asked, None
        return time, future.result(_PATIENCE_S)

    def forget(self) -> None:
        """Let what was asked go unanswered."""
        if self._asked is not None:
            self._asked[1].cancel()
            self._asked = None

    def close(self) -> None:
        """End the thread, after the answer that it is at."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
