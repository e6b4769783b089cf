"""The session's state in words: the chip, the status line, the PSF's caption."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from deepblur_live.drift import clock_text

if TYPE_CHECKING:
    from deepblur_live.gui.session_view import DriftStatusView, StatisticsView
    from deepblur_live.runtime.frame import FrameResult

__all__ = [
    "Chip",
    "ChipState",
    "chip_of",
    "format_wavefront",
    "raw_only_text",
    "status_text",
]

# Frames under way for this long, and for so many intervals, are stuck.
_STUCK_S = 5.0
_STUCK_INTERVALS = 5.0


class ChipState(StrEnum):
    """What the chip can say; colours go with these, words too."""

    NO_FRAMES = "no frames"
    BASELINING = "baselining"
    OK = "ok"
    WARN = "warn"
    ALARM = "alarm"
    RAW_ONLY = "raw-only"
    STALE = "stale"


@dataclass(frozen=True)
class Chip:
    """The chip: its state, its text, and why (for the tooltip)."""

    state: ChipState
    text: str
    reason: str


_MEANING = {
    ChipState.OK: "the wavefront is where the baseline was",
    ChipState.WARN: "the wavefront has moved past the warning limit",
    ChipState.ALARM: "the wavefront has moved past the alarm limit",
}


def chip_of(
    latest: FrameResult | None,
    status: DriftStatusView,
    statistics: StatisticsView,
    seconds_since_new: float,
    interval: float = 0.0,
) -> Chip:
    """Choose the one thing to say; the session judges, all but what is on the screen.

    Parameters
    ----------
    latest
        The newest result, or None.
    status, statistics
        The session's.
    seconds_since_new
        Since the window saw a new result.
    interval
        Seconds between the last two: a slow pipeline is not a stuck one.
    """
    if latest is None:
        return Chip(
            ChipState.NO_FRAMES,
            "NO FRAMES",
            f"no frame has come through yet; worker {statistics.worker_state}",
        )
    waited = f"{seconds_since_new:.0f} s"
    try:
        state = ChipState(str(status.state))
    except ValueError:
        # A state newer than this window is still said, in its own words.
        return Chip(ChipState.NO_FRAMES, str(status.state).upper(), status.reason)
    if state is ChipState.STALE:
        return Chip(state, f"STALE {waited}", status.reason)
    patience = max(_STUCK_S, _STUCK_INTERVALS * interval)
    stuck = statistics.in_flight > 0 and seconds_since_new > patience
    if stuck and state is not ChipState.RAW_ONLY:
        # The session calls frames that come a sign of life; the picture is old anyway.
        reason = f"frames come, but none has come back for {waited}"
        return Chip(ChipState.STALE, f"STALE {waited}", reason)
    if state is ChipState.BASELINING:
        text = f"BASELINING {status.n_baseline}/{status.n_needed}"
        why = status.reason or "collecting the baseline that drift is measured from"
        return Chip(state, text, why)
    reason = status.reason or _MEANING.get(state, "")
    if status.snoozed_until is not None:
        reason += f"; alerts are snoozed until {clock_text(status.snoozed_until)}"
        return Chip(state, f"{str(state).upper()} · SNOOZED", reason)
    return Chip(state, str(state).upper(), reason)


def status_text(statistics: StatisticsView, fps_shown: float) -> str:
    """Return the status line: rates, latency, the frames' balance, the worker."""
    s = statistics
    return "   │   ".join(
        (
            f"camera {_rate(s.fps_captured)} · processed {_rate(s.fps_processed)}"
            f" · shown {_rate(fps_shown)} fps",
            f"latency p50 {_ms(s.latency_p50_ms)}, p95 {_ms(s.latency_p95_ms)}",
            f"captured {_count(s.captured)} = processed {_count(s.processed)}"
            f" + dropped {_count(s.dropped)} + in flight {_count(s.in_flight)}",
            f"camera gaps {_count(s.camera_gaps)}",
            f"worker {s.worker_state}",
        )
    )


def raw_only_text(statistics: StatisticsView) -> str:
    """Return how many frames were passed on raw and why, a line a reason."""
    if not statistics.raw_only:
        return "no frame was passed on raw"
    lines = (f"{_count(n)} × {why}" for why, n in sorted(statistics.raw_only.items()))
    return "frames passed on raw:\n" + "\n".join(lines)


def format_wavefront(strehl: float, rms_waves: float, wavelength_nm: float) -> str:
    """Return Strehl ratio and rms wavefront error, in nm and in waves."""
    return (
        f"Strehl {strehl:.2f}\n{rms_waves * wavelength_nm:.0f} nm rms\n"
        f"{rms_waves:.3f} waves"
    )


def _rate(value: float) -> str:
    return "–" if not math.isfinite(value) else f"{value:.1f}"


def _ms(value: float) -> str:
    # The counters say 0 before there is a first.
    return f"{value:.0f} ms" if math.isfinite(value) and value > 0 else "–"


def _count(value: int) -> str:
    return f"{value:,}".replace(",", "\u202f")
