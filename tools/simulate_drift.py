"""Simulate sessions of drift, and print how the alerts did: the operating table.

python tools/simulate_drift.py [--quick] [--markdown FILE] [--json FILE]
python tools/simulate_drift.py --measure DATA

The real tracker and monitor run on an accelerated clock. Estimates err as the shipped
identification does, measured by --measure on held-out specimens and kept beside the
model: each session draws one specimen and replays its errors in blocks.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from drift_scenarios import SCENARIOS, Scenario, fwhm
from identification_error import Stream, load_streams, measure

from deepblur_live.drift import DriftMonitor, DriftState, Tracker
from deepblur_live.optics import Estimate, ZernikeFamily
from deepblur_live.profile import Drift

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from deepblur_live.drift import TrackState

HOURS = 8.0
ESTIMATE_S = 1.0
SESSIONS, QUICK_SESSIONS, QUICK_HOURS = 50, 10, 3.0
# Errors are replayed in blocks of so many estimates, longer than their memory.
BLOCK = 30
# A specimen that is hardly ever answered has no drift to follow.
LEAST_ANSWERED = 0.3
AVERAGE_S = 5.0


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
    armed_s: float
    inside_68: float
    inside_95: float
    nis: float


class Errors:
    """Endless errors of a stream's still estimates, in blocks of it."""

    def __init__(self, stream: Stream, rng: np.random.Generator) -> None:
        self._still, self._rng = stream.still, rng
        self._left = self._at = 0

    def next(self) -> np.ndarray:
        """Return the next error (P,)."""
        if self._left == 0:
            self._at = int(self._rng.integers(len(self._still)))
            self._left = BLOCK
        self._left -= 1
        self._at = (self._at + 1) % len(self._still)
        return self._still[self._at]


def simulate(scenario: Scenario, stream: Stream, seed: int, hours: float) -> Outcome:
    """Run one session."""
    rng = np.random.default_rng(seed)
    family = ZernikeFamily()
    tracker = Tracker(family, averaging_s=AVERAGE_S)
    monitor = DriftMonitor(family, Drift(), wavelength_nm=540.0)
    course = scenario.begin(rng, hours * 3600)
    errors = Errors(stream, rng)
    mean = stream.still.mean(axis=0)
    even = family.even
    unit = stream.change / np.linalg.norm(stream.change)
    first = armed = change = growth = math.nan
    early = False
    inside, nis = [], []
    for k in range(round(hours * 3600 / ESTIMATE_S)):
        now = k * ESTIMATE_S
        moment = course(now)
        if moment.new_place and scenario.told:
            monitor.specimen_changed("the stage has moved")
        if moment.blind:
            continue
        truth = stream.coefficients + moment.change * unit
        found, variance = truth + errors.next(), stream.stated**2
        answered = rng.random() < stream.answered
        share = moment.change / np.linalg.norm(stream.change)
        for part, amount in (
            (stream.changed, share),
            (stream.bleached, moment.bleached),
            (stream.moved, moment.place),
        ):
            if part is not None:
                found = found + amount * (part.error - mean)
                variance = variance + amount * (part.stated**2 - stream.stated**2)
            elif amount > 0.5:
                answered = False
        if scenario.twins and rng.random() < 0.5:
            found = np.where(even, -found, found)
        covariance = np.diag(np.maximum(variance, 0.0))
        estimate = Estimate(found, covariance, 0.9, trusted=answered)
        track = tracker.update(now, estimate)
        if track is None:
            continue
        if answered:
            inside.append(_scores(track, truth, even))
            nis.append(track.nis)
        alert = monitor.update(track)
        state = monitor.status.state
        if math.isnan(armed) and state is not DriftState.BASELINING:
            armed = now
        if alert is not None:
            early = now < course.onset
            first, change = now - course.onset, moment.change
            growth = fwhm(family, truth) / fwhm(family, stream.coefficients) - 1
            break
    scores = np.array(inside)
    return Outcome(
        f"{stream.specimen} {stream.sigma:g}",
        first,
        early,
        change,
        growth,
        armed,
        float(np.mean(scores < 1)) if inside else math.nan,
        float(np.mean(scores < 1.96)) if inside else math.nan,
        float(np.nanmean(nis)) / family.n_coefficients if inside else math.nan,
    )


