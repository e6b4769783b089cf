"""The report's page: its texts and tables, put into the template ``report.html``."""

from __future__ import annotations

import html
import json
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.acquisition.missed import Missed
from deepblur_live.drift import clock_text
from deepblur_live.session.columns import MISSED_COLUMNS
from deepblur_live.session.display_unit import coefficient_unit
from deepblur_live.session.palette import STATES
from deepblur_live.session.report.baselines import (
    alert_size,
    baseline_spans,
    baseline_table,
    ended_by,
)
from deepblur_live.session.report.calibrated import calibration_note
from deepblur_live.session.report.markup import chip, code, style, table
from deepblur_live.session.report.moments import short_value
from deepblur_live.session.verification import (
    NOT_VERIFIED,
    Verification,
    VerificationState,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from deepblur_live.session.report.moment import Moment
    from deepblur_live.session.report.read import SessionData

__all__ = ["page", "verdict"]

_MAX_ALERTS = 200
_MAX_EVENTS = 500
# Unchanged optics may be bad ones; how good the blur is, is stated separately.
_STATE_WORDS = {"ok": "unchanged"}
_ENDINGS = {
    "running": "The session was cut off, or is still running: the report ends here.",
    "ended": "The session's end was interrupted: its summary is missing.",
}


def page(data: SessionData, figures: Mapping[str, str], shown: Sequence[Moment]) -> str:
    """Return the page, which needs no other file.

    Parameters
    ----------
    figures
        SVGs: ``"change"``, ``"psf"``, ``"coefficients"`` and ``"quality"``.
    shown
        The session's start, worst and end; may be empty.
    """
    template = Template(Path(__file__).with_name("report.html").read_text("utf-8"))
    optics = data.profile.optics
    known = np.isfinite(data.coefficients("truth_")).any()
    profile = json.dumps(data.about.get("profile", {}), indent=2, ensure_ascii=False)
    events = [json.dumps(e, ensure_ascii=False) for e in data.events[-_MAX_EVENTS:]]
    texts = {
        "name": data.profile.name,
        "folder": data.folder.name,
        "started": str(data.about.get("started", ""))[:19].replace("T", " "),
        "rig": f"NA {optics.numerical_aperture:g}, {optics.wavelength_nm:g} nm, "
        f"pixels of {optics.pixel_size_nm:g} nm"
        f"{' (contradicted)' if data.contradiction else ''}",
        "truth_note": " Thin dashed lines: the true values, which are known here."
        if known
        else "",
        "psf_note": " Nine PSFs of each: those at the centres of 3 × 3 parts."
        if shown and len(shown[0].psfs) > 1
        else "",
        "profile": profile,
        "events": "\n".join(events),
        "n_events": str(len(data.events)),
    }
    return template.substitute(
        {name: html.escape(text) for name, text in texts.items()},
        style=style(),
        verdict=verdict(data),
        tiles=_tiles(data, shown),
        legend=_state_legend(data),
        series=_series(data),
        alerts=_alerts(data),
        baselines=baseline_table(data, baseline_spans(data)),
        coefficients=_coefficients(data, shown),
        frames=_frames(data),
        tracking=_tracking(data),
        versions=_versions(data),
        **{f"{name}_figure": svg for name, svg in figures.items()},
    )


def verdict(data: SessionData) -> str:
    """Return the result of the session in a sentence or two, as HTML."""
    show = data.family.metric.show
    raised = [event["alert"] for event in data.events_of("alertRaised")]
    change = data.change[np.isfinite(data.change)]
    level = next((x for x in ("alarm", "warn") for a in raised if a["level"] == x), "")
    if level:
        first = next(alert for alert in raised if alert["level"] == level)
        series = str(first.get("series") or "")
        of_series = f"{series}: " if series else ""
        show = data.family_of(series).metric.show
        text = (
            f"{of_series}The change from the baseline exceeded the {level} limit at "
            f"{clock_text(float(first['time']))}: {alert_size(data, first)}"
        )
        if first["coefficients"]:
            text += f", mostly {' and '.join(map(str, first['coefficients']))}"
        text += "."
        if first.get("cause"):
            text += f" Likely cause: {str(first['cause']).rstrip('.')}."
        if series in ("", data.series[0].name):
            text += _outcome(data, first)
    elif change.size:
        level = "ok"
        text = (
            "The optics stayed within their limits: the largest change from the "
            f"baseline was {show(float(change.max()))}."
        )
        if (count := len(baseline_spans(data))) > 1:
            text += f" It was measured from {count} consecutive baselines."
    else:
        level = "baselining"
        text = "The session ended before a baseline was measured."
        reasons = [span.reason for span in data.spans if span.state == level]
        if reasons and reasons[-1]:
            text += f" ({reasons[-1]})"
    if wrong := data.contradiction:
        text += (
            f" The pixel size is contradicted: {wrong}. Coefficients and distances are "
            "not reliable."
        )
    text += f" {_ENDINGS.get(str(data.about.get('state')), '')}"
    return f"{chip(level, _STATE_WORDS.get(level, level))}{html.escape(text.strip())}"


def _outcome(data: SessionData, alert: Mapping[str, Any]) -> str:
    """Return how the first alert ended: whether the optics recovered."""
    last = baseline_spans(data)[-1]
    change = data.change[last.rows]
    change = change[np.isfinite(change)]
    at_end = data.family.metric.show(float(change[-1])) if change.size else ""
    if last.by_user and last.begin >= float(alert["time"]):
        text = (
            f" A new baseline was set at {clock_text(last.begin)}: whether the optics "
            "had recovered is not known."
        )
        return f"{text} The change from it at the end was {at_end}." if at_end else text
    done = [what for what in ended_by(data, alert) if what.startswith("recovered")]
    text = f" It {done[0].replace('recovered', 'had recovered by')}." if done else ""
    return f"{text} At the end it was {at_end}." if at_end else text


def _watched(data: SessionData) -> str:
    """Return the share of the session that was watched for changes."""
    total = float(data.times[-1] - data.times[0])
    seconds = [data.numbers[name][-1] for name in ("watched_s", "provisional_s")]
    summary = data.about.get("summary") or {}
    if watched := summary.get("watched"):
        # The rows are those of one series.
        total = float(watched["total_s"])
        seconds = [float(watched[name]) for name in ("watched_s", "provisional_s")]
    if total <= 0 or not np.isfinite(seconds).all():
        return "–"
    return f"{min(100.0, 100 * float(sum(seconds)) / total):.0f} %"


def _tiles(data: SessionData, shown: Sequence[Moment]) -> str:
    change = data.change[np.isfinite(data.change)]
    largest = data.family.metric.show(float(change.max())) if change.size else "–"
    worst = [one for moment in shown[1:2] for one in moment.quality.measures]
    tiles = [
        (clock_text(float(data.times[-1])), "session (h:mm:ss)"),
        (largest, "largest change"),
        *(
            (value, f"{quality.name} at the worst, {unit}".rstrip(", "))
            for quality in worst
            for value, unit in (short_value(quality),)
        ),
        (_watched(data), "of the time watched for changes"),
        *_quality_tile(shown),
        (str(len(data.events_of("alertRaised"))), "alerts"),
        (_counted(data, "processed"), "frames processed"),
        (_counted(data, "dropped"), "frames dropped, to stay live"),
    ]
    return "".join(
        f"<div class=tile><b>{html.escape(value)}</b><span>{html.escape(name)}</span>"
        "</div>"
        for value, name in tiles
    )


def _series(data: SessionData) -> str:
    """Return a line for each channel, position and plane, if there are several."""
    if len(data.series) < 2:
        return ""
    rows = []
    for series in data.series:
        show = series.family.metric.show
        known = series.change.size > 0
        rows.append(
            [
                html.escape(series.name or "outside an MDA"),
                _count(series.points),
                chip(series.state),
                html.escape(show(float(series.change.max()))) if known else "–",
                html.escape(show(float(series.change[-1]))) if known else "–",
                str(len(series.alerts)),
            ]
        )
    head = ("series", "points", "at the end", "largest change", "last change", "alerts")
    first = html.escape(data.series[0].name or "frames outside an MDA")
    return (
        "<section><h2>Channels, positions and planes</h2>"
        f"{table(rows, head, numeric=(1, 3, 4, 5))}"
        f"<p class=note>Each has its own baseline. All curves, coefficients and "
        f"PSFs below are those of {first}.</p></section>"
    )


def _quality_tile(shown: Sequence[Moment]) -> list[tuple[str, str]]:
    """Return the quality at the end with its error and grade."""
    if not shown:
        return []
    quality = shown[-1].quality
    name, _, value = quality.text.partition(" ")
    word = "" if quality.grade is None else f" ({quality.grade})"
    return [(value, f"{name} at the end{word}")]


def _state_legend(data: SessionData) -> str:
    seconds: dict[str, float] = {}
    for span in data.spans:
        seconds[span.state] = seconds.get(span.state, 0.0) + span.end - span.begin
    return "".join(
        f'<li><i style="background:{STATES.get(state, "#888")}"></i>'
        f"{html.escape(_STATE_WORDS.get(state, state))} {clock_text(total)}</li>"
        for state, total in seconds.items()
    )


def _alerts(data: SessionData) -> str:
    raised = data.events_of("alertRaised")
    if not raised:
        return "<p class=muted>None.</p>"
    head = ("time", "level", "change", "coefficients", "likely cause", "what to do")
    rows = [_alert_row(data, event["alert"]) for event in raised[:_MAX_ALERTS]]
    more = len(raised) - _MAX_ALERTS
    note = f"<p class=note>{more} more are in events.jsonl.</p>" if more > 0 else ""
    return table(rows, (*head, "then"), numeric=(2,)) + note


def _alert_row(data: SessionData, alert: Mapping[str, Any]) -> list[str]:
    series = str(alert.get("series") or "")
    family = data.family_of(series)
    metric, unit = family.metric, coefficient_unit(family, data.profile.display)
    change, size = float(alert["change"]), html.escape(alert_size(data, alert))
    if metric.display_scale != 1 and alert.get("unit", metric.unit) == metric.unit:
        size += f"<br><span class=muted>{change:.3f} {html.escape(metric.unit)}</span>"
    digits = _digits(data)
    coefficients = ", ".join(
        f"{name} ({_signed(float(moved) * unit.scale, digits)} {unit.name})"
        for name, moved in zip(alert["coefficients"], alert["changes"], strict=True)
    )
    then = ended_by(data, alert)
    return [
        clock_text(float(alert["time"]))
        + (f"<br>{html.escape(series)}" if series else ""),
        chip(str(alert["level"])),
        size,
        html.escape(coefficients),
        html.escape(str(alert.get("cause") or "–")),
        html.escape(str(alert.get("remedy") or "–")),
        "<br>".join(then) or "–",
    ]


def _coefficients(data: SessionData, shown: Sequence[Moment]) -> str:
    if not shown:
        return "<p class=muted>No blur was identified.</p>"
    unit, digits = coefficient_unit(data.family, data.profile.display), _digits(data)
    rows = []
    points = [moment.point for moment in shown]
    for k, name in enumerate(data.family.names[: data.family.charted]):
        values = [
            f"{_signed(point.coefficients[k] * unit.scale, digits)} ± "
            f"{point.sigma[k] * unit.scale:.{digits}f}"
            for point in points
        ]
        moved = points[-1].coefficients[k] - points[0].coefficients[k]
        rows.append([html.escape(name), *values, _signed(moved * unit.scale, digits)])
    head = (html.escape(unit.name), *(point.name for point in points), "end − start")
    notes = "".join(
        f"<p class=note>{html.escape(note)}</p>" for note in data.family.notes
    )
    values_table = table(rows, head, numeric=range(1, len(head)))
    if more := data.family.n_coefficients - len(rows):
        values_table += f"<p class=note>{more} more terms are in drift.csv.</p>"
    return values_table + calibration_note(data, shown) + _verifications(data) + notes


def _verifications(data: SessionData) -> str:
    """Return when and how the coefficients were verified or contradicted, as notes."""
    texts = [
        (
            clock_text(float(event["time_s"])),
            Verification(VerificationState(event["state"]), event["reason"]).text,
        )
        for event in data.events_of("verificationChanged")
    ]
    return "".join(
        f"<p class=note>{html.escape(f'{when} {text}'.strip())}</p>"
        for when, text in texts or [("", NOT_VERIFIED.text)]
    )


def _frames(data: SessionData) -> str:
    summary = data.about.get("summary") or {}
    rows = [
        ("captured", _counted(data, "captured")),
        ("processed", _counted(data, "processed")),
        ("dropped, to stay live", _counted(data, "dropped")),
        *((what, _count(n)) for what, n in _missed(data).named),
    ]
    raw = _counts(data).get("raw_only") or {}
    rows += [(f"passed on raw: {why}", _count(n)) for why, n in sorted(raw.items())]
    if summary:
        rows += [
            ("processed per second", _fixed(summary.get("fps"), 1)),
            ("latency, median", f"{_fixed(summary.get('latency_p50_ms'), 0)} ms"),
            ("latency, 95 %", f"{_fixed(summary.get('latency_p95_ms'), 0)} ms"),
        ]
    for sink in summary.get("sinks") or ():
        counts = [f"{sink['delivered']} delivered"]
        counts += [f"{sink[k]} {k}" for k in ("failed", "dropped") if sink[k]]
        rows.append((f"alarms to {sink['name']}", ", ".join(counts)))
    return _pairs(rows)


def _tracking(data: SessionData) -> str:
    accepted, nis = data.numbers["accepted"], data.numbers["nis"]
    quality, steps = data.numbers["quality"], np.diff(data.times)
    summary = data.about.get("summary") or {}
    rows = [("points in the drift log", _count(len(data.times)))]
    if lost := summary.get("rows_lost"):
        rows.append(("points not written to the disk", _count(lost)))
    if steps.size:
        rows += [
            ("seconds between points, median", _fixed(float(np.median(steps)), 2)),
            ("longest gap", clock_text(float(steps.max()))),
        ]
    if np.isfinite(accepted).any():
        rows.append(("estimates accepted", f"{100 * np.nanmean(accepted):.0f} %"))
    if np.isfinite(nis).any():
        expected = data.family.n_coefficients
        name = f"mean NIS (expected: {expected}; less where frames are averaged)"
        rows.append((name, _fixed(float(np.nanmean(nis)), 1)))
    if np.isfinite(quality).any():
        rows.append(("residual of the fit, median", _fixed(np.nanmedian(quality), 2)))
    psf = summary.get("psf") or {}
    if psf.get("n"):
        rows.append(("PSF SNR against the truth", f"{_fixed(psf.get('mean'), 1)} dB"))
    return _pairs(rows)


def _versions(data: SessionData) -> str:
    model = data.about.get("model")
    model = model if isinstance(model, dict) else {"name": model}
    engine = data.about.get("engine") or {}
    hashes = {"manifest.json": model.get("manifest_sha256")}
    hashes |= model.get("weights_sha256") or {}
    plans = engine.get("plans_sha256") or {}
    rows = [("model", html.escape(str(model.get("name"))))]
    rows += [(file, code(digest)) for file, digest in hashes.items() if digest]
    if executor := engine.get("executor"):
        rows.append(("run by", html.escape(str(executor))))
    rows += [(file, code(digest)) for file, digest in plans.items()]
    versions = data.about.get("versions") or {}
    rows += [(name, html.escape(str(version))) for name, version in versions.items()]
    return table([[html.escape(name), value] for name, value in rows])


def _pairs(rows: Iterable[tuple[str, str]]) -> str:
    return table([[html.escape(n), html.escape(v)] for n, v in rows], numeric=(1,))


def _counts(data: SessionData) -> Mapping[str, Any]:
    """Return the session's own counts; empty where it was cut off."""
    return data.about.get("summary") or data.about.get("counts") or {}


def _counted(data: SessionData, name: str) -> str:
    """Return a count of frames, of the whole session or as in the last row."""
    return _count(_counts(data).get(name, float(data.numbers[name][-1])))


def _missed(data: SessionData) -> Missed:
    """Return the frames that were missed, of the whole session or the last row."""
    if (counts := _counts(data).get("missed")) is not None:
        return Missed(**counts)
    last = (data.numbers[name][-1] for name in MISSED_COLUMNS)
    return Missed(*(int(n) if np.isfinite(n) else 0 for n in last))


def _count(value: float | None) -> str:
    if value is None or not np.isfinite(value):
        return "–"
    return f"{round(value):,}".replace(",", "\u202f")


def _fixed(value: float | None, digits: int) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def _digits(data: SessionData) -> int:
    """Return the decimals that show two digits of a change that alarms."""
    unit = coefficient_unit(data.family, data.profile.display)
    return max(0, unit.decimals(data.profile.drift.alarm) - 1)


def _signed(value: float, digits: int) -> str:
    rounded = round(value, digits)
    return f"{rounded:+.{digits}f}".replace("-", "−") if rounded else "0"
