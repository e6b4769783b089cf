"""The report's numbers: verdict, tiles, tables of frames, tracking and versions."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.drift import clock_text
from deepblur_live.session.palette import STATES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from deepblur_live.session.report.read import SessionData

__all__ = [
    "frames_table",
    "tiles",
    "time_in_states",
    "tracking_table",
    "verdict",
    "versions_table",
]

_ENDINGS = {
    "running": "The session was cut off, or is still running: this is as far as it "
    "got.",
    "ended": "The session's end was interrupted: its summary is missing.",
}


def verdict(data: SessionData) -> str:
    """Return what the session comes to, a sentence or two, as HTML."""
    levels = [str(event["alert"]["level"]) for event in data.told("alertRaised")]
    change = data.numbers["change_waves"]
    wavelength = data.profile.optics.wavelength_nm
    if "alarm" in levels or "warn" in levels:
        level = "alarm" if "alarm" in levels else "warn"
        first = data.told("alertRaised")[levels.index(level)]["alert"]
        text = (
            f"The wavefront moved past the {level} limit at "
            f"{clock_text(float(first['time']))}, by "
            f"{float(first['change_waves']) * wavelength:.0f} nm rms, mostly "
            f"{html.escape(' and '.join(map(str, first['modes'])))}."
        )
        if first.get("cause"):
            text += f" Likely cause: {html.escape(str(first['cause']))}."
    elif np.isfinite(change).any():
        level = "ok"
        text = (
            "The optics stayed within their limits: the wavefront never moved by more "
            f"than {np.nanmax(change) * wavelength:.0f} nm rms from the baseline."
        )
    else:
        level = "baselining"
        text = "The session ended before there was a baseline to measure drift from."
        reasons = [span.reason for span in data.spans if span.state == level]
        if reasons and reasons[-1]:
            text += f" ({html.escape(reasons[-1])})"
    if np.isfinite(change).any() and level != "ok":
        last = change[np.isfinite(change)][-1] * wavelength
        text += f" At the end it was {last:.0f} nm from the baseline."
    text += f" {_ENDINGS.get(str(data.about.get('state')), '')}"
    chip = f'<span class=chip style="background:{STATES[level]}">{level.upper()}</span>'
    return chip + text.strip()


def tiles(data: SessionData) -> str:
    """Return the few numbers that one looks for first."""
    wavelength = data.profile.optics.wavelength_nm
    change, strehl = data.numbers["change_waves"], data.numbers["strehl"]
    alarms = data.told("alertRaised")
    shown = [
        (clock_text(float(data.times[-1])), "session (h:mm:ss)"),
        (_nm(np.nanmax(change, initial=-np.inf), wavelength), "largest change, nm rms"),
        (_fixed(np.nanmin(strehl, initial=np.inf), 2), "lowest Strehl ratio"),
        (str(len(alarms)), "alerts"),
        (_counted(data, "processed"), "frames processed"),
        (_counted(data, "dropped"), "frames dropped, to stay live"),
    ]
    inner = "".join(
        f"<div class=tile><b>{value}</b><span>{name}</span></div>"
        for value, name in shown
    )
    return f"<div class=tiles>{inner}</div>"


def time_in_states(data: SessionData) -> Mapping[str, float]:
    """Return seconds in each state, in the order of their first appearance."""
    seconds: dict[str, float] = {}
    for span in data.spans:
        seconds[span.state] = seconds.get(span.state, 0.0) + span.end - span.begin
    return seconds


def frames_table(data: SessionData) -> str:
    """Return the frames' balance, rates and losses."""
    summary = data.about.get("summary") or {}
    rows = [
        ("captured", _counted(data, "captured")),
        ("processed", _counted(data, "processed")),
        ("dropped, to stay live", _counted(data, "dropped")),
        ("never came from the camera", _counted(data, "camera_gaps")),
    ]
    raw = _counts(data).get("raw_only") or {}
    rows += [(f"passed on raw: {why}", _count(n)) for why, n in sorted(raw.items())]
    if summary:
        rows += [
            ("processed a second", _fixed(summary.get("fps"), 1)),
            ("latency, median", f"{_fixed(summary.get('latency_p50_ms'), 0)} ms"),
            ("latency, 95 %", f"{_fixed(summary.get('latency_p95_ms'), 0)} ms"),
        ]
    for sink in summary.get("sinks") or ():
        told = [f"{sink['delivered']} delivered"]
        told += [f"{sink[k]} {k}" for k in ("failed", "dropped") if sink[k]]
        rows.append((f"alarms to {sink['name']}", ", ".join(told)))
    return _table(rows)


