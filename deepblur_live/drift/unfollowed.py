"""Replaces the monitor where the blur is given: no alerts, and the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.drift.status import DriftState, DriftStatus

if TYPE_CHECKING:
    from deepblur_live.drift.alert import Alert
    from deepblur_live.drift.track import TrackState

__all__ = ["UnfollowedBlur"]


class UnfollowedBlur:
    """Has the methods of a `DriftMonitor`, and a status that does not change.

    Parameters
    ----------
    reason
        Why the blur is not followed, for the user.
    """

    def __init__(self, reason: str) -> None:
        self.status = DriftStatus(DriftState.NOT_FOLLOWED, 0, 0, reason=reason)

    def update(self, track: TrackState) -> Alert | None:
        """Do nothing."""
        return None

    def assess(self) -> Alert | None:
        """Return None: there are no alerts."""
        return None

    def acknowledge(self) -> None:
        """Do nothing: there are no alerts."""

    def snooze(self, seconds: float) -> None:
        """Do nothing: there are no alerts."""

    def rebaseline(self) -> None:
        """Do nothing: there is no baseline."""

    def specimen_changed(self, reason: str = "") -> None:
        """Do nothing: the PSF stays."""

    def frames_changed(self, reason: str) -> None:
        """Do nothing: the PSF stays."""

    def light_changed(self, logarithm: float) -> None:
        """Do nothing: the PSF stays."""
