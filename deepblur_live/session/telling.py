"""How a session tells what happens: by signals, event log, sinks and errors."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from psygnal import EmitLoopError, Signal, SignalGroup, SignalInstance

from deepblur_live.drift import Alert, DriftStatus
from deepblur_live.session.sinks.dispatch import AlertDispatcher, SinkStatistics
from deepblur_live.session.sinks.notice import AlertNotice, NoticeKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from deepblur_live.session.record import SessionRecord
    from deepblur_live.session.sinks.notice import AlertSink

__all__ = ["SessionEvents", "Telling"]

_log = logging.getLogger(__name__)

_MOST_ERRORS = 100


class SessionEvents(SignalGroup):
    """What a session tells, on the thread that finds it out.

    ``statusChanged`` comes when the state, the acknowledgement or the reason for having
    no baseline changes; STALE is found out, and told, when somebody reads
    :attr:`~deepblur_live.session.LiveSession.status`. ``errorRaised`` comes, once for
    each error, on whatever thread meets it: a sink's, the disk's.
    """

    alertRaised = Signal(Alert)
    alertCleared = Signal()
    statusChanged = Signal(DriftStatus)
    errorRaised = Signal(str)


class Telling:
    """Tells one session's events to all who listen; from any thread, never raising.

    Parameters
    ----------
    rig
        The profile's name.
    sinks
        Where alarms go beside the signals.
    now
        The wall clock.

    Attributes
    ----------
    record
        Where it is written down, once there is a folder.
    time
        Seconds since the session began, of what is told next.
    """

    def __init__(
        self, rig: str, sinks: Sequence[AlertSink], now: Callable[[], datetime]
    ) -> None:
        self.signals = SessionEvents()
        self.errors: deque[str] = deque(maxlen=_MOST_ERRORS)
        self.record: SessionRecord | None = None
        self.time = 0.0
        self._rig = rig
        self._now = now
        self._dispatcher = AlertDispatcher(sinks, self.error)

    @property
    def sinks(self) -> tuple[SinkStatistics, ...]:
        """How the sinks do."""
        return self._dispatcher.statistics

    def event(self, event: str, **more: Any) -> None:
        """Have an event written down."""
        if self.record is not None:
            when = self._now().isoformat(timespec="milliseconds")
            self.record.event(
                {"event": event, "time_s": self.time, "when": when, **more}
            )

    def alert(self, kind: NoticeKind, alert: Alert) -> None:
        """Have what happened to an alert written down, and told to the sinks."""
        folder = "" if self.record is None else self.record.folder.name
        notice = AlertNotice(kind, alert, self.time, self._now(), self._rig, folder)
        if self.record is not None:
            self.record.event(notice.record())
        self._dispatcher.send(notice)

    def emit(self, signal: SignalInstance, *values: Any) -> None:
        """Emit a signal; a slot that raises is an error, and harms nobody else."""
        try:
            signal.emit(*values)
        except EmitLoopError as error:
            # Somebody's slot; psygnal's text names it and the line.
            self.error(str(error))

    def error(self, what: str, where: str = "") -> None:
        """Keep and log an error the first time; the same one at every frame is one."""
        if any(kept.endswith(what) for kept in tuple(self.errors)):
            return
        self.errors.append(where + what)
        _log.error("%s%s", where, what)
        self.event("error", text=where + what)
        try:
            self.signals.errorRaised.emit(where + what)
        except EmitLoopError as error:
            # Not by way of this method: the slot would be asked again.
            self.errors.append(str(error))

    def close(self) -> None:
        """Let the sinks finish what they have, or end them."""
        self._dispatcher.close()
