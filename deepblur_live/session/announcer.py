"""Announces changes of a session's state once, whichever thread finds them."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from deepblur_live.drift import Alert, DriftState, DriftStatus, clock_text
from deepblur_live.session.sinks import NoticeKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.drift import DriftWatch
    from deepblur_live.session.notifier import Notifier

__all__ = ["Announcer"]

_log = logging.getLogger(__name__)

_RAISED = (DriftState.WARN, DriftState.ALARM)


class Announcer:
    """Sends alerts and changes of state to a session's notifier.

    Parameters
    ----------
    notifier
        Where they go.
    monitor
        Whose alerts they are.
    current
        Returns the session's status now.
    """

    def __init__(
        self,
        notifier: Notifier,
        monitor: DriftWatch,
        current: Callable[[], DriftStatus],
    ) -> None:
        self._notifier, self._monitor = notifier, monitor
        self._current = current
        # Held briefly, while it is decided which thread announces a change.
        self._lock = threading.Lock()
        self._announced = monitor.status
        self._standing = False
        self._alert: Alert | None = None

    def raised(self, alert: Alert) -> None:
        """Announce an alert."""
        _log.warning("%s", alert.text)
        self._alert = alert
        self._notifier.alert(NoticeKind.RAISED, alert)
        self._notifier.emit(self._notifier.signals.alertRaised, alert)

    def update(self) -> DriftStatus:
        """Announce what has changed since the last call; return the status."""
        with self._lock:
            status = self._current()
            standing = self._monitor.status.state in _RAISED
            changed = _announceable(self._announced) != _announceable(status)
            cleared = self._standing and not standing
            newly = status.acknowledged and not self._announced.acknowledged
            self._announced, self._standing = status, standing
            # None if the alert was never raised: snoozed, or within its cooldown.
            alert = self._alert
            if cleared:
                self._alert = None
        notifier = self._notifier
        if alert is not None and newly:
            notifier.alert(NoticeKind.ACKNOWLEDGED, alert)
        if alert is not None and cleared:
            _log.info("%s: the alert has cleared", clock_text(notifier.time))
            notifier.alert(NoticeKind.CLEARED, alert)
            notifier.emit(notifier.signals.alertCleared)
        if changed:
            notifier.event(
                "stateChanged", state=str(status.state), reason=status.reason
            )
            notifier.emit(notifier.signals.statusChanged, status)
        return status


def _announceable(status: DriftStatus) -> tuple[object, ...]:
    """Return the part of a status whose change is announced."""
    # The reasons of other states change with every frame.
    waiting = status.state is DriftState.BASELINING
    return status.state, status.acknowledged, status.reason if waiting else ""
