"""The alert level, with hysteresis, and when the user is notified of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.drift.status import NO_LIMITS, DriftState, Limits

if TYPE_CHECKING:
    from deepblur_live.profile import Drift

__all__ = ["AlertLevel", "rank"]

# Hysteresis: a level ends when the change is below this share of its limit for this
# many points.
_RELEASE = 0.8
_HOLD = 2

_RANK = {DriftState.OK: 0, DriftState.WARN: 1, DriftState.ALARM: 2}


def rank(state: DriftState) -> int:
    """Return 1 for ``WARN``, 2 for ``ALARM``, 0 for all others."""
    return _RANK.get(state, 0)


class AlertLevel:
    """OK, WARN or ALARM, with hysteresis; and whether a notification is due.

    A level is entered when the change exceeds its limit *and* there is evidence for it.
    The user is notified once each time it is entered, but not during the cool-down
    after the last notification of that level nor while alerts are snoozed: a level that
    persists is notified afterwards.

    Parameters
    ----------
    settings
        The limits, in the metric's unit, and the cool-down in seconds.
    """

    def __init__(self, settings: Drift) -> None:
        self._settings = settings
        self._snoozed_until = float("-inf")
        self.clear()

    def clear(self) -> None:
        """Reset the level and its notifications; a snooze continues."""
        self.state = DriftState.OK
        self.acknowledged = False
        self._notified = DriftState.OK
        self._notified_at = {
            DriftState.WARN: float("-inf"),
            DriftState.ALARM: float("-inf"),
        }
        self._below = 0
        self._undecided = False

    @property
    def limits(self) -> Limits:
        """The limits in force: none while the change exceeds one without evidence."""
        if self._undecided:
            return NO_LIMITS
        return Limits(self._settings.warn, self._settings.alarm)

    def snooze(self, until: float) -> None:
        """Notify nothing before `until`, seconds since the session began."""
        self._snoozed_until = until

    def acknowledge(self) -> None:
        """Acknowledge the present level, until it rises or has cleared."""
        self.acknowledged = rank(self.state) > 0

    def step(self, time: float, change: float, evidence: bool) -> bool:
        """Update with the size of a change; return whether a notification is due."""
        reached = self._level(change, 1.0)
        self._undecided = rank(reached) > rank(self.state) and not evidence
        if rank(reached) > rank(self.state):
            self._below = 0
            if evidence:
                self.state = reached
                self.acknowledged = False
        else:
            self._fall(self._level(change, _RELEASE))
        if self.state is DriftState.OK:
            self.acknowledged = False
        self._notified = min(self._notified, self.state, key=rank)
        return self._due(time)

    def _fall(self, kept: DriftState) -> None:
        if rank(kept) >= rank(self.state):
            self._below = 0
            return
        self._below += 1
        if self._below >= _HOLD:
            self._below = 0
            self.state = kept

    def _due(self, time: float) -> bool:
        if rank(self.state) <= rank(self._notified) or self.acknowledged:
            return False
        cooled = self._notified_at[self.state] + self._settings.cooldown_s
        if time < max(cooled, self._snoozed_until):
            return False
        self._notified = self.state
        self._notified_at[self.state] = time
        return True

    def _level(self, change: float, share: float) -> DriftState:
        if change >= share * self._settings.alarm:
            return DriftState.ALARM
        if change >= share * self._settings.warn:
            return DriftState.WARN
        return DriftState.OK
