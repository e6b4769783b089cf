"""From amounts and evidence to a level, and from a level to when it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.drift.status import DriftState

if TYPE_CHECKING:
    from deepblur_live.profile import Drift

__all__ = ["AlertLevel", "rank"]

# A level is left when the change stays below this share of its limit for some points.
_RELEASE = 0.8
_HOLD = 2

_RANK = {DriftState.OK: 0, DriftState.WARN: 1, DriftState.ALARM: 2}


def rank(state: DriftState) -> int:
    """Return 1 for ``WARN``, 2 for ``ALARM``, 0 for all others."""
    return _RANK.get(state, 0)


class AlertLevel:
    """OK, WARN or ALARM, with hysteresis; and whether it is to be told now.

    A level is entered when the change matters *and* the charts have evidence of it; it
    is told once, unless it is left and entered again later than the cool-down, and not
    while snoozed: what still stands after a snooze or cool-down is told then.

    Parameters
    ----------
    settings
        The limits in waves, and the cool-down in seconds.
    """

    def __init__(self, settings: Drift) -> None:
        self._settings = settings
        self._snoozed_until = float("-inf")
        self.clear()

    def clear(self) -> None:
        """Forget the level and what was told; a snooze goes on."""
        self.state = DriftState.OK
        self.acknowledged = False
        self._told = DriftState.OK
        self._told_at = {
            DriftState.WARN: float("-inf"),
            DriftState.ALARM: float("-inf"),
        }
        self._below = 0

    def snooze(self, until: float) -> None:
        """Tell nothing before `until`, seconds since the session began."""
        self._snoozed_until = until

    def acknowledge(self) -> None:
        """Take the standing level as seen, until it rises or has cleared."""
        self.acknowledged = rank(self.state) > 0

    def step(self, time: float, change: float, evidence: bool) -> bool:
        """Take a point in; return whether the level is to be told now."""
        before = self.state
        reached = self._level(change, 1.0)
        if rank(reached) > rank(before):
            self._below = 0
            if evidence:
                self.state = reached
                self.acknowledged = False
        else:
            self._fall(self._level(change, _RELEASE))
        if self.state is DriftState.OK:
            self.acknowledged = False
        self._told = min(self._told, self.state, key=rank)
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
        if rank(self.state) <= rank(self._told) or self.acknowledged:
            return False
        cooled = self._told_at[self.state] + self._settings.cooldown_s
        if time < max(cooled, self._snoozed_until):
            return False
        self._told = self.state
        self._told_at[self.state] = time
        return True

    def _level(self, change: float, share: float) -> DriftState:
        if change >= share * self._settings.alarm_waves:
            return DriftState.ALARM
        if change >= share * self._settings.warn_waves:
            return DriftState.WARN
        return DriftState.OK
