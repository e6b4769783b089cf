"""The summary of a session: counts, speed, accuracy and alerts, in a few lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deepblur_live.acquisition.missed import Missed
from deepblur_live.drift import Alert, clock_text
from deepblur_live.session.fidelity import (
    ImageFidelity,
    PsfFidelity,
    image_fidelity,
    psf_fidelity,
)
from deepblur_live.session.watched import Watched

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from deepblur_live.acquisition.statistics import Statistics
    from deepblur_live.blur import BlurFamily
    from deepblur_live.drift import DriftStatus
    from deepblur_live.runtime.series_key import SeriesKey
    from deepblur_live.session.fidelity import ImageSample
    from deepblur_live.session.history import History
    from deepblur_live.session.liveness import Liveness
    from deepblur_live.session.recording import RecordingCounts
    from deepblur_live.session.sinks.dispatch import SinkStatistics

__all__ = ["SeriesSummary", "SessionSummary", "summarise"]

# Maximum number of alerts in the text; the log and the report contain all of them.
_MAX_ALERTS = 10


@dataclass(frozen=True)
class SeriesSummary:
    """One channel, position and plane at the end of a session.

    Parameters
    ----------
    name
        Empty for frames outside an MDA, or of an MDA over time alone.
    state, change_text
        Its drift; the change is empty without a baseline.
    estimates
        Number of times that its blur was identified.
    """

    name: str
    state: str
    change_text: str
    estimates: int

    @classmethod
    def of(cls, key: SeriesKey, status: DriftStatus, estimates: int) -> SeriesSummary:
        """Return the summary of a series."""
        return cls(key.text, str(status.state), status.change_text, estimates)

    @property
    def text(self) -> str:
        """One line."""
        changed = f", changed by {self.change_text}" if self.change_text else ""
        name = self.name or "frames outside an MDA"
        return f"{name}: {self.state}{changed}, {self.estimates} estimates"


@dataclass(frozen=True)
class SessionSummary:
    """A finished session.

    Parameters
    ----------
    duration_s
        Time from the first frame to the last.
    captured, processed, dropped
        Frames, as the listener counted them.
    missed
        Live frames that did not reach it.
    raw_only
        Frames passed on raw, by reason.
    fps
        Results per second by the clock, from the first capture to the last result; 0
        for a single one.
    latency_p50_ms, latency_p95_ms
        From capture to result; NaN without frames.
    psf, images
        Accuracy against the truth, where it is known.
    alerts
        Alerts raised, oldest first.
    sinks
        Deliveries of alarms.
    recordings
        Deblurred series on disk.
    not_followed
        Why changes of the blur were not monitored; empty if they were.
    series
        Channels, positions and planes that were followed to the end.
    watched
        The share of the session that was watched for changes.
    contradiction
        What contradicts the pixel size at the end; empty if nothing does.
    rows, rows_lost
        Rows of the drift log.
    folder
        The session's folder, or None.
    """

    duration_s: float
    captured: int
    processed: int
    dropped: int
    raw_only: Mapping[str, int]
    fps: float
    latency_p50_ms: float
    latency_p95_ms: float
    missed: Missed = field(default_factory=Missed)
    psf: PsfFidelity = field(default_factory=PsfFidelity)
    images: ImageFidelity = field(default_factory=ImageFidelity)
    alerts: tuple[Alert, ...] = ()
    sinks: tuple[SinkStatistics, ...] = ()
    recordings: tuple[RecordingCounts, ...] = ()
    not_followed: str = ""
    series: tuple[SeriesSummary, ...] = ()
    watched: Watched = field(default_factory=Watched)
    contradiction: str = ""
    rows: int = 0
    rows_lost: int = 0
    folder: Path | None = None

    def text(self) -> str:
        """Return the summary as a few short lines."""
        return "\n".join(f"{label:<9}{line}" for label, line in self._lines() if line)

    def _lines(self) -> list[tuple[str, str]]:
        return [
            ("Frames", self._frames()),
            ("Speed", self._speed()),
            ("Blur", self._blur()),
            ("Images", self._images()),
            ("Optics", self.watched.text),
            ("Optics", self._contradicted()),
            *self._alerts(),
            *self._series(),
            *(("Sent to", sink.text) for sink in self.sinks),
            *(("Recorded", recording.text) for recording in self.recordings),
            ("Log", f"{self.rows_lost} rows lost" if self.rows_lost else ""),
            ("Saved in", "" if self.folder is None else str(self.folder)),
        ]

    def _frames(self) -> str:
        text = (
            f"{self.captured} captured, {self.processed} processed, "
            f"{self.dropped} dropped; the capture took {clock_text(self.duration_s)}"
        )
        raw = ", ".join(f"{n} ({reason})" for reason, n in self.raw_only.items() if n)
        if raw:
            text += f"; passed on raw: {raw}"
        if self.missed.total:
            text += f"; {self.missed.text}"
        return text

    def _speed(self) -> str:
        if not self.processed:
            return ""
        # Not the camera's: every frame of an MDA may be processed long after it.
        rate = f"{self.fps:.1f} frames/s processed, " if self.fps > 0 else ""
        return (
            f"{rate}latency from capture to result {self.latency_p50_ms:.0f} ms "
            f"(median), {self.latency_p95_ms:.0f} ms (95 %)"
        )

    def _blur(self) -> str:
        psf = self.psf
        if not psf.n:
            return ""
        return (
            f"PSF SNR against the truth {psf.mean:.1f} dB mean, {psf.median:.1f} dB "
            f"median (constant mean PSF: {psf.constant:.1f} dB)"
        )

    def _images(self) -> str:
        images = self.images
        if not images.n:
            return ""
        return (
            f"raw → deblurred: PSNR {images.psnr_raw:.1f} → "
            f"{images.psnr_deblurred:.1f} dB, SSIM {images.ssim_raw:.2f} → "
            f"{images.ssim_deblurred:.2f}, over {images.n} frames"
        )

    def _contradicted(self) -> str:
        if not self.contradiction:
            return ""
        return f"{self.contradiction}: coefficients and distances are not reliable"

    def _series(self) -> list[tuple[str, str]]:
        if len(self.series) < 2:
            return []
        return [("Series", series.text) for series in self.series]

    def _alerts(self) -> list[tuple[str, str]]:
        if not self.alerts:
            why = f": {self.not_followed}" if self.not_followed else ""
            return [("Alerts", f"none{why}")]
        shown = self.alerts[-_MAX_ALERTS:]
        lines = [("Alert", alert.text) for alert in shown]
        if len(shown) == len(self.alerts):
            return lines
        return [("Alerts", f"{len(self.alerts)}, the last {len(shown)}:"), *lines]


def summarise(
    statistics: Statistics,
    liveness: Liveness,
    history: History,
    samples: Sequence[ImageSample],
    family: BlurFamily,
    **others: Any,
) -> SessionSummary:
    """Return the summary; compares with the truth where it is known.

    `others` are further fields of the summary: alerts, sinks, recordings, not_followed,
    series, watched, contradiction, rows, rows_lost and folder.
    """
    # A single frame has no rate.
    worked = statistics.worked_s if statistics.processed > 1 else 0.0
    return SessionSummary(
        duration_s=liveness.duration_s,
        captured=statistics.captured,
        processed=statistics.processed,
        dropped=statistics.dropped,
        missed=statistics.missed,
        raw_only=dict(statistics.raw_only),
        fps=statistics.processed / worked if worked > 0 else 0.0,
        latency_p50_ms=statistics.latency_p50_ms,
        latency_p95_ms=statistics.latency_p95_ms,
        psf=psf_fidelity(history, family),
        images=image_fidelity(samples),
        **others,
    )
