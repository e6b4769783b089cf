"""Simulate sessions of drift, and print how the alerts did: the operating table.

python tools/simulate_drift.py [--quick] [--markdown FILE] [--json FILE]
python tools/simulate_drift.py --measure DATA [--validation]

The real tracker and monitor run on an accelerated clock. Estimates err as the shipped
identification does, measured by --measure on held-out specimens and kept beside the
model: each session draws one specimen and replays its errors in blocks.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from drift_scenarios import SCENARIOS, Scenario, fwhm
from error_streams import (
    StaleMeasurementError,
    Stream,
    keep_streams,
    load_streams,
    understated,
)
from identification_error import MEASURED, measure
from operating_table import Outcome, summary, table
from training_data import told_in_one_line

from deepblur_live.drift import Brightness, DriftMonitor, DriftState, Tracker
from deepblur_live.optics import Estimate, ZernikeFamily, reach
from deepblur_live.profile import Drift
from deepblur_live.runtime.pack import find_packs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from deepblur_live.drift import TrackState

HOURS = 8.0
ESTIMATE_S = 1.0
SESSIONS, QUICK_SESSIONS, QUICK_HOURS = 50, 8, 3.0
# Errors are replayed in blocks of so many estimates, longer than their memory.
BLOCK = 30
# A specimen that is hardly ever answered has no drift to follow.
LEAST_ANSWERED = 0.3
AVERAGE_S = 5.0
# So long after an alert its shape is asked for again, as the window does.
ASSESS_S = 300.0


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
    brightness = Brightness()
    course = scenario.begin(rng, hours * 3600)
    errors = Errors(stream, rng)
    mean = stream.still.mean(axis=0)
    even = family.even
    unit = stream.change / np.linalg.norm(stream.change)
    first = armed = change = growth = math.nan
    early, ends = False, math.inf
    inside, nis = [], []
    for k in range(round(hours * 3600 / ESTIMATE_S)):
        now = k * ESTIMATE_S
        if now >= ends:
            break
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
        baselined = monitor.status.baseline is not None
        if dimmer := brightness.notice(now, moment.light, baselined):
            monitor.frames_changed(dimmer)
        monitor.light_changed(brightness.change)
        alert = monitor.update(track)
        state = monitor.status.state
        if math.isnan(armed) and state is not DriftState.BASELINING:
            armed = now
        if alert is not None and math.isnan(first):
            early = now < course.onset
            first, change = now - course.onset, moment.change
            growth = fwhm(family, truth) / fwhm(family, stream.coefficients) - 1
            ends = now + ASSESS_S
    told = monitor.assess()
    scores = np.array(inside)
    return Outcome(
        f"{stream.specimen} {stream.sigma:g}",
        first,
        early,
        change,
        growth,
        "" if told is None else told.shape,
        armed,
        float(np.mean(scores < 1)) if inside else math.nan,
        float(np.mean(scores < reach(0.95))) if inside else math.nan,
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
    # Matrices of 7 × 7: threads of the linear algebra only wait for one another.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
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


def _measure(options: argparse.Namespace) -> None:
    """Measure; say how honest the stated errors are, and keep those of the test."""
    split = "validation" if options.validation else "test"
    streams = measure(options.measure, options.model, split, jobs=options.jobs)
    answered = [stream for stream in streams if stream.answered >= LEAST_ANSWERED]
    for share, factor in understated(answered).items():
        print(f"{factor:.2f} of what is stated hold {share:.0%} of the errors")
    if not options.validation:
        print(keep_streams(options.model, MEASURED, streams))


@told_in_one_line()
def main() -> None:
    """Measure, or simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", type=Path, metavar="DATA", help="and stop there")
    parser.add_argument(
        "--validation",
        action="store_true",
        help="with --measure: on other pictures, for what is chosen; keeps nothing",
    )
    parser.add_argument("--model", default="zernike7")
    parser.add_argument("--quick", action="store_true", help="in under three minutes")
    parser.add_argument("--only", help="scenarios whose name holds this")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    known = find_packs()
    # What keeps nothing may be of any folder.
    elsewhere = options.validation and Path(options.model).is_dir()
    if options.model not in known and not elsewhere:
        parser.error(f"--model {options.model}: not there; models: {', '.join(known)}")
    scenarios = [s for s in SCENARIOS if (options.only or "") in s.name]
    if not scenarios:
        names = "; ".join(s.name for s in SCENARIOS)
        parser.error(f"--only {options.only}: in no scenario's name: {names}")
    began = time.monotonic()
    if options.measure is not None:
        _measure(options)
        print(f"in {(time.monotonic() - began) / 60:.1f} minutes")
        return
    try:
        streams = load_streams(options.model, MEASURED)
    except (OSError, StaleMeasurementError) as error:
        parser.exit(2, f"{error}\n")
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