def tracking_table(data: SessionData) -> str:
    """Return how well the track is founded."""
    accepted, nis = data.numbers["accepted"], data.numbers["nis"]
    steps = np.diff(data.times)
    rows = [("points in the drift log", _count(len(data.times)))]
    if lost := (data.about.get("summary") or {}).get("rows_lost"):
        rows.append(("points the disk did not take", _count(lost)))
    if steps.size:
        rows += [
            ("seconds between points, median", _fixed(float(np.median(steps)), 2)),
            ("longest silence", f"{clock_text(float(steps.max()))}"),
        ]
    if np.isfinite(accepted).any():
        rows.append(("estimates accepted", f"{100 * np.nanmean(accepted):.0f} %"))
    if np.isfinite(nis).any():
        rows.append(
            (
                f"mean NIS ({len(data.modes)} when σ is right and points independent; "
                "an average's are alike, and have less)",
                f"{np.nanmean(nis):.1f}",
            )
        )
    quality = data.numbers["quality"]
    if np.isfinite(quality).any():
        rows.append(("residual of the fit, median", _fixed(np.nanmedian(quality), 2)))
    psf = (data.about.get("summary") or {}).get("psf") or {}
    if psf.get("n"):
        rows.append(("PSF SNR against the truth", f"{_fixed(psf.get('mean'), 1)} dB"))
    return _table(rows)


def versions_table(data: SessionData) -> str:
    """Return model, hashes and versions."""
    model = data.about.get("model")
    model = model if isinstance(model, dict) else {"name": model}
    rows = [("model", _plain(model.get("name")))]
    if model.get("manifest_sha256"):
        rows.append(("manifest.json", _code(model["manifest_sha256"])))
    for file, digest in (model.get("weights_sha256") or {}).items():
        rows.append((file, _code(digest)))
    engine = data.about.get("engine") or {}
    if executor := engine.get("executor"):
        rows.append(("run by", _plain(executor)))
    for file, digest in (engine.get("plans_sha256") or {}).items():
        rows.append((file, _code(digest)))
    versions = data.about.get("versions") or {}
    rows += [(name, _plain(version)) for name, version in versions.items()]
    return _table(rows, number=False)


def _table(rows: Iterable[tuple[str, str]], *, number: bool = True) -> str:
    kind = " class=n" if number else ""
    lines = "".join(
        f"<tr><td>{html.escape(name)}</td><td{kind}>{value}</td></tr>"
        for name, value in rows
    )
    return f"<table>{lines}</table>"


def _counts(data: SessionData) -> Mapping[str, Any]:
    """Return the session's own counts; empty where it was cut off."""
    return data.about.get("summary") or data.about.get("counts") or {}


def _counted(data: SessionData, name: str) -> str:
    """Return a count of frames, at the end or as the last row has it."""
    return _count(_counts(data).get(name, float(data.numbers[name][-1])))


def _count(value: float | None) -> str:
    if value is None or not np.isfinite(value):
        return "–"
    return f"{round(value):,}".replace(",", "\u202f")


def _fixed(value: float | None, digits: int) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def _nm(waves: float, wavelength: float) -> str:
    return _fixed(waves * wavelength, 0)


def _plain(value: object) -> str:
    return html.escape(str(value))


def _code(value: object) -> str:
    return f"<code>{html.escape(str(value))}</code>"
