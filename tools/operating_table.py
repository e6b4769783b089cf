"""What became of simulated sessions, as the operating table: alerts, delays, bands."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.drift.shape import Shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drift_scenarios import Scenario

__all__ = ["Outcome", "summary", "table", "wilson"]


@dataclass(frozen=True)
class Outcome:
    """What became of one simulated session.

    Parameters
    ----------
    alert_s
        Seconds to the first alert, from the beginning of the change; in a session
        without one, of the session. NaN for none.
    early
        True when there was an alert before the change.
    change
        True change at the first alert, waves rms.
    fwhm_growth
        Of the true PSF at the first alert, relative to the beginning.
    shape
        Of the change, as told five minutes later; empty where nothing was.
    armed_s
        When the charts were armed; NaN for never.
    inside_68, inside_95
        Shares of the coefficients within the track's bands.
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


def summary(scenario: Scenario, outcomes: Sequence[Outcome]) -> dict[str, object]:
    """Return one row of the operating table."""
    count = len(outcomes)
    false = sum(
        o.early or (scenario.shape is None and not math.isnan(o.alert_s))
        for o in outcomes
    )
    found = [
        o
        for o in outcomes
        if scenario.shape is not None and not o.early and not math.isnan(o.alert_s)
    ]

    def quantile(values: list[float], q: float) -> float | None:
        known = [v for v in values if not math.isnan(v)]
        return float(np.quantile(known, q)) if known else None

    def mean(name: str) -> float | None:
        known = [v for o in outcomes if not math.isnan(v := getattr(o, name))]
        return float(np.mean(known)) if known else None

    right = sum(o.shape == scenario.shape for o in found)
    unclear = sum(o.shape in ("", Shape.UNCLEAR) for o in found)
    delays = [o.alert_s for o in found]
    growth = [o.fwhm_growth for o in found]
    return {
        "scenario": scenario.name,
        "sessions": count,
        "false_alarms": false,
        "false_alarm_interval": wilson(false, count),
        "armed": sum(not math.isnan(o.armed_s) for o in outcomes),
        "armed_median_s": quantile([o.armed_s for o in outcomes], 0.5),
        "found": len(found) if scenario.shape is not None else None,
        "shape_right": right,
        "shape_unclear": unclear,
        "shape_wrong": len(found) - right - unclear,
        "delay_median_s": quantile(delays, 0.5),
        "delay_p90_s": quantile(delays, 0.9),
        "change_median_waves": quantile([o.change for o in found], 0.5),
        "fwhm_growth_median": quantile(growth, 0.5),
        "fwhm_growth_p90": quantile(growth, 0.9),
        "inside_68": mean("inside_68"),
        "inside_95": mean("inside_95"),
        "nis": mean("nis"),
        "outcomes": [asdict(o) for o in outcomes],
    }


def table(rows: Sequence[dict[str, object]]) -> str:
    """Return the operating table in Markdown."""

    def percent(value: object) -> str:
        return "–" if value is None else f"{float(value):.0%}"  # type: ignore[arg-type]

    def seconds(value: object) -> str:
        if value is None:
            return "–"
        amount = float(value)  # type: ignore[arg-type]
        return f"{amount:.0f} s" if amount < 300 else f"{amount / 60:.0f} min"

    def shapes(row: dict[str, object]) -> str:
        if row["found"] is None:
            return "–"
        return f"{row['shape_right']} / {row['shape_unclear']} / {row['shape_wrong']}"

    lines = [
        "| sessions | false alarms (95 %) | armed | found | delay, median / 90 % | "
        "change when found | FWHM growth, median / 90 % | "
        "shape told: right / unclear / wrong | truth in 68 / 95 % bands |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        low, high = row["false_alarm_interval"]  # type: ignore[misc]
        found, count = row["found"], int(row["sessions"])  # type: ignore[call-overload]
        change = row["change_median_waves"]
        lines.append(
            f"| {row['scenario']} | {row['false_alarms']} of {count} "
            f"({low:.0%}–{high:.0%}) | {row['armed']} | "
            f"{'–' if found is None else f'{found} of {count}'} | "
            f"{seconds(row['delay_median_s'])} / {seconds(row['delay_p90_s'])} | "
            f"{'–' if change is None else f'{change:.3f} waves'} | "
            f"{percent(row['fwhm_growth_median'])} / "
            f"{percent(row['fwhm_growth_p90'])} | "
            f"{shapes(row)} | "
            f"{percent(row['inside_68'])} / {percent(row['inside_95'])} |"
        )
    return "\n".join(lines)
