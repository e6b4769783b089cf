"""The columns of the drift log: names with units, meanings, and the values of a row."""

from __future__ import annotations

from dataclasses import astuple, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.acquisition.missed import Missed
from deepblur_live.runtime.frame import FrameState
from deepblur_live.runtime.series_key import series_key

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.acquisition.statistics import Statistics
    from deepblur_live.blur import BlurFamily, Quality
    from deepblur_live.drift import DriftStatus
    from deepblur_live.runtime.frame import FrameResult
    from deepblur_live.session.blur_facts import BlurFacts
    from deepblur_live.session.verification import Verification
    from deepblur_live.session.watched import Watched

__all__ = [
    "CONTRAST_LIMITS",
    "MISSED_COLUMNS",
    "change_columns",
    "change_limit_columns",
    "coefficient_columns",
    "log_columns",
    "log_values",
    "quality_columns",
]


MISSED_COLUMNS = tuple(f"missed_{field.name}" for field in fields(Missed))
"""Counts of live frames that did not reach the session, by reason."""
CONTRAST_LIMITS = ("contrast_warn_np", "contrast_alarm_np")
"""The limits in force for the change of contrast."""
_MISSED = (
    "frames that the camera numbered but did not send, so far",
    "frames that another reader took from the core's buffer, so far",
    "frames lost when the core's buffer was full, so far",
    "frames not read in time from the core's buffer, so far",
    "frames gone from the core's buffer for an unknown reason, so far",
)


def log_columns(family: BlurFamily, coverage_factor: float) -> dict[str, str]:
    """Return the names of the columns, each with its meaning.

    Parameters
    ----------
    coverage_factor
        Number of standard deviations that contain 95 % of the errors.
    """
    unit = family.unit
    meanings = {
        "": f"tracked coefficient, {unit}",
        "sigma_": f"its standard uncertainty, {unit}: contains 68 % of the errors; "
        f"{coverage_factor:.1f} times as much contains 95 %",
        "truth_": f"true coefficient where known, {unit}, as the camera reports it: "
        "the tracked one may be an equivalent with the same PSF",
    }
    columns = {
        "time_s": "capture of the frame, seconds since the session began",
        "frame": "number of the frame, from 0, among those captured",
        "channel": "channel of an MDA, by name; the coefficients have its wavelength",
        "position": "position of an MDA, by name or index from 0, and its tile",
        "z": "plane of an MDA, index from 0",
    }
    for prefix, meaning in meanings.items():
        columns |= dict.fromkeys(coefficient_columns(family, prefix), meaning)
    for quality in quality_columns(family):
        columns[quality.column] = f"{quality.name} of the track"
    change, sigma = change_columns(family)
    return columns | {
        change: f"size of the change from the baseline, {family.metric.unit}, debiased",
        sigma: "its standard deviation",
        **_limit_meanings(change_limit_columns(family), "size"),
        "contrast_change_np": "rms change of the contrast of details from the "
        "baseline, by the spectra, Np; 0.03 is 3 %",
        **_limit_meanings(CONTRAST_LIMITS, "change of contrast"),
        "sharpening_np": "its steady rise with the frequency, Np: negative if softer",
        "spectral_t": "T of the last batch of spectra: one unchanged batch in a "
        "thousand exceeds 1",
        "spectral_u": "U of the last batch: 1 for the same specimen, through any blur",
        "quality": "residual of the fit over its expected size; 0.4 to 0.8 is good",
        "nis": "normalised innovation squared: chi-squared with one degree of freedom "
        "per coefficient",
        "accepted": "1 if the estimate updated the track, 0 if it was rejected",
        "verification": "whether evidence beyond the frames confirms the coefficients "
        "on this specimen: not verified, verified or contradicted",
        "state": "baselining, ok, warn, alarm, stale, raw-only or not followed",
        "strength": "share of the deblurred image in the frame shown, 0 to 1",
        "reason": "why the frame was passed on raw, or shown at less than 75 %, or the "
        "estimate is not trusted",
        "latency_ms": "from capture to result, median of the recent frames",
        "captured": "frames captured so far",
        "processed": "frames processed so far",
        "dropped": "frames dropped so far to stay live",
        **dict(zip(MISSED_COLUMNS, _MISSED, strict=True)),
        "watched_s": "seconds with a baseline, in which a change would have been "
        "found, so far",
        "provisional_s": "seconds before a baseline, watched with wider limits, so far",
    }


