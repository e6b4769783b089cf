"""The state of the drift monitor, with the numbers behind it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NO_LIMITS", "DriftState", "DriftStatus", "Limits", "SpectralChange"]


class DriftState(StrEnum):
    """State of a session as far as drift is concerned."""

    BASELINING = "baselining"
    OK = "ok"
    WARN = "warn"
    ALARM = "alarm"
    STALE = "stale"
    RAW_ONLY = "raw-only"
    NOT_FOLLOWED = "not followed"
    """The PSF is given: changes of the blur are not monitored."""


class Limits(NamedTuple):
    """Size from which a change is a warning or an alarm now; NaN if no size is."""

    warn: float
    alarm: float


NO_LIMITS = Limits(np.nan, np.nan)
"""No change would raise the level now: changes are not judged, or not certain."""


@dataclass(frozen=True)
class SpectralChange:
    """The change of the blur from the spectra.

    Parameters
    ----------
    state
        ``BASELINING``, ``OK``, ``WARN`` or ``ALARM``.
    strength, sigma
        Size of the change from the baseline, including changes carried over from
        earlier baselines: the rms change of the logarithm of the contrast, and its
        standard deviation, in nepers; NaN while there is no baseline.
    sharpening, sharpening_sigma
        The part of the strength that rises or falls steadily with the frequency, in
        nepers: negative for a picture that has become softer.
    test, residual, coherence
        T, U and squared coherence of the last batch.
    evidence
        Largest statistic of the charts relative to its limit.
    n_baseline, n_needed
        Batches in the baseline, and how many it needs.
    reason
        Why there is no baseline yet, if not for lack of time.
    provisional
        Whether the change is watched although there is no baseline yet, with wider
        limits.
    least
        Smallest change of sharpness that these limits would show, in nepers; NaN where
        they do not apply.
    sure_in_s
        Seconds until there is a baseline, 0 with one; NaN if that is not known.
    begin
        Start of the frames from which changes are measured, seconds since the session
        began; NaN before there is a baseline.
    limits
        Limits in force for the strength, nepers: wider than the profile's while they
        are provisional, and for a specimen that moves.
    """

    state: DriftState
    n_baseline: int
    n_needed: int
    strength: float = np.nan
    sigma: float = np.nan
    sharpening: float = np.nan
    sharpening_sigma: float = np.nan
    test: float = np.nan
    residual: float = np.nan
    coherence: float = np.nan
    evidence: float = np.nan
    reason: str = ""
    provisional: bool = False
    least: float = np.nan
    sure_in_s: float = np.nan
    begin: float = np.nan
    limits: Limits = NO_LIMITS


@dataclass(frozen=True)
class DriftStatus:
    """State of the drift monitor at one moment.

    Parameters
    ----------
    state
        ``STALE`` and ``RAW_ONLY`` are set by the session, from the frames; the others
        by the monitor, from the coefficients. ``NOT_FOLLOWED`` with a fixed PSF.
    n_baseline, n_needed
        Number of control-chart points in the baseline, and how many it needs.
    unit
        Unit of `change` and `change_sigma`, the metric's (``"waves rms"``).
    baseline
        (P,) reference coefficients; None while baselining.
    change, change_sigma
        Size of the change from the baseline and its standard deviation; NaN while
        baselining.
    change_text
        `change` in the display unit (``"39 nm"``); empty while baselining.
    acknowledged
        True once the user has acknowledged the current warning or alarm.
    reason
        Why the state is ``STALE`` or ``RAW_ONLY``, or why ``BASELINING`` takes longer
        than usual, or why the blur is ``NOT_FOLLOWED``; empty otherwise.
    evidence
        Largest control-chart statistic relative to its limit: from 1 on something has
        changed, however little. NaN before the charts are armed.
    lag_one
        Lag-1 autocorrelation of the control-chart points; NaN before it is known.
    snoozed_until
        No alert is raised before this time, seconds since the session began; None when
        alerts are not snoozed.
    spectral
        The change from the spectra; None where they are not followed. The other numbers
        are from the estimates.
    contradiction
        How the estimates contradict the spectra on this specimen; empty if they do not.
    begin
        When the baseline began, seconds since the session began; NaN before it is
        complete. A later one that carried the change forward keeps the first one's.
    limits
        Limits in force for `change`; none where the spectra decide instead.
    """

    state: DriftState
    n_baseline: int
    n_needed: int
    unit: str = ""
    baseline: NDArray[np.float64] | None = None
    change: float = np.nan
    change_sigma: float = np.nan
    change_text: str = ""
    acknowledged: bool = False
    reason: str = ""
    evidence: float = np.nan
    lag_one: float = np.nan
    snoozed_until: float | None = None
    spectral: SpectralChange | None = None
    contradiction: str = ""
    begin: float = np.nan
    limits: Limits = NO_LIMITS

    @property
    def provisional(self) -> bool:
        """Whether the change is judged before there is a complete baseline."""
        spectral = self.spectral
        if spectral is None or not spectral.provisional:
            return False
        # A known state needs no baseline: only a level of the spectra is provisional.
        raised = self.state in (DriftState.WARN, DriftState.ALARM)
        return self.baseline is None or (raised and self.state is spectral.state)
