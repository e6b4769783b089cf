"""Alerts that act on a running MDA: pause it, or insert a recalibration.

pymmcore-plus takes events from an iterator while an MDA runs, and useq's
`CustomAction` is an event that acquires nothing. The default engine ignores it;
`RecalibratingEngine` calls a function.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING, Any

from pymmcore_plus.mda import MDAEngine
from useq import CustomAction, MDAEvent

from deepblur_live.acquisition.core_signals import connect_direct
from deepblur_live.session.sinks.base import AlertNotice, AlertSink, NoticeKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pymmcore_plus import CMMCorePlus

__all__ = [
    "RECALIBRATE",
    "InterruptibleEvents",
    "MdaPauseSink",
    "RecalibrateSink",
    "RecalibratingEngine",
]

_log = logging.getLogger(__name__)

RECALIBRATE = "recalibrate"
"""Name of the `CustomAction` that requests a recalibration."""

_MAX_WAITING = 16


class MdaPauseSink(AlertSink):
    """Pauses a running MDA at an alarm, until the alarm is acknowledged or clears.

    Only a pause made here is ended here. The current event is finished first; if the
    request came between two events, the event that begins just then.

    pymmcore-plus (0.18) forgets a request that arrives after its last check and before
    an event begins, which is most of the time between two events of a fast time lapse.
    A request during an event always works. So an event that begins nevertheless means
    that the request was lost, and it is repeated.

    Parameters
    ----------
    core
        The core whose MDA is paused.
    """

    name = "mda-pause"
    kinds = frozenset(NoticeKind)

    def __init__(self, core: CMMCorePlus) -> None:
        self._runner = core.mda
        self._lock = threading.Lock()
        self._ours = False
        self._unconfirmed = False
        events = self._runner.events
        self._ends = (
            connect_direct(events.eventStarted, self._on_event),
            connect_direct(events.sequencePauseToggled, self._on_toggled),
            connect_direct(events.sequenceFinished, self._on_finished),
        )

    def deliver(self, notice: AlertNotice) -> None:
        """Pause, or resume."""
        if notice.kind is NoticeKind.RAISED:
            self._pause()
        elif self._forget():
            self._runner.set_paused(False)

    def close(self) -> None:
        """Disconnect from the MDA; a pause stays."""
        self._forget()
        for end in self._ends:
            end()

    def _pause(self) -> None:
        runner = self._runner
        if not runner.is_running():
            return
        requested = self._requested()
        with self._lock:
            # A pause that others requested may be lost in the same way.
            self._unconfirmed = True
            self._ours = self._ours or not requested
        if not requested:
            runner.set_paused(True)

    def _requested(self) -> bool:
        return self._runner.is_paused() or self._runner.status.pause_requested

    def _forget(self) -> bool:
        with self._lock:
            ours, self._ours, self._unconfirmed = self._ours, False, False
        return ours

    def _on_event(self, *_: object) -> None:
        with self._lock:
            lost, self._unconfirmed = self._unconfirmed, False
            if not lost or self._requested():
                return
            self._ours = True
        self._runner.set_paused(True)

    def _on_toggled(self, paused: bool) -> None:
        # Resumed by a user: also if the request was just repeated.
        if not paused and self._forget():
            self._runner.set_paused(False)

    def _on_finished(self, *_: object) -> None:
        self._forget()


class RecalibrateSink(AlertSink):
    """Puts ``MDAEvent(action=CustomAction("recalibrate"))`` into a queue at an alarm.

    The alert is the action's ``data``. The engine that runs the events acts on it: a
    `RecalibratingEngine`, or the user's own.

    Parameters
    ----------
    put
        Takes the event: the ``put`` of the queue that the MDA runs on, as in
        ``core.run_mda(iter(events.get, STOP))``, or `InterruptibleEvents.put`.
    """

    name = "mda-recalibrate"

    def __init__(self, put: Callable[[MDAEvent], object]) -> None:
        self._put = put

    def deliver(self, notice: AlertNotice) -> None:
        """Put the event into the queue."""
        action = CustomAction(name=RECALIBRATE, data=dict(notice.record()))
        self._put(MDAEvent(action=action))


class InterruptibleEvents:
    """Iterates over the events of a sequence, with others inserted between them.

    An iterator, so that the engine does not combine events for hardware sequencing: an
    inserted event comes next.

    Parameters
    ----------
    events
        The sequence.
    """

    def __init__(self, events: Iterable[MDAEvent]) -> None:
        self._events = iter(events)
        self._inserted: queue.Queue[MDAEvent] = queue.Queue(_MAX_WAITING)

    def put(self, event: MDAEvent) -> None:
        """Insert an event before the next.

        Raises
        ------
        RuntimeError
            Too many are waiting: the MDA does not take them.
        """
        try:
            self._inserted.put_nowait(event)
        except queue.Full:
            raise RuntimeError(
                f"{_MAX_WAITING} events are waiting already: the MDA does not take them"
            ) from None

    def __iter__(self) -> Iterator[MDAEvent]:
        return self

    def __next__(self) -> MDAEvent:
        try:
            return self._inserted.get_nowait()
        except queue.Empty:
            return next(self._events)


class RecalibratingEngine(MDAEngine):
    """pymmcore-plus's engine, which calls a function at a recalibration.

    The acquisition waits for it. An exception of the function is logged, and the
    acquisition continues.

    Parameters
    ----------
    core
        The microscope.
    recalibrate
        Called with the core and the alert's record, on the MDA's thread.
    on_error
        Called when the function has raised.
    """

    def __init__(
        self,
        core: CMMCorePlus,
        recalibrate: Callable[[CMMCorePlus, dict[str, Any]], object],
        on_error: Callable[[str], None] = lambda text: None,
    ) -> None:
        super().__init__(core)
        self._recalibrate = recalibrate
        self._on_error = on_error

    def exec_event(self, event: MDAEvent) -> Iterable[Any]:
        """Acquire the event, or recalibrate."""
        action = event.action
        if isinstance(action, CustomAction) and action.name == RECALIBRATE:
            try:
                self._recalibrate(self.mmcore, dict(action.data))
            except Exception as error:
                text = f"recalibration failed: {type(error).__name__}: {error}"
                _log.exception("%s", text)
                self._on_error(text)
            return ()
        taken: Iterable[Any] = super().exec_event(event)
        return taken
