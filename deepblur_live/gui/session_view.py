"""What the window reads of a session, and the few things it may ask of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from deepblur_live.profile import Profile
    from deepblur_live.runtime.frame import FrameResult

__all__ = [
    "AlertView",
    "DriftStatusView",
    "FamilyView",
    "HistoryView",
    "ListenerView",
    "SessionView",
    "StatisticsView",
]


class StatisticsView(Protocol):
    """The listener's counters; captured = processed + dropped + in flight."""

    @property
    def captured(self) -> int:
        """Frames seen."""

    @property
    def processed(self) -> int:
        """Frames that came back, raw only ones included."""

    @property
    def dropped(self) -> int:
        """Frames let go to stay live."""

    @property
    def in_flight(self) -> int:
        """Frames on their way."""

    @property
    def camera_gaps(self) -> int:
        """Frames the camera numbered and never delivered."""

    @property
    def raw_only(self) -> Mapping[str, int]:
        """Frames passed on raw, by reason."""

    @property
    def fps_captured(self) -> float:
        """Frames a second from the camera."""

    @property
    def fps_processed(self) -> float:
        """Frames a second through the pipeline."""

    @property
    def latency_p50_ms(self) -> float:
        """Median time from capture to result; NaN before the first."""

    @property
    def latency_p95_ms(self) -> float:
        """Its 95th percentile."""

    @property
    def worker_state(self) -> str:
        """``"running"`` when all is well."""


class ListenerView(Protocol):
    """The newest result and the counters."""

    @property
    def latest(self) -> FrameResult | None:
        """The newest result."""

    @property
    def statistics(self) -> StatisticsView:
        """A snapshot of the counters."""

    @property
    def background_errors(self) -> Sequence[str]:
        """What went wrong out of sight, oldest first."""


class AlertView(Protocol):
    """An alert, for a person to read."""

    @property
    def time(self) -> float:
        """Seconds since the session began."""

    @property
    def level(self) -> str:
        """``"warn"`` or ``"alarm"``."""

    @property
    def text(self) -> str:
        """What changed, by how much, why perhaps, and what to do."""

    @property
    def cause(self) -> str:
        """The likely cause; empty where it is not told."""

    @property
    def remedy(self) -> str:
        """What to do; empty where it is not told."""


class DriftStatusView(Protocol):
    """Where the drift stands."""

    @property
    def state(self) -> str:
        """A word of `deepblur_live.drift.DriftState`."""

    @property
    def acknowledged(self) -> bool:
        """True once somebody has seen the alert that stands."""

    @property
    def reason(self) -> str:
        """Why, for ``"stale"`` and ``"raw-only"``."""

    @property
    def snoozed_until(self) -> float | None:
        """Until when no alert is told, seconds since the session began, or None."""

    @property
    def n_baseline(self) -> int:
        """Points the baseline has."""

    @property
    def n_needed(self) -> int:
        """Points it needs."""


class HistoryView(Protocol):
    """The session so far, arrays over the same N times."""

    @property
    def times(self) -> NDArray[np.float64]:
        """(N,) seconds since the session began."""

    @property
    def coefficients(self) -> NDArray[np.float64]:
        """(N, P) waves rms."""

    @property
    def sigma(self) -> NDArray[np.float64]:
        """(N, P) standard deviations, waves rms."""

    @property
    def truth(self) -> NDArray[np.float64] | None:
        """(N, P) true coefficients, NaN or None where unknown."""

    @property
    def change(self) -> NDArray[np.float64]:
        """(N,) change from baseline in waves rms, NaN before there is one."""

    @property
    def low(self) -> NDArray[np.float64]:
        """(N, P) least coefficients of those that a point stands for."""

    @property
    def high(self) -> NDArray[np.float64]:
        """(N, P) greatest coefficients of those that a point stands for."""

    @property
    def change_low(self) -> NDArray[np.float64]:
        """(N,) least change of those that a point stands for."""

    @property
    def change_high(self) -> NDArray[np.float64]:
        """(N,) greatest change of those that a point stands for."""


class FamilyView(Protocol):
    """The blur family, as far as the window shows it."""

    @property
    def names(self) -> Sequence[str]:
        """One name a coefficient."""

    def psf(self, coefficients: torch.Tensor) -> torch.Tensor:
        """(…, P) to (…, K, K) PSFs of sum 1."""

    def wavefront_rms(
        self, coefficients: NDArray[np.float64]
    ) -> NDArray[np.float64] | np.float64:
        """Wavefront error in waves rms over the last axis."""

    def strehl(
        self, coefficients: NDArray[np.float64]
    ) -> NDArray[np.float64] | np.float64 | float:
        """Strehl ratio."""


class SessionView(Protocol):
    """A running session, read by snapshots: nothing in it waits for the window."""

    @property
    def listener(self) -> ListenerView:
        """Where results come from."""

    @property
    def status(self) -> DriftStatusView:
        """Where the drift stands."""

    @property
    def history(self) -> HistoryView:
        """The curves."""

    @property
    def alerts(self) -> Sequence[AlertView]:
        """Alerts so far, oldest first."""

    @property
    def profile(self) -> Profile:
        """The rig."""

    @property
    def family(self) -> FamilyView:
        """The blurs."""

    @property
    def folder(self) -> Path | None:
        """Where snapshots go, or None for a session that keeps nothing."""

    @property
    def background_errors(self) -> Sequence[str]:
        """What went wrong out of sight, oldest first."""

    def snooze(self, seconds: float) -> None:
        """Tell no alert for so long; 0 ends a snooze."""

    def acknowledge(self) -> None:
        """Take the standing alert as seen."""

    def rebaseline(self) -> None:
        """Take the optics as they are now for the new baseline."""
