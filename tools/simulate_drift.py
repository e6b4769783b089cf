"""Simulate sessions of drift, and print how the alerts did: the operating table.

python tools/simulate_drift.py [--quick] [--write] [--json FILE]
python tools/simulate_drift.py --measure DATA

The real tracker and monitor run on an accelerated clock. Estimates err as the shipped
identification does: ``--measure`` measures that on held-out specimens and stores it
next to the model; each session draws one specimen and replays its errors in blocks.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from evaluation.parallel import parallel
from evaluation.publish import into_page, missing_marks
from simulation.error_streams import (
    AVERAGE_S,
    ESTIMATE_S,
    LEAST_ANSWERED,
    StaleMeasurementError,
    Stream,
    keep_streams,
    load_streams,
    measure,
)
from simulation.operating_table import Outcome, summary, table
from simulation.scenarios import SCENARIOS, Scenario, fwhm
from training.pictures import one_line_errors

from deepblur_live.blur import (
    ErrorModel,
    Estimate,
    ResolvedBy,
    family_from_profile,
    nearest,
    orbit,
)
from deepblur_live.drift import Brightness, DriftMonitor, DriftState, Tracker
from deepblur_live.profile import Profile
from deepblur_live.runtime.pack import find_packs, load_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

HOURS = 8.0
SESSIONS, QUICK_SESSIONS, QUICK_HOURS = 50, 8, 3.0
# Estimates per block of replayed errors, longer than their correlation.
BLOCK = 30
# So long after an alert the shape of the change is assessed again, as in the window.
ASSESS_S = 300.0
PROFILE = Profile()
PAGE = Path("docs/operating-characteristics.md")


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
        error: np.ndarray = self._still[self._at]
        return error


@dataclass(frozen=True)
class Session:
    """One session to simulate; its scenario goes to a worker process by its name."""

    scenario: str
    stream: Stream
    errors: ErrorModel
    seed: int
    hours: float


def simulate(session: Session) -> Outcome:
    """Run one session."""
    scenario = next(s for s in SCENARIOS if s.name == session.scenario)
    stream = session.stream
    rng = np.random.default_rng(session.seed)
    family = family_from_profile(PROFILE)
    tracker = Tracker(family, session.errors, averaging_s=AVERAGE_S)
    monitor = DriftMonitor(family, PROFILE.drift, session.errors)
    brightness = Brightness()
    trajectory = scenario.begin(rng, session.hours * 3600)
    errors = Errors(stream, rng)
    equivalents = orbit(family, ResolvedBy.NEVER)
    mean = stream.still.mean(axis=0)
    unit = stream.change / np.linalg.norm(stream.change)
    first = armed = change = growth = math.nan
    early, ends = False, math.inf
    scores, nis = [], []
    for k in range(round(session.hours * 3600 / ESTIMATE_S)):
        now = k * ESTIMATE_S
        if now >= ends:
            break
        moment = trajectory(now)
        if moment.new_place and scenario.reported:
            monitor.specimen_changed("the stage has moved")
        if moment.blind:
            continue
        truth = stream.coefficients + moment.change * unit
        found, variance = truth + errors.next(), stream.stated**2
        trusted = bool(rng.random() < stream.answered)
        for part, amount in (
            (stream.changed, moment.change / np.linalg.norm(stream.change)),
            (stream.bleached, moment.bleached),
            (stream.moved, moment.place),
        ):
            if part is not None:
                found = found + amount * (part.error - mean)
                variance = variance + amount * (part.stated**2 - stream.stated**2)
            elif amount > 0.5:
                trusted = False
        if scenario.random_signs and rng.random() < 0.5:
            found = equivalents[-1].apply(found)
        covariance = np.diag(np.maximum(variance, 0.0))
        track = tracker.update(now, Estimate(found, covariance, 0.9, trusted=trusted))
        if track is None:
            continue
        if trusted:
            error = track.coefficients - nearest(truth, track.coefficients, equivalents)
            scores.append(np.abs(error) / np.sqrt(np.diag(track.covariance)))
            nis.append(track.nis)
        baselined = monitor.status.baseline is not None
        if dimmer := brightness.notice(now, moment.light, baselined):
            monitor.frames_changed(dimmer)
        monitor.light_changed(brightness.change)
        alert = monitor.update(track)
        if math.isnan(armed) and monitor.status.state is not DriftState.BASELINING:
            armed = now
        if alert is not None and math.isnan(first):
            early = now < trajectory.onset
            first, change = now - trajectory.onset, moment.change
            growth = fwhm(truth) / fwhm(stream.coefficients) - 1
            ends = now + ASSESS_S
    assessed = monitor.assess()
    # One standard deviation is the band of 68 %.
    limits = (1.0, session.errors.coverage_factor(0.95))
    inside = [math.nan, math.nan]
    if scores:
        inside = [float((np.array(scores) < limit).mean()) for limit in limits]
    return Outcome(
        f"{stream.specimen} {stream.sigma:g}",
        first,
        early,
        change,
        growth,
        "" if assessed is None else assessed.shape,
        armed,
        inside[0],
        inside[1],
        float(np.nanmean(nis)) / family.n_coefficients if nis else math.nan,
    )


def run_all(
    streams: Sequence[Stream],
    errors: ErrorModel,
    scenarios: Sequence[Scenario],
    *,
    sessions: int,
    hours: float,
    jobs: int = 2,
) -> list[dict[str, Any]]:
    """Run sessions of each scenario; return the table's rows."""
    usable = [
        s for s in streams if s.answered >= LEAST_ANSWERED and len(s.still) > BLOCK // 2
    ]
    if not usable:
        raise ValueError("no measured specimen is identified often enough to simulate")
    tasks = [
        Session(
            scenario.name, usable[k % len(usable)], errors, 1000 * number + k, hours
        )
        for number, scenario in enumerate(scenarios)
        for k in range(sessions)
    ]
    # For matrices of 7 × 7, threads of the linear algebra only wait for one another.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    outcomes = list(parallel(simulate, tasks, jobs, "sessions", chunk=2))
    return [
        summary(scenario, outcomes[k * sessions : (k + 1) * sessions])
        for k, scenario in enumerate(scenarios)
    ]


