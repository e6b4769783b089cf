"""The baselines of a session: a change is measured from one of them, never across."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.drift import CONTRAST_UNIT, clock_text
from deepblur_live.session.report.markup import table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deepblur_live.session.report.read import SessionData

__all__ = [
    "BaselineSpan",
    "alert_size",
    "baseline_spans",
    "baseline_table",
    "ended_by",
    "is_of_another",
]

_MAX_ROWS = 100
# Events with one cause come within this time.
_SAME_S = 1.0
_REASONS = {
    "rebaselined": "set by the user",
    "specimenChanged": "another specimen or place",
    "brightnessChanged": "other illumination",
}


@dataclass(frozen=True)
class BaselineSpan:
    """The time in which changes were measured from one baseline.

    Parameters
    ----------
    begin, end
        Seconds since the session began.
    reason
        Why it was measured; empty for the session's first.
    by_user
        Whether the user started it, which discards the change so far.
    rows
        Rows of the drift log.
    """

    begin: float
    end: float
    reason: str
    by_user: bool
    rows: slice


def baseline_spans(data: SessionData) -> list[BaselineSpan]:
    """Return the baselines in order; the first begins with the session."""
    starts: list[tuple[float, str, bool]] = [(float(data.times[0]), "", False)]
    before = "baselining"
    for event in data.events:
        if is_of_another(data, event):
            continue
        kind, time = str(event.get("event")), float(event["time_s"])
        reason = _REASONS.get(kind, "")
        if kind == "stateChanged":
            state = str(event.get("state"))
            again = state == "baselining" and before not in ("baselining", "")
            before = state
            reason = str(event.get("reason") or "measured again") if again else ""
        elif event.get("reason") and reason:
            reason = str(event["reason"])
        if not reason:
            continue
        if time - starts[-1][0] > _SAME_S or kind == "rebaselined":
            starts.append((time, reason, kind == "rebaselined"))
    ends = [*(time for time, *_ in starts[1:]), float(data.times[-1])]
    edges = np.searchsorted(data.times, [time for time, *_ in starts]).tolist()
    edges = [0, *edges[1:], len(data.times)]
    return [
        BaselineSpan(
            time,
            max(end, time),
            reason,
            by_user,
            slice(edges[k], max(edges[k], edges[k + 1])),
        )
        for k, ((time, reason, by_user), end) in enumerate(
            zip(starts, ends, strict=True)
        )
    ]


def is_of_another(data: SessionData, event: Mapping[str, Any]) -> bool:
    """Return whether an event belongs to another series than the first, shown one."""
    others = [series.name for series in data.series[1:] if series.name]
    if event.get("series") in others:
        return True
    # The state is that of the whole session; its reason begins with a series' name.
    name = str(event.get("reason", "")).partition(": ")[0]
    return event.get("event") == "stateChanged" and name in others


def alert_size(data: SessionData, alert: Mapping[str, Any]) -> str:
    """Return the size of an alert's change in its own unit."""
    change, sigma = float(alert["change"]), float(alert.get("change_sigma") or 0.0)
    if alert.get("unit") == CONTRAST_UNIT:
        return f"{100 * change:.0f} ± {100 * sigma:.0f} % of the contrast of details"
    series = str(alert.get("series") or "")
    return data.family_of(series).metric.show(change, sigma)


def ended_by(data: SessionData, alert: Mapping[str, Any]) -> list[str]:
    """Return how an alert ended: acknowledged, recovered, or by a new baseline.

    Whether an alert that a new baseline ended would have recovered is unknown.
    """
    found = []
    # These events carry the active alert, with the time at which it was raised.
    of_alert = [
        event
        for kind in ("alertAcknowledged", "alertCleared")
        for event in data.events_of(kind)
        if event["alert"]["time"] == alert["time"]
    ]
    for event in sorted(of_alert, key=lambda event: float(event["time_s"])):
        when = float(event["time_s"])
        if event["event"] == "alertAcknowledged":
            found.append(f"acknowledged {clock_text(when)}")
            continue
        resets = [
            float(one["time_s"])
            for one in data.events_of("rebaselined")
            if float(alert["time"]) <= float(one["time_s"]) <= when
        ]
        if resets:
            found.append(f"ended by a new baseline {clock_text(resets[-1])}")
        else:
            found.append(f"recovered {clock_text(when)}")
    return found


def baseline_table(data: SessionData, spans: Sequence[BaselineSpan]) -> str:
    """Return the statistics of each baseline, as HTML."""
    show = data.family.metric.show
    contrast = data.numbers["contrast_change_np"]
    rows = []
    for number, span in enumerate(spans[:_MAX_ROWS], 1):
        change = data.change[span.rows]
        change = change[np.isfinite(change)]
        softer = contrast[span.rows]
        softer = softer[np.isfinite(softer)]
        raised = [
            event
            for event in data.events_of("alertRaised")
            if not is_of_another(data, event)
            and (
                span.begin <= float(event["alert"]["time"]) < span.end
                or (number == len(spans) and float(event["alert"]["time"]) >= span.end)
            )
        ]
        rows.append(
            [
                str(number),
                f"{clock_text(span.begin)} – {clock_text(span.end)}",
                html.escape(span.reason or "the session's first"),
                show(float(change.max())) if change.size else "–",
                show(float(change[-1])) if change.size else "–",
                f"{100 * softer.max():.1f} %" if softer.size else "–",
                f"{100 * softer[-1]:.1f} %" if softer.size else "–",
                str(len(raised)),
            ]
        )
    head = (
        "",
        "time",
        "why",
        "largest change",
        "last",
        "largest change of contrast",
        "last",
        "alerts",
    )
    more = len(spans) - _MAX_ROWS
    note = f"<p class=note>and {more} more.</p>" if more > 0 else ""
    return table(rows, head, numeric=(3, 4, 5, 6, 7)) + note
