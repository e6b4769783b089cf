"""Outcomes of simulated sessions → the operating table: alerts, delays, bands."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from evaluation.table import markdown

from deepblur_live.blur import ChangeShape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from simulation.scenarios import Scenario

__all__ = ["Outcome", "summary", "table", "wilson"]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one simulated session.

    Parameters
    ----------
    alert_s
        Seconds from the beginning of the change (in a session without one, of the
        session) to the first alert; NaN for none.
    early
        Whether there was an alert before the change.
    change
        True change at the first alert, waves rms.
    fwhm_growth
        Growth of the true PSF until the first alert, relative to the beginning.
    shape
        Of the change, as reported five minutes after the alert; empty without one.
    armed_s
        When the charts were armed; NaN for never.
    inside_68, inside_95
        Shares of the true coefficients within the track's bands.
    nis
        Mean normalised innovation squared over its expectation.
    """

    specimen: str
    alert_s: float
    early: bool
    change: float
    fwhm_growth: float
    shape: str
    armed_s: float
    inside_68: float
    inside_95: float
    nis: float


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share (Wilson 1927)."""
    z = 1.96
    centre = (hits + z * z / 2) / (count + z * z)
    half = z / (count + z * z) * math.sqrt(hits * (count - hits) / count + z * z / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def _known(values: Iterable[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def _quantile(values: Iterable[float], q: float) -> float | None:
    known = _known(values)
    return float(np.quantile(known, q)) if known else None


def _mean(values: Iterable[float]) -> float | None:
    known = _known(values)
    return float(np.mean(known)) if known else None


def summary(scenario: Scenario, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return one row of the operating table."""
    count, changes = len(outcomes), scenario.shape is not None
    alerted = [o for o in outcomes if not math.isnan(o.alert_s)]
    found = [o for o in alerted if changes and not o.early]
    false = sum(o.early for o in outcomes) if changes else len(alerted)
    right = sum(o.shape == scenario.shape for o in found)
    unclear = sum(o.shape in ("", ChangeShape.UNCLEAR) for o in found)
    return {
        "scenario": scenario.name,
        "sessions": count,
        "false_alarms": false,
        "false_alarm_interval": wilson(false, count),
        "armed": len(_known(o.armed_s for o in outcomes)),
        "armed_median_s": _quantile((o.armed_s for o in outcomes), 0.5),
        "found": len(found) if changes else None,
        "shape_right": right,
        "shape_unclear": unclear,
        "shape_wrong": len(found) - right - unclear,
        "delay_median_s": _quantile((o.alert_s for o in found), 0.5),
        "delay_p90_s": _quantile((o.alert_s for o in found), 0.9),
        "change_median_waves": _quantile((o.change for o in found), 0.5),
        "fwhm_growth_median": _quantile((o.fwhm_growth for o in found), 0.5),
        "fwhm_growth_p90": _quantile((o.fwhm_growth for o in found), 0.9),
        "inside_68": _mean(o.inside_68 for o in outcomes),
        "inside_95": _mean(o.inside_95 for o in outcomes),
        "nis": _mean(o.nis for o in outcomes),
        "outcomes": [asdict(o) for o in outcomes],
    }


_HEAD = (
    "sessions",
    "false alarms (95 %)",
    "armed",
    "found",
    "delay, median / 90 %",
    "change when found",
    "FWHM growth, median / 90 %",
    "shape reported: right / unclear / wrong",
    "truth in 68 / 95 % bands",
)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the operating table in Markdown."""
    return markdown(_HEAD, [_cells(row) for row in rows])


def _cells(row: dict[str, Any]) -> list[str]:
    found, count, change = row["found"], row["sessions"], row["change_median_waves"]
    shapes = f"{row['shape_right']} / {row['shape_unclear']} / {row['shape_wrong']}"
    low, high = row["false_alarm_interval"]
    return [
        row["scenario"],
        f"{row['false_alarms']} of {count} ({low:.0%}–{high:.0%})",
        str(row["armed"]),
        "–" if found is None else f"{found} of {count}",
        f"{_seconds(row['delay_median_s'])} / {_seconds(row['delay_p90_s'])}",
        "–" if change is None else f"{change:.3f} waves",
        f"{_percent(row['fwhm_growth_median'])} / {_percent(row['fwhm_growth_p90'])}",
        "–" if found is None else shapes,
        f"{_percent(row['inside_68'])} / {_percent(row['inside_95'])}",
    ]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f} s" if value < 300 else f"{value / 60:.0f} min"
