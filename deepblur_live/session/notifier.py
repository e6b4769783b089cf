"""Notifications of a session: signals, event log, sinks and errors."""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from psygnal import EmitLoopError, Signal, SignalGroup, SignalInstance

from deepblur_live.drift import Alert, DriftStatus
from deepblur_live.session.sinks.base import AlertNotice, NoticeKind
from deepblur_live.session.sinks.dispatch import AlertDispatcher, SinkStatistics
from deepblur_live.session.verification import Verification

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from deepblur_live.session.record import SessionRecord
    from deepblur_live.session.sinks.base import AlertSink

__all__ = ["Notifier", "SessionEvents"]

_log = logging.getLogger(__name__)

_MAX_ERRORS = 100


class SessionEvents(SignalGroup):
    """Signals of a session, emitted on the thread on which the event happens.

    ``statusChanged`` is emitted when the state, the acknowledgement or the reason for
    having no baseline changes; STALE is found, and emitted, when
    :attr:`~deepblur_live.session.LiveSession.status` is read. ``verificationChanged``
    reports whether a focus sweep or other evidence confirms the absolute estimates.
    ``errorRaised`` is emitted once per error, on whatever thread it occurs: a sink's,
    the disk's.
    """

    alertRaised = Signal(Alert)
    alertCleared = Signal()
    statusChanged = Signal(DriftStatus)
    verificationChanged = Signal(Verification)
    errorRaised = Signal(str)


class Notifier:
    """Sends one session's events to all listeners; from any thread, never raising.

    Parameters
    ----------
    rig
        The profile's name.
    sinks
        Destinations of alarms, in addition to the signals.
    now
        The wall clock.

    Attributes
    ----------
    record
        The session's folder, or None.
    time
        Seconds since the session began, of the next event.
    """

    def __init__(
        self, rig: str, sinks: Sequence[AlertSink], now: Callable[[], datetime]
    ) -> None:
        self.signals = SessionEvents()
        self.errors: deque[str] = deque(maxlen=_MAX_ERRORS)
        self.record: SessionRecord | None = None
        self.time = 0.0
        self._rig = rig
        self._now = now
        self._thread = threading.local()
        self._dispatcher = AlertDispatcher(sinks, self.error)

    @property
    def sinks(self) -> tuple[SinkStatistics, ...]:
        """Deliveries of each sink so far."""
        return self._dispatcher.statistics

    def event(self, event: str, **values: Any) -> None:
        """Write an event to the event log."""
        if self.record is not None:
            when = self._now().isoformat(timespec="milliseconds")
            if series := getattr(self._thread, "series", ""):
                values = {"series": series, **values}
            self.record.event(
                {"event": event, "time_s": self.time, "when": when, **values}
            )

    @contextmanager
    def of_series(self, name: str) -> Iterator[None]:
        """Write the name of a series, if it has one, to this thread's events."""
        before = getattr(self._thread, "series", "")
        self._thread.series = name
        try:
            yield
        finally:
            self._thread.series = before

    def alert(self, kind: NoticeKind, alert: Alert) -> None:
        """Write an alert's change to the event log and send it to the sinks."""
        folder = "" if self.record is None else self.record.folder.name
        notice = AlertNotice(kind, alert, self.time, self._now(), self._rig, folder)
        if self.record is not None:
            self.record.event(notice.record())
        self._dispatcher.send(notice)

    def emit(self, signal: SignalInstance, *values: Any) -> None:
        """Emit a signal; a slot that raises becomes an error of the session."""
        try:
            signal.emit(*values)
        except EmitLoopError as error:
            # psygnal's message names the slot and the line.
            self.error(str(error))

    def error(self, what: str, where: str = "") -> None:
        """Keep, log and emit an error the first time it occurs."""
        if any(kept.endswith(what) for kept in tuple(self.errors)):
            return
        self.errors.append(where + what)
        _log.error("%s%s", where, what)
        self.event("error", text=where + what)
        try:
            self.signals.errorRaised.emit(where + what)
        except EmitLoopError as error:
            # Not through this method, which would call the failing slot again.
            self.errors.append(str(error))

    def close(self) -> None:
        """Let the sinks finish their deliveries, or end them."""
        self._dispatcher.close()
