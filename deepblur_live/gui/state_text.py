"""The session's state as text: state chip, status line, PSF caption, times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepblur_live.drift import DriftState, clock_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deepblur_live.acquisition.statistics import Statistics
    from deepblur_live.blur import Quality
    from deepblur_live.drift import DriftStatus
    from deepblur_live.runtime.frame import FrameResult
    from deepblur_live.session.watched import Watched

__all__ = [
    "Chip",
    "chip_of",
    "quality_text",
    "raw_only_text",
    "session_time",
    "status_text",
    "waiting_text",
]

# No result for this long, and for this many frame intervals: frames are stuck.
_STUCK_S = 5.0
_STUCK_INTERVALS = 5.0

_MEANING = {
    DriftState.OK: "no significant change beyond the warning limit",
    DriftState.WARN: "significant change beyond the warning limit",
    DriftState.ALARM: "significant change beyond the alarm limit",
}


@dataclass(frozen=True)
class Chip:
    """The state chip.

    Parameters
    ----------
    state
        None before the first frame.
    text, reason
        The label, and its tooltip.
    """

    state: DriftState | None
    text: str
    reason: str


def chip_of(
    latest: FrameResult | None,
    status: DriftStatus,
    statistics: Statistics,
    seconds_since_new: float,
    interval: float = 0.0,
    watched: Watched | None = None,
) -> Chip:
    """Return the chip for the session's state, or STALE if the image itself is old.

    Parameters
    ----------
    latest
        The newest result, or None.
    status, statistics
        The session's.
    seconds_since_new
        Time since the window received a new result.
    interval
        Time between the last two results, seconds: a slow pipeline is not stuck.
    watched
        The share of the session that was monitored; None if unknown.
    """
    if latest is None:
        reason = f"no frame has been processed yet; worker {statistics.worker_state}"
        if _first_in_progress(statistics):
            count = _count(statistics.captured)
            reason = f"captured {count}, {reason}. The first takes longest"
            return Chip(None, "IDENTIFYING …", reason)
        return Chip(None, "NO FRAMES", reason)
    state, reason = status.state, status.reason
    waited = f"{seconds_since_new:.0f} s"
    patience = max(_STUCK_S, _STUCK_INTERVALS * interval)
    stuck = statistics.in_flight > 0 and seconds_since_new > patience
    if stuck and state not in (DriftState.RAW_ONLY, DriftState.STALE):
        # For the session, frames that arrive are enough; here the image is outdated.
        state = DriftState.STALE
        reason = f"frames arrive, but none has been processed for {waited}"
    if state is DriftState.STALE:
        return Chip(state, f"STALE {waited}", reason)
    share = "" if watched is None or not watched.text else f"\n{watched.text}"
    if state is DriftState.BASELINING:
        text = f"BASELINING {status.n_baseline}/{status.n_needed}"
        reason = reason or "collecting the baseline for drift detection"
        if status.provisional:
            text = f"UNCHANGED · provisional{_sure_in(status)}"
            reason = f"{reason}; {_provisional_text(status)}"
        return Chip(state, text, reason + share)
    text, reason = state.upper(), reason or _MEANING.get(state, "")
    if state is DriftState.OK:
        # Unchanged optics are not necessarily good ones.
        text = "UNCHANGED"
        if math.isfinite(status.begin):
            text += f" since {clock_text(status.begin)}"
    elif status.provisional:
        text += " · provisional"
        reason += f"; {_provisional_text(status)}"
    reason += share
    if status.snoozed_until is not None:
        text += " · SNOOZED"
        reason += f"; alerts are snoozed until {clock_text(status.snoozed_until)}"
    return Chip(state, text, reason)


def _sure_in(status: DriftStatus) -> str:
    """Return when there will be a baseline, after a comma; empty if unknown."""
    left = math.nan if status.spectral is None else status.spectral.sure_in_s
    if not math.isfinite(left):
        return ""
    if left < 60:
        return f", sure in {max(left, 1):.0f} s"
    return f", sure in {math.ceil(left / 60)} min"


def _provisional_text(status: DriftStatus) -> str:
    least = math.nan if status.spectral is None else status.spectral.least
    # A calibrated reference needs no points: then show those of the spectral baseline.
    of = status if status.baseline is None else status.spectral or status
    text = f"judged by {of.n_baseline} of {of.n_needed} points of the baseline"
    if not math.isfinite(least):
        return text
    return (
        f"{text}: a change of sharpness by less than {100 * least:.2g} % of the "
        "contrast of details is not certain yet"
    )


def waiting_text(statistics: Statistics) -> str:
    """Return the text of the image panes before the first result."""
    if _first_in_progress(statistics):
        return "identifying the blur of the first frame …"
    return "waiting for the first frame"


def _first_in_progress(statistics: Statistics) -> bool:
    return statistics.captured > 0 and statistics.processed == 0


def status_text(statistics: Statistics, fps_shown: float) -> str:
    """Return the status line: frame rates, latency, frame counts, worker state."""
    s = statistics
    return "   │   ".join(
        (
            f"camera {_rate(s.fps_captured)} · processed {_rate(s.fps_processed)}"
            f" · shown {_rate(fps_shown)} fps",
            f"latency median {_ms(s.latency_p50_ms)}, p95 {_ms(s.latency_p95_ms)}",
            f"captured {_count(s.captured)} = processed {_count(s.processed)}"
            f" + dropped {_count(s.dropped)} + in flight {_count(s.in_flight)}"
            + (f" ({_count(s.waiting)} waiting)" if s.waiting else ""),
            # The total is enough here: frames not read in time are no fault.
            f"missed {_count(s.missed.total)}",
            f"worker {s.worker_state}",
        )
    )


def missed_text(statistics: Statistics) -> str:
    """Return the number of missed frames by reason; empty if none were missed."""
    return "\n".join(
        f"missed: {_count(n)} {what}" for what, n in statistics.missed.named
    )


def raw_only_text(statistics: Statistics) -> str:
    """Return the number of frames that were not deblurred, by reason."""
    if not statistics.raw_only:
        return "no frames passed on without deblurring"
    lines = (f"{_count(n)} × {why}" for why, n in sorted(statistics.raw_only.items()))
    return "frames passed on without deblurring:\n" + "\n".join(lines)


def quality_text(qualities: Iterable[Quality]) -> str:
    """Return the caption of a PSF; a value with a unit has a line of its own."""
    lines: list[str] = []
    for quality in qualities:
        named = [quality.name, quality.value_text] if quality.unit else [quality.text]
        lines.extend(named)
    return "\n".join(lines)


def session_time(seconds: float) -> str:
    """Return a session time as ``m:ss``, from an hour on as ``h:mm:ss``.

    >>> session_time(65)
    '1:05'
    """
    sign = "−" if seconds < 0 else ""
    minutes, second = divmod(round(abs(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    if hours:
        return f"{sign}{hours}:{minute:02d}:{second:02d}"
    return f"{sign}{minute}:{second:02d}"


def _rate(value: float) -> str:
    return "–" if not math.isfinite(value) else f"{value:.1f}"


def _ms(value: float) -> str:
    # The latencies are 0 before the first frame.
    return f"{value:.0f} ms" if math.isfinite(value) and value > 0 else "–"


def _count(value: int) -> str:
    return f"{value:,}".replace(",", "\u202f")
