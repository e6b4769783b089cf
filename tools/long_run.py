"""Run a session of many hours in minutes; memory must stay flat, the plot quick.

python tools/long_run.py [--hours 24] [--rate 1]

Made-up estimates go through the real session, its log, its history, its charts and its
plot; a table of an hour a line says what that took. Then the report is made.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

# A plot needs no screen.
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np

from deepblur_live.acquisition import Statistics
from deepblur_live.acquisition.listener import ListenerEvents
from deepblur_live.cli.windowed import application
from deepblur_live.drift import Tracker
from deepblur_live.gui.drift_plot import DriftPlot
from deepblur_live.optics import Estimate, ZernikeFamily
from deepblur_live.profile import Profile
from deepblur_live.runtime.frame import Frame, FrameResult, FrameState
from deepblur_live.session import LiveSession
from deepblur_live.session.report import write_report

_SIGMA = 0.004


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--rate", type=float, default=1.0, help="points a second")
    parser.add_argument(
        "--no-memory", action="store_true", help="not traced: three times as fast"
    )
    options = parser.parse_args()
    application()
    profile = Profile(name="a long run")
    family = ZernikeFamily.from_optics(profile.optics)
    listener = SimpleNamespace(events=ListenerEvents(), statistics=Statistics())
    if not options.no_memory:
        tracemalloc.start()
    with TemporaryDirectory() as place:
        session = LiveSession(profile, family, listener, Path(place))
        plot = DriftPlot(session)
        plot.resize(1200, 400)
        plot.show()
        print("| hour | rows | CSV | memory | a point | plot drawn |")
        print("| --- | --- | --- | --- | --- | --- |")
        _feed(session, listener, family, plot, options)
        began = time.perf_counter()
        summary = session.close()
        closed = time.perf_counter() - began
        rows = (session.folder / "drift.csv").read_bytes().count(b"\n") - 1
        print(
            f"\n{rows} rows in the CSV, {summary.rows} written, {summary.rows_lost} "
            f"lost; {len(summary.alerts)} alerts; closed in {closed:.1f} s"
        )
        began = time.perf_counter()
        page = write_report(session.folder)[0]
        size = page.stat().st_size / 1e6
        took = time.perf_counter() - began
        print(f"report: {size:.1f} MB in {took:.1f} s")
        for error in session.background_errors:
            print(f"error: {error}")
        plot.close()


def _feed(
    session: LiveSession,
    listener: SimpleNamespace,
    family: ZernikeFamily,
    plot: DriftPlot,
    options: argparse.Namespace,
) -> None:
    rng = np.random.default_rng(0)
    tracker = Tracker(family)
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8)
    covariance = _SIGMA**2 * np.eye(family.n_coefficients)
    still = rng.normal(0, 0.03, family.n_coefficients)
    count = round(3600 * options.rate)
    for hour in range(1, round(options.hours) + 1):
        began = time.perf_counter()
        for k in range(count):
            now = ((hour - 1) * count + k) / options.rate
            gamma = still + 0.03 * np.sin(now / 20_000)
            estimate = Estimate(
                gamma + rng.normal(0, _SIGMA, gamma.shape), covariance, 1.0
            )
            result = FrameResult(
                Frame(pixels, (hour - 1) * count + k, now, "made up"),
                FrameState.DEBLURRED,
                deblurred=pixels.astype(np.float32),
                estimate=estimate,
                track=tracker.update(now, estimate),
            )
            listener.events.resultReady.emit(result)
            if k % 500 == 0:
                # Faster than any camera: the disk may catch up.
                session.flush(60)
        a_point = (time.perf_counter() - began) / count * 1e3
        began = time.perf_counter()
        plot.show_history(session.history, session.alerts)
        plot.grab()
        drawn = (time.perf_counter() - began) * 1e3
        session.flush(60)
        gc.collect()
        memory = "–"
        if tracemalloc.is_tracing():
            memory = f"{tracemalloc.get_traced_memory()[0] / 1e6:.1f} MB"
        assert session.folder is not None
        size = (session.folder / "drift.csv").stat().st_size / 1e6
        print(
            f"| {hour} | {hour * count} | {size:.1f} MB | {memory} | "
            f"{a_point:.2f} ms | {drawn:.0f} ms |",
            flush=True,
        )


if __name__ == "__main__":
    main()
