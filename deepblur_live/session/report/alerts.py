"""The report's alerts: what changed, why perhaps, what to do, what became of it."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from deepblur_live.drift import clock_text
from deepblur_live.session.palette import STATES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deepblur_live.session.report.read import SessionData

__all__ = ["alerts_table"]

_MOST = 200


def alerts_table(data: SessionData) -> str:
    """Return a table of the alerts, or a sentence where there are none."""
    raised = data.told("alertRaised")
    if not raised:
        return "<p class=muted>None.</p>"
    rows = "".join(_row(data, event) for event in raised[:_MOST])
    more = len(raised) - _MOST
    note = f"<p class=note>{more} more are in events.jsonl.</p>" if more > 0 else ""
    return (
        "<div class=scroll><table><tr><th>time</th><th>level</th>"
        "<th class=n>change</th><th>modes</th><th>likely cause</th>"
        f"<th>what to do</th><th>then</th></tr>{rows}</table></div>{note}"
    )


def _row(data: SessionData, event: Mapping[str, Any]) -> str:
    alert = event["alert"]
    wavelength = data.profile.optics.wavelength_nm
    change = float(alert["change_waves"])
    sigma = float(alert["uncertainty"] or 0.0)
    modes = ", ".join(
        f"{html.escape(str(mode))} ({moved * wavelength:+.0f} nm)".replace("-", "−")
        for mode, moved in zip(alert["modes"], alert["mode_changes"], strict=True)
    )
    level = str(alert["level"])
    cells = [
        f"<td class=nowrap>{clock_text(float(alert['time']))}</td>",
        f'<td><span class=chip style="background:{STATES.get(level, "#888")}">'
        f"{level.upper()}</span></td>",
        f"<td class=n>{change * wavelength:.0f} ± {sigma * wavelength:.0f} nm<br>"
        f"<span class=muted>{change:.3f} waves</span></td>",
        f"<td>{modes}</td>",
        f"<td>{html.escape(str(alert.get('cause') or '–'))}</td>",
        f"<td>{html.escape(str(alert.get('remedy') or '–'))}</td>",
        f"<td class=nowrap>{_then(data, alert)}</td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _then(data: SessionData, alert: Mapping[str, Any]) -> str:
    words = {"alertAcknowledged": "acknowledged", "alertCleared": "cleared"}
    # These name the alert that stood, by its own time.
    told = [
        f"{words[event['event']]} {clock_text(float(event['time_s']))}"
        for event in data.told(*words)
        if event["alert"]["time"] == alert["time"]
    ]
    return "<br>".join(told) or "–"