def options() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", type=Path, metavar="DATA", help="and stop there")
    parser.add_argument("--model", default="zernike7")
    parser.add_argument("--quick", action="store_true", help="in under three minutes")
    parser.add_argument("--only", help="scenarios whose name contains this")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--write", action="store_true", help=f"publish in {PAGE}")
    chosen = parser.parse_args()
    if chosen.model not in (known := find_packs()):
        parser.error(f"--model {chosen.model}: not there; models: {', '.join(known)}")
    chosen.scenarios = [s for s in SCENARIOS if (chosen.only or "") in s.name]
    if not chosen.scenarios:
        names = "; ".join(s.name for s in SCENARIOS)
        parser.error(f"--only {chosen.only}: in no scenario's name: {names}")
    if chosen.write and (chosen.quick or chosen.only):
        parser.error("--write publishes the whole table: leave --quick and --only out")
    if chosen.write and (error := missing_marks(PAGE, ["operating"])):
        parser.error(error)
    return chosen


@one_line_errors(OSError, StaleMeasurementError)
def main() -> None:
    """Measure, or simulate and print."""
    asked = options()
    began = time.monotonic()
    if asked.measure is not None:
        streams = measure(asked.measure, asked.model, jobs=asked.jobs)
        print(keep_streams(asked.model, streams))
        return
    rows = run_all(
        load_streams(asked.model),
        load_manifest(asked.model)[1].error_model,
        asked.scenarios,
        sessions=QUICK_SESSIONS if asked.quick else SESSIONS,
        hours=QUICK_HOURS if asked.quick else HOURS,
        jobs=asked.jobs,
    )
    text = table(rows)
    print(f"\n{text}\n\nin {(time.monotonic() - began) / 60:.1f} minutes")
    if asked.json is not None:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    if asked.write:
        into_page(PAGE, {"operating": text})


if __name__ == "__main__":
    main()
