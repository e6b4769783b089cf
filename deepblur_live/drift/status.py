"""How the optics stand: the states a session can be in, and the numbers behind them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DriftState", "DriftStatus"]


class DriftState(StrEnum):
    """Where the watch over the optics stands."""

    BASELINING = "baselining"
    OK = "ok"
    WARN = "warn"
    ALARM = "alarm"
    STALE = "stale"
    RAW_ONLY = "raw-only"


@dataclass(frozen=True)
class DriftStatus:
    """The watch over the optics at one moment.

    Parameters
    ----------
    state
        ``STALE`` and ``RAW_ONLY`` come from the session, which sees the frames; the
        others from the coefficients.
    n_baseline, n_needed
        Points (means over some seconds) in the baseline, and how many make one.
    baseline
        (P,) coefficients that changes are measured from, waves rms; None while
        baselining.
    change_waves, change_nm, change_sigma_waves
        rms of the wavefront's change from the baseline, and its standard deviation;
        NaN while baselining.
    wavefront_rms
        rms of the wavefront itself, waves; NaN before the first point.
    acknowledged
        True once somebody has seen the warning or alarm that still stands.
    reason
        Why, for ``STALE`` and ``RAW_ONLY``, and for ``BASELINING`` where it takes
        longer than usual; else empty.
    evidence
        The charts' largest statistic over its limit: 1 and more says that something
        has changed, however little; NaN before the charts are armed.
    lag_one
        Lag-1 autocorrelation of the charts' points; NaN before it is known.
    snoozed_until
        Until when no alert is told, seconds since the session began; None if none is
        snoozed.
    """

    state: DriftState
    n_baseline: int
    n_needed: int
    baseline: NDArray[np.float64] | None = None
    change_waves: float = np.nan
    change_nm: float = np.nan
    change_sigma_waves: float = np.nan
    wavefront_rms: float = np.nan
    acknowledged: bool = False
    reason: str = ""
    evidence: float = np.nan
    lag_one: float = np.nan
    snoozed_until: float | None = None
