"""Alerts into a running acquisition: put a recalibration between two of its events.

pymmcore-plus takes events from an iterator while an MDA runs; `CustomAction` is what
useq has for an event that is no picture. The default engine passes over it:
`RecalibratingEngine` calls a function.
"""

from __future__ import annotations

import logging
import queue
from typing import TYPE_CHECKING, Any

from pymmcore_plus.mda import MDAEngine
from useq import CustomAction, MDAEvent

from deepblur_live.session.sinks.notice import AlertNotice, OnAlarm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pymmcore_plus import CMMCorePlus

__all__ = [
    "RECALIBRATE",
    "InterruptibleEvents",
    "RecalibrateSink",
    "RecalibratingEngine",
]

_log = logging.getLogger(__name__)

RECALIBRATE = "recalibrate"
"""The name of the `CustomAction` that asks for a recalibration."""

_MOST_WAITING = 16


class RecalibrateSink(OnAlarm):
    """Puts ``MDAEvent(action=CustomAction("recalibrate"))`` into a queue at an alarm.

    The alert is the action's ``data``. What is done then is for the engine that takes
    the events: a `RecalibratingEngine`, or the user's own.

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
        """Put the event in."""
        action = CustomAction(name=RECALIBRATE, data=dict(notice.record()))
        self._put(MDAEvent(action=action))


class InterruptibleEvents:
    """Events of a sequence, with others let in between two of them.

    An iterator, so that the engine does not gather events for hardware sequencing:
    what is put in comes next.

    Parameters
    ----------
    events
        The sequence.
    """

    def __init__(self, events: Iterable[MDAEvent]) -> None:
        self._events = iter(events)
        self._inserted: queue.Queue[MDAEvent] = queue.Queue(_MOST_WAITING)

    def put(self, event: MDAEvent) -> None:
        """Let an event in before the next.

        Raises
        ------
        RuntimeError
            Too many are waiting: the acquisition does not take them.
        """
        try:
            self._inserted.put_nowait(event)
        except queue.Full:
            raise RuntimeError(
                f"{_MOST_WAITING} events wait already: the MDA does not take them"
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

    The acquisition waits for it. What the function raises is kept and logged, and the
    acquisition goes on.

    Parameters
    ----------
    core
        The microscope.
    recalibrate
        Called with the core and the alert's record, on the thread of the MDA.
    on_error
        Told when the function has raised.
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
        """Take the picture, or recalibrate."""
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
