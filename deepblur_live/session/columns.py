"""The columns of the drift log: names with units, meanings, and a point's values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from deepblur_live.acquisition.statistics import Statistics
    from deepblur_live.drift import DriftStatus
    from deepblur_live.runtime.frame import FrameResult

__all__ = ["log_columns", "log_values", "mode_columns"]

_PER_MODE = {
    "": "tracked coefficient, waves rms",
    "sigma_": "its uncertainty, waves rms: 68 % of errors are meant to be within it, "
    "95 % within 2.4 of it",
    "truth_": "true coefficient where known, waves rms, as the camera told it: even "
    "modes may all have the other sign in the track, with the same PSF",
}


def log_columns(names: Sequence[str]) -> Mapping[str, str]:
    """Return the columns of a session that follows `names`, each with its meaning."""
    columns = {
        "time_s": "capture of the frame, seconds since the session began",
        "frame": "number of the frame, from 0, of those captured",
    }
    for prefix, meaning in _PER_MODE.items():
        columns |= dict.fromkeys(mode_columns(names, prefix), meaning)
    return columns | {
        "wavefront_rms_waves": "rms wavefront error of the track",
        "change_waves": "rms change of the wavefront from the baseline, debiased",
        "change_sigma_waves": "its standard deviation",
        "strehl": "Strehl ratio of the track",
        "quality": "residual of the fit over its expected size, 0.4 to 0.8 if good",
        "nis": "normalised innovation squared, chi-squared with a degree a mode",
        "accepted": "1 when the estimate moved the track, 0 when it was refused",
        "state": "baselining, ok, warn, alarm, stale or raw-only",
        "reason": "why the frame was passed on raw, or the estimate not trusted",
        "latency_ms": "capture to result, median of the recent frames",
        "captured": "frames captured so far",
        "processed": "frames processed so far",
        "dropped": "frames dropped so far to stay live",
        "camera_gaps": "frames the camera numbered and never delivered, so far",
    }


def mode_columns(names: Sequence[str], prefix: str = "") -> list[str]:
    """Return a column a mode: tracked, or ``"sigma_"`` or ``"truth_"``."""
    modes = [name.replace(" ", "_").replace("-", "_").lower() for name in names]
    return [f"{prefix}{mode}_waves" for mode in modes]


def log_values(
    result: FrameResult,
    status: DriftStatus,
    statistics: Statistics,
    truth: NDArray[np.float64] | None,
    strehl: float,
    n_coefficients: int,
) -> list[Any]:
    """Return the row of a result, in the order of :func:`log_columns`."""
    track, estimate = result.track, result.estimate
    empty: list[Any] = [None] * n_coefficients
    reason = result.reason or ("" if estimate is None else estimate.reason)
    return [
        result.frame.time,
        result.frame.number,
        *(empty if track is None else track.coefficients.tolist()),
        *(empty if track is None else np.sqrt(np.diag(track.covariance)).tolist()),
        *(empty if truth is None else truth.tolist()),
        status.wavefront_rms,
        status.change_waves,
        status.change_sigma_waves,
        strehl,
        math.nan if estimate is None else float(estimate.quality),
        math.nan if track is None else track.nis,
        None if track is None or estimate is None else int(track.accepted),
        str(status.state),
        reason,
        statistics.latency_p50_ms,
        statistics.captured,
        statistics.processed,
        statistics.dropped,
        statistics.camera_gaps,
    ]
