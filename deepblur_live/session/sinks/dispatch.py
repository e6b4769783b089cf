"""Delivery of alerts: one thread and one bounded queue per sink."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from deepblur_live.drift import DriftState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deepblur_live.session.sinks.base import AlertNotice, AlertSink

__all__ = ["AlertDispatcher", "SinkStatistics"]

_log = logging.getLogger(__name__)

_MAX_WAITING = 32
# Longest wait for a sink to return after its delivery was aborted.
_ABORT_S = 1.0


@dataclass
class SinkStatistics:
    """Deliveries of one sink; offered = delivered + failed + dropped + waiting.

    Parameters
    ----------
    name
        Name of the sink.
    delivered, failed, dropped
        Notices delivered, given up, and dropped because too many were waiting.
    waiting
        Notices in the queue, with the one in progress.
    last_error
        Reason of the last failure; empty if there was none.
    """

    name: str
    delivered: int = 0
    failed: int = 0
    dropped: int = 0
    waiting: int = 0
    last_error: str = ""

    @property
    def text(self) -> str:
        """The counts in words."""
        parts = [f"{self.delivered} delivered"]
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{self.dropped} dropped"] if self.dropped else []
        parts += [f"{self.waiting} not finished"] if self.waiting else []
        why = f" ({self.last_error})" if self.last_error else ""
        return f"{self.name}: {', '.join(parts)}{why}"


class AlertDispatcher:
    """Delivers notices to sinks, so that none can block, break or flood anything else.

    Parameters
    ----------
    sinks
        The sinks; the dispatcher owns them and closes them with itself.
    on_error
        Called on the sink's thread when one fails or drops; must not raise.
    max_waiting
        Notices that may wait for one sink; beyond that, its oldest is dropped.
    """

    def __init__(
        self,
        sinks: Sequence[AlertSink],
        on_error: Callable[[str], None],
        *,
        max_waiting: int = _MAX_WAITING,
    ) -> None:
        self._threads = [_SinkThread(sink, on_error, max_waiting) for sink in sinks]
        self._on_error = on_error

    @property
    def statistics(self) -> tuple[SinkStatistics, ...]:
        """Deliveries of each sink, in the order given."""
        return tuple(thread.statistics for thread in self._threads)

    def send(self, notice: AlertNotice) -> None:
        """Queue a notice for the sinks that want it; returns at once, never raises."""
        for thread in self._threads:
            thread.offer(notice)

    def close(self, timeout: float = 5.0) -> None:
        """Finish the queues within `timeout` seconds in all, then end the sinks."""
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.stop()
        for thread in self._threads:
            thread.join(deadline)
            # If the sink is done, this only releases what it holds.
            thread.abort()
        deadline = time.monotonic() + _ABORT_S
        for thread in self._threads:
            thread.join(deadline)
            if thread.alive:
                # A daemon: it cannot keep the program from ending.
                self._on_error(f"{thread.name}: does not return; it is abandoned")


class _SinkThread:
    def __init__(
        self, sink: AlertSink, on_error: Callable[[str], None], max_waiting: int
    ) -> None:
        self._sink = sink
        self.name = sink.name
        self._on_error = on_error
        self._max_waiting = max_waiting
        self._queue: deque[AlertNotice] = deque()
        self._changed = threading.Condition()
        self._in_progress = 0
        self._counts = SinkStatistics(sink.name)
        self._stopping = False
        self._thread = threading.Thread(
            target=self._run, name=f"alerts to {self.name}", daemon=True
        )

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def statistics(self) -> SinkStatistics:
        with self._changed:
            waiting = len(self._queue) + self._in_progress
            return replace(self._counts, waiting=waiting)

    def offer(self, notice: AlertNotice) -> None:
        if notice.alert.level is not DriftState.ALARM:
            return
        with self._changed:
            if notice.kind not in self._sink.kinds or self._stopping:
                return
            full = len(self._queue) >= self._max_waiting
            if full:
                # The latest notices matter most.
                self._queue.popleft()
                self._counts.dropped += 1
            self._queue.append(notice)
            self._changed.notify()
            if self._thread.ident is None:
                # Not earlier: a session that fails to start leaves no thread behind.
                self._thread.start()
        if full:
            self._report("too many alerts are waiting; the oldest is dropped")

    def stop(self) -> None:
        """Accept no more; the thread ends when its queue is empty."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def abort(self) -> None:
        """Drop the queue, and have the sink abort a delivery in progress."""
        with self._changed:
            self._counts.dropped += len(self._queue)
            self._queue.clear()
        try:
            self._sink.close()
        except Exception as error:
            self._report(_text(error))

    def join(self, deadline: float) -> None:
        if self._thread.ident is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while (notice := self._next()) is not None:
            failure = ""
            try:
                self._sink.deliver(notice)
            except BaseException as error:
                # A user's function may raise anything, SystemExit included.
                failure = _text(error)
            with self._changed:
                self._in_progress = 0
                if failure:
                    self._counts.failed += 1
                    self._counts.last_error = failure
                else:
                    self._counts.delivered += 1
            if failure:
                self._report(failure)

    def _next(self) -> AlertNotice | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopping)
            if not self._queue:
                return None
            self._in_progress = 1
            return self._queue.popleft()

    def _report(self, text: str) -> None:
        try:
            self._on_error(f"{self.name}: {text}")
        except Exception:
            _log.exception("%s: %s", self.name, text)


def _text(error: BaseException) -> str:
    text = str(error).strip()
    # The sinks' own errors are sentences; others need the name of their type.
    own = isinstance(error, OSError | RuntimeError) and text
    return text if own else f"{type(error).__name__}: {text}".rstrip(": ")