def coefficient_columns(family: BlurFamily | BlurFacts, prefix: str = "") -> list[str]:
    """Return a column per coefficient: tracked, or ``"sigma_"`` or ``"truth_"``."""
    plain = str.maketrans(" -", "__", ",")
    names = [name.translate(plain).lower() for name in family.names]
    return [f"{prefix}{name}_{_suffix(family.unit)}" for name in names]


def change_columns(family: BlurFamily | BlurFacts) -> tuple[str, str]:
    """Return the columns of the change from the baseline and its deviation."""
    unit = _suffix(family.metric.unit)
    return f"change_{unit}", f"change_sigma_{unit}"


def quality_columns(family: BlurFamily) -> tuple[Quality, ...]:
    """Return the measures of quality that have columns, for the family's mean blur."""
    return family.quality(family.prior.mean)


def change_limit_columns(family: BlurFamily | BlurFacts) -> tuple[str, str]:
    """Return the columns of the limits in force for the change."""
    unit = _suffix(family.metric.unit)
    return f"warn_{unit}", f"alarm_{unit}"


def _limit_meanings(columns: tuple[str, str], what: str) -> dict[str, str]:
    meaning = f"{what} that raises {{}} now; empty if none does"
    levels = ("a warning", "an alarm")
    return {
        name: meaning.format(level) for name, level in zip(columns, levels, strict=True)
    }


def _suffix(unit: str) -> str:
    return unit.removesuffix(" rms").replace(" ", "_")


def _spectral(status: DriftStatus) -> list[Any]:
    spectral = status.spectral
    if spectral is None:
        return [None] * 6
    return [
        spectral.strength,
        *spectral.limits,
        spectral.sharpening,
        spectral.test,
        spectral.residual,
    ]


def log_values(
    result: FrameResult,
    status: DriftStatus,
    verification: Verification,
    statistics: Statistics,
    truth: NDArray[np.float64] | None,
    family: BlurFamily,
    watched: Watched,
) -> list[Any]:
    """Return the row of a result, in the order of :func:`log_columns`."""
    track, estimate = result.track, result.estimate
    series = series_key(result.info.metadata)
    unknown: list[Any] = [None] * family.n_coefficients
    if track is None:
        tracked, sigma = unknown, unknown
        qualities: list[Any] = [None] * len(quality_columns(family))
    else:
        tracked = track.coefficients.tolist()
        sigma = np.sqrt(np.diag(track.covariance)).tolist()
        qualities = [quality.value for quality in family.quality(track.coefficients)]
    return [
        result.frame.time,
        result.frame.number,
        series.channel,
        series.place,
        series.z,
        *tracked,
        *sigma,
        *(unknown if truth is None else truth.tolist()),
        *qualities,
        status.change,
        status.change_sigma,
        *status.limits,
        *_spectral(status),
        None if estimate is None else float(estimate.quality),
        None if track is None else track.nis,
        None if track is None or estimate is None else int(track.accepted),
        str(verification.state),
        str(status.state),
        0.0 if result.state is FrameState.RAW_ONLY else result.strength,
        result.reason or ("" if estimate is None else estimate.reason),
        statistics.latency_p50_ms,
        statistics.captured,
        statistics.processed,
        statistics.dropped,
        *astuple(statistics.missed),
        watched.watched_s,
        watched.provisional_s,
    ]
