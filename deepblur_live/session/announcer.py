"""Announces changes of a session's state once, whichever thread finds them."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from deepblur_live.drift import Alert, DriftState, DriftStatus, clock_text
from deepblur_live.session.series_watch import overall
from deepblur_live.session.sinks import NoticeKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deepblur_live.session.notifier import Notifier
    from deepblur_live.session.series_watch import SeriesWatch

__all__ = ["Announcer"]

_log = logging.getLogger(__name__)

_RAISED = (DriftState.WARN, DriftState.ALARM)


class Announcer:
    """Sends alerts and changes of state to a session's notifier.

    Parameters
    ----------
    notifier
        Where they go.
    watches
        Returns the series whose alerts are announced.
    current
        Returns the session's status now.
    """

    def __init__(
        self,
        notifier: Notifier,
        watches: Callable[[], Sequence[SeriesWatch]],
        current: Callable[[], DriftStatus],
    ) -> None:
        self._notifier, self._watches = notifier, watches
        self._current = current
        # Held briefly, while it is decided which thread announces a change.
        self._lock = threading.Lock()
        self._announced = overall(watches())
        # Alerts that are active, and whether they are acknowledged; those that are
        # snoozed or within their cooldown are left out.
        self._standing: dict[SeriesWatch, tuple[Alert, bool]] = {}

    def raised(self, alert: Alert, watch: SeriesWatch) -> None:
        """Announce an alert of a series."""
        _log.warning("%s", alert.text)
        with self._lock:
            self._standing[watch] = alert, False
        self._notifier.alert(NoticeKind.RAISED, alert)
        self._notifier.emit(self._notifier.signals.alertRaised, alert)

    def update(self) -> DriftStatus:
        """Announce what has changed since the last call; return the status."""
        with self._lock:
            status = self._current()
            changed = _announceable(self._announced) != _announceable(status)
            self._announced = status
            acknowledged, cleared = self._take_changes()
        notifier = self._notifier
        for alert in acknowledged:
            notifier.alert(NoticeKind.ACKNOWLEDGED, alert)
        for alert in cleared:
            name = f"{alert.series}: " if alert.series else ""
            when = clock_text(notifier.time)
            _log.info("%s%s: the alert has cleared", name, when)
            notifier.alert(NoticeKind.CLEARED, alert)
            notifier.emit(notifier.signals.alertCleared)
        if changed:
            notifier.event(
                "stateChanged", state=str(status.state), reason=status.reason
            )
            notifier.emit(notifier.signals.statusChanged, status)
        return status

    def _take_changes(self) -> tuple[list[Alert], list[Alert]]:
        """Return which alerts are newly acknowledged, and which have cleared."""
        acknowledged, cleared = [], []
        current = self._watches()
        for watch, (alert, known) in list(self._standing.items()):
            status = watch.monitor.status
            if status.state not in _RAISED or watch not in current:
                cleared.append(alert)
                del self._standing[watch]
                continue
            if status.acknowledged and not known:
                acknowledged.append(alert)
            self._standing[watch] = alert, status.acknowledged
        return acknowledged, cleared


def _announceable(status: DriftStatus) -> tuple[object, ...]:
    """Return the part of a status whose change is announced."""
    # In the other states the reason changes with every frame.
    waiting = status.state is DriftState.BASELINING
    return status.state, status.acknowledged, status.reason if waiting else ""
