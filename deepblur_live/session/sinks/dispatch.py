"""Alerts on their way to the sinks: a thread and a bounded queue for each of them."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deepblur_live.session.sinks.notice import AlertNotice, AlertSink

__all__ = ["AlertDispatcher", "SinkStatistics"]

_log = logging.getLogger(__name__)

_MOST_WAITING = 32
# For a sink that was told to give up, to do so.
_LAST_S = 1.0


@dataclass(frozen=True)
class SinkStatistics:
    """A sink at one moment; offered = delivered + failed + dropped + waiting.

    Parameters
    ----------
    name
        The sink's.
    delivered, failed, dropped
        Notices brought there, given up, and let go because too many were waiting.
    waiting
        Notices in the queue, the one under way among them.
    last_error
        Why the last that failed did; empty when none did.
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
        parts += [f"{self.waiting} never ended"] if self.waiting else []
        why = f" ({self.last_error})" if self.last_error else ""
        return f"{self.name}: {', '.join(parts)}{why}"


class AlertDispatcher:
    """Brings notices to sinks, so that none can hold, break or flood anything else.

    Parameters
    ----------
    sinks
        They belong to the dispatcher from now on, and end with it.
    on_error
        Told, on the sink's thread, each time one fails or drops; must not raise.
    most_waiting
        Notices that may wait for one sink; beyond, its oldest goes, counted.
    """

    def __init__(
        self,
        sinks: Sequence[AlertSink],
        on_error: Callable[[str], None],
        *,
        most_waiting: int = _MOST_WAITING,
    ) -> None:
        self._lanes = [_Lane(sink, on_error, most_waiting) for sink in sinks]
        self._on_error = on_error

    @property
    def statistics(self) -> tuple[SinkStatistics, ...]:
        """How each sink does, in the order given."""
        return tuple(lane.statistics for lane in self._lanes)

    def send(self, notice: AlertNotice) -> None:
        """Put a notice on its way; returns at once and never raises."""
        for lane in self._lanes:
            lane.offer(notice)

    def close(self, timeout: float = 5.0) -> None:
        """Let what waits be delivered for `timeout` seconds in all, then end it."""
        deadline = time.monotonic() + timeout
        for lane in self._lanes:
            lane.stop()
        for lane in self._lanes:
            lane.join(deadline)
        late = [lane for lane in self._lanes if lane.alive]
        for lane in late:
            lane.give_up()
        deadline = time.monotonic() + _LAST_S
        for lane in late:
            lane.join(deadline)
            if lane.alive:
                # A daemon: it cannot keep the program from ending.
                self._on_error(f"{lane.name}: does not return; it was left behind")
        for lane in self._lanes:
            if lane not in late:
                lane.give_up()


class _Lane:
    """One sink, its thread and what waits for it."""

    def __init__(
        self, sink: AlertSink, on_error: Callable[[str], None], most: int
    ) -> None:
        self._sink = sink
        self.name = sink.name
        self._on_error = on_error
        self._most = most
        self._waiting: deque[AlertNotice] = deque()
        self._changed = threading.Condition()
        self._under_way = 0
        self._delivered = self._failed = self._dropped = 0
        self._last_error = ""
        self._stopping = self._giving_up = False
        self._thread = threading.Thread(
            target=self._run, name=f"alerts to {self.name}", daemon=True
        )

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def statistics(self) -> SinkStatistics:
        with self._changed:
            return SinkStatistics(
                self.name,
                self._delivered,
                self._failed,
                self._dropped,
                len(self._waiting) + self._under_way,
                self._last_error,
            )

    def offer(self, notice: AlertNotice) -> None:
        try:
            wanted = self._sink.wants(notice)
        except Exception as error:
            self._tell(f"{self.name}: {_said(error)}")
            return
        with self._changed:
            if not wanted or self._stopping:
                return
            full = len(self._waiting) >= self._most
            if full:
                # What is true now matters more than what was.
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(notice)
            self._changed.notify()
            if self._thread.ident is None:
                # Not before: a session that cannot begin leaves no thread behind.
                self._thread.start()
        if full:
            self._tell(f"{self.name}: too many alerts are waiting; the oldest goes")

    def stop(self) -> None:
        """Take no more; the thread ends when nothing waits."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def give_up(self) -> None:
        """Drop what waits, and tell the sink to end what is under way."""
        with self._changed:
            self._giving_up = True
            self._dropped += len(self._waiting)
            self._waiting.clear()
        try:
            self._sink.close()
        except Exception as error:
            self._tell(f"{self.name}: {_said(error)}")

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
                failure = _said(error)
            with self._changed:
                self._under_way = 0
                if failure:
                    self._failed += 1
                    self._last_error = failure
                else:
                    self._delivered += 1
            if failure:
                self._tell(f"{self.name}: {failure}")

    def _next(self) -> AlertNotice | None:
        with self._changed:
            while not self._waiting:
                if self._stopping:
                    return None
                self._changed.wait()
            self._under_way = 1
            return self._waiting.popleft()

    def _tell(self, text: str) -> None:
        try:
            self._on_error(text)
        except Exception:
            _log.exception("%s", text)


def _said(error: BaseException) -> str:
    text = str(error).strip()
    # Our own errors are sentences; of others the type says more than the text.
    own = isinstance(error, OSError | RuntimeError | TimeoutError) and text
    return text if own else f"{type(error).__name__}: {text}".rstrip(": ")
