"""Alerts into a running acquisition: pause it until somebody has answered."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from deepblur_live.acquisition.core_signals import connect_direct
from deepblur_live.session.sinks.notice import AlertNotice, NoticeKind, OnAlarm

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = ["MdaPauseSink"]


class MdaPauseSink(OnAlarm):
    """Pauses the MDA that runs at an alarm, until the alarm is answered or clears.

    Only the pause made here is ended here. The event under way is finished first, and
    where the request came between two events, the one that begins just then.

    pymmcore-plus (0.18) takes a request while it prepares for none, and forgets one
    that comes after its last look at it and before an event begins, which is most of
    the time between two events of a fast time lapse. A request during an event always
    holds. So an event that begins all the same means that the request was lost, and it
    is made again.

    Parameters
    ----------
    core
        Whose MDA.
    """

    name = "mda-pause"
    kinds = frozenset(NoticeKind)

    def __init__(self, core: CMMCorePlus) -> None:
        self._runner = core.mda
        self._lock = threading.Lock()
        self._ours = False
        self._unsure = False
        events = self._runner.events
        self._ends = (
            connect_direct(events.eventStarted, self._on_event),
            connect_direct(events.sequencePauseToggled, self._on_toggled),
            connect_direct(events.sequenceFinished, self._on_finished),
        )

    def deliver(self, notice: AlertNotice) -> None:
        """Pause, or go on."""
        if notice.kind is NoticeKind.RAISED:
            self._pause()
        elif self._forget():
            self._runner.set_paused(False)

    def close(self) -> None:
        """Listen to the MDA no longer; a pause stays."""
        self._forget()
        for end in self._ends:
            end()

    def _pause(self) -> None:
        runner = self._runner
        if not runner.is_running():
            return
        asked = self._asked()
        with self._lock:
            # Somebody else's pause is not made certain of, but may be lost as well.
            self._unsure = True
            self._ours = self._ours or not asked
        if not asked:
            runner.set_paused(True)

    def _asked(self) -> bool:
        return self._runner.is_paused() or self._runner.status.pause_requested

    def _forget(self) -> bool:
        with self._lock:
            ours, self._ours, self._unsure = self._ours, False, False
        return ours

    def _on_event(self, *_: object) -> None:
        with self._lock:
            lost, self._unsure = self._unsure, False
            if not lost or self._asked():
                return
            self._ours = True
        self._runner.set_paused(True)

    def _on_toggled(self, paused: bool) -> None:
        # By somebody who wants it to go on: also if it was asked again just now.
        if not paused and self._forget():
            self._runner.set_paused(False)

    def _on_finished(self, *_: object) -> None:
        self._forget()
