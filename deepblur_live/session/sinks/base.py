"""What happened to an alert, as text and as JSON; the base class of its sinks."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from deepblur_live.drift import clock_text
from deepblur_live.session.folder import plain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from deepblur_live.drift import Alert

__all__ = ["AlertNotice", "AlertSink", "NoticeKind"]


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
        What has happened.
    alert
        The alert that was raised, or the last of those that were active.
    time
        Seconds since the session began.
    when
        The same, by the wall clock.
    rig, session
        Name of the profile, and of the session's folder (empty without one).
    """

    kind: NoticeKind
    alert: Alert
    time: float
    when: datetime
    rig: str = ""
    session: str = ""

    @property
    def text(self) -> str:
        """The notice as one sentence."""
        if self.kind is NoticeKind.RAISED:
            return self.alert.text
        done = "acknowledged" if self.kind is NoticeKind.ACKNOWLEDGED else "cleared"
        raised = clock_text(self.alert.time)
        return f"{clock_text(self.time)}: {done}: the {self.alert.level} of {raised}."

    def record(self) -> Mapping[str, Any]:
        """Return it as JSON types; chat services show the ``text``."""
        content: Mapping[str, Any] = plain(
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
        return content


class AlertSink(ABC):
    """A destination of alarms (not warnings). It may be slow: it has its own thread.

    Attributes
    ----------
    name
        Used in its error messages.
    kinds
        The notices that it receives; by default, that an alarm was raised.
    """

    name: str
    kinds: frozenset[NoticeKind] = frozenset({NoticeKind.RAISED})

    @abstractmethod
    def deliver(self, notice: AlertNotice) -> None:
        """Deliver a notice, however long it takes; raise if it cannot be done."""

    def close(self) -> None:  # noqa: B027  # most sinks hold nothing
        """Abort a delivery in progress and release resources; never raises."""
