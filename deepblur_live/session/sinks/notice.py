"""What is told of an alert: raised, acknowledged or cleared; as words and as JSON."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from deepblur_live.drift import DriftState, clock_text
from deepblur_live.session.folder import plain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from deepblur_live.drift import Alert

__all__ = ["AlertNotice", "AlertSink", "NoticeKind", "OnAlarm"]


class NoticeKind(StrEnum):
    """What has happened to an alert."""

    RAISED = "alertRaised"
    ACKNOWLEDGED = "alertAcknowledged"
    CLEARED = "alertCleared"


@dataclass(frozen=True)
class AlertNotice:
    """An alert, and what has happened to it.

    Parameters
    ----------
    kind
        What.
    alert
        The alert: the one raised, or the last of those that stood.
    time
        Seconds since the session began.
    when
        The same by the clock on the wall.
    rig, session
        The profile's name, and that of the session's folder (empty when nothing is
        kept).
    """

    kind: NoticeKind
    alert: Alert
    time: float
    when: datetime
    rig: str = ""
    session: str = ""

    @property
    def text(self) -> str:
        """A sentence for a person."""
        if self.kind is NoticeKind.RAISED:
            return self.alert.text
        done = "acknowledged" if self.kind is NoticeKind.ACKNOWLEDGED else "cleared"
        raised = clock_text(self.alert.time)
        return f"{clock_text(self.time)}: {done}: the {self.alert.level} of {raised}."

    def record(self) -> Mapping[str, Any]:
        """Return it as JSON can say it; ``text`` is what chat services show."""
        said: Mapping[str, Any] = plain(
            {
                "event": self.kind,
                "text": f"{self.rig}: {self.text}" if self.rig else self.text,
                "time_s": self.time,
                "when": self.when.isoformat(timespec="seconds"),
                "rig": self.rig,
                "session": self.session,
                "alert": dataclasses.asdict(self.alert),
            }
        )
        return said


class AlertSink(Protocol):
    """Somewhere that alerts go; it may be slow, hang or fail: it has its own thread."""

    @property
    def name(self) -> str:
        """What it is called where its failures are told."""

    def wants(self, notice: AlertNotice) -> bool:
        """Return whether to deliver this one; quick, called where it is found out."""

    def deliver(self, notice: AlertNotice) -> None:
        """Bring it there, however long that takes; raise when it cannot be done."""

    def close(self) -> None:
        """Give up a delivery under way, and free what is held. Never raises."""


class OnAlarm:
    """A sink's manners: alarms only, of these kinds, and nothing to be freed."""

    kinds: frozenset[NoticeKind] = frozenset({NoticeKind.RAISED})

    def wants(self, notice: AlertNotice) -> bool:
        """Return whether it is an alarm, no mere warning, and of the right kind."""
        return notice.alert.level is DriftState.ALARM and notice.kind in self.kinds

    def close(self) -> None:
        """Nothing to give up."""
