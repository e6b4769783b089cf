"""Common parts of pipelines that are made of other pipelines."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.runtime.frame import FrameFuture, FramePipeline, FrameResult

__all__ = ["InnerFuture", "RetiredPipelines"]

# A pipeline waits 30 s for its last identification.
_CLOSE_S = 45.0


class InnerFuture:
    """The future of an inner pipeline, whose result the outer one completes.

    Parameters
    ----------
    future
        Future of the inner pipeline.
    complete
        Returns the result with the additions of the outer pipeline; called once.
    failed
        Called once if there is no result.
    collected
        Called with this future when its result is collected.
    """

    def __init__(
        self,
        future: FrameFuture,
        complete: Callable[[FrameResult], FrameResult],
        failed: Callable[[], None] = lambda: None,
        collected: Callable[[InnerFuture], None] = lambda future: None,
    ) -> None:
        self._future, self._complete = future, complete
        self._failed, self._collected = failed, collected
        self._result: FrameResult | None = None
        self._error: Exception | None = None

    @property
    def _settled(self) -> bool:
        return self._result is not None or self._error is not None

    def settle(self) -> None:
        """Wait for the outcome; an error is raised by `result`."""
        if self._settled:
            return
        try:
            result = self._future.result()
        except Exception as error:
            self._error = error
            self._failed()
            return
        self._result = self._complete(result)

    def done(self) -> bool:
        """As in `deepblur_live.runtime.frame.FrameFuture`."""
        return self._settled or self._future.done()

    def result(self) -> FrameResult:
        """As in `deepblur_live.runtime.frame.FrameFuture`."""
        self.settle()
        self._collected(self)
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result


class RetiredPipelines:
    """Closes pipelines on threads, as their last identification may take long."""

    def __init__(self) -> None:
        self._ending: list[threading.Thread] = []

    def retire(self, pipeline: FramePipeline) -> None:
        """Close a pipeline."""
        self._ending = [ending for ending in self._ending if ending.is_alive()]
        ending = threading.Thread(
            target=pipeline.close, name="end of a pipeline", daemon=True
        )
        ending.start()
        self._ending.append(ending)

    def join(self) -> None:
        """Wait until all are closed."""
        for ending in self._ending:
            ending.join(_CLOSE_S)