def _scores(
    track: TrackState, truth: NDArray[np.float64], even: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return |error| over the band, in the twin of the truth that is nearer."""
    errors = [
        np.abs(track.coefficients - twin)
        for twin in (truth, np.where(even, -truth, truth))
    ]
    nearest = min(errors, key=lambda error: float(np.sum(error**2)))
    scores: NDArray[np.float64] = nearest / np.sqrt(np.diag(track.covariance))
    return scores


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
        o.early or (not scenario.drifts and not math.isnan(o.alert_s)) for o in outcomes
    )
    found = [
        o
        for o in outcomes
        if scenario.drifts and not o.early and not math.isnan(o.alert_s)
    ]

    def quantile(values: list[float], q: float) -> float | None:
        known = [v for v in values if not math.isnan(v)]
        return float(np.quantile(known, q)) if known else None

    def mean(name: str) -> float | None:
        known = [v for o in outcomes if not math.isnan(v := getattr(o, name))]
        return float(np.mean(known)) if known else None

    delays = [o.alert_s for o in found]
    growth = [o.fwhm_growth for o in found]
    return {
        "scenario": scenario.name,
        "sessions": count,
        "false_alarms": false,
        "false_alarm_interval": wilson(false, count),
        "armed": sum(not math.isnan(o.armed_s) for o in outcomes),
        "armed_median_s": quantile([o.armed_s for o in outcomes], 0.5),
        "found": len(found) if scenario.drifts else None,
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

    lines = [
        "| sessions | false alarms (95 %) | armed | found | delay, median / 90 % | "
        "change when found | FWHM growth, median / 90 % | truth in 68 / 95 % bands |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
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
            f"{percent(row['inside_68'])} / {percent(row['inside_95'])} |"
        )
    return "\n".join(lines)


@dataclass(frozen=True)
class _Task:
    scenario: Scenario
    stream: Stream
    seed: int
    hours: float


def _run(task: _Task) -> Outcome:
    return simulate(task.scenario, task.stream, task.seed, task.hours)


def run_all(
    streams: Sequence[Stream],
    scenarios: Sequence[Scenario],
    *,
    sessions: int,
    hours: float,
    jobs: int = 2,
) -> list[dict[str, object]]:
    """Run so many sessions of each scenario; return the table's rows."""
    usable = [
        s for s in streams if s.answered >= LEAST_ANSWERED and len(s.still) > BLOCK // 2
    ]
    if not usable:
        raise ValueError("no measured specimen is answered often enough to simulate")
    tasks = [
        _Task(scenario, usable[k % len(usable)], 1000 * number + k, hours)
        for number, scenario in enumerate(scenarios)
        for k in range(sessions)
    ]
    outcomes: list[Outcome] = []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn) as pool:
        for outcome in pool.map(_run, tasks, chunksize=2):
            outcomes.append(outcome)
            print(f"\r{len(outcomes)} of {len(tasks)} sessions", end="", flush=True)
    print()
    return [
        summary(scenario, outcomes[k * sessions : (k + 1) * sessions])
        for k, scenario in enumerate(scenarios)
    ]


def main() -> None:
    """Measure, or simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", type=Path, metavar="DATA", help="and stop there")
    parser.add_argument("--model", default="zernike7")
    parser.add_argument("--quick", action="store_true", help="in under three minutes")
    parser.add_argument("--only", help="scenarios whose name holds this")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    began = time.monotonic()
    if options.measure is not None:
        path = measure(options.measure, options.model, jobs=options.jobs)
        print(f"{path}, in {(time.monotonic() - began) / 60:.1f} minutes")
        return
    streams = load_streams(options.model)
    scenarios = [s for s in SCENARIOS if (options.only or "") in s.name]
    rows = run_all(
        streams,
        scenarios,
        sessions=QUICK_SESSIONS if options.quick else SESSIONS,
        hours=QUICK_HOURS if options.quick else HOURS,
        jobs=options.jobs,
    )
    text = table(rows)
    print(f"\n{text}\n\nin {(time.monotonic() - began) / 60:.1f} minutes")
    if options.markdown is not None:
        options.markdown.write_text(text + "\n", "utf-8", newline="\n")
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
