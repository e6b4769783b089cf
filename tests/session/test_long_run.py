"""Eight hours, a point in four seconds: flat memory, a whole log, nothing forgotten."""

from __future__ import annotations

import csv
import gc
import tracemalloc

import numpy as np
import pytest

from deepblur_live.profile import Drift, Profile
from deepblur_live.session import LiveSession
from deepblur_live.session.report.read import read_session

pytestmark = pytest.mark.usefixtures("quick_monitor")

POINTS, EVERY_S = 2 * 3600, 4.0
PROFILE = Profile(drift=Drift(baseline_points=20))


@pytest.mark.slow
def test_eight_hours(family, listener, results, clock, now, tmp_path, start):
    session = LiveSession(PROFILE, family, listener, tmp_path, clock=clock, now=now)
    session.events.statusChanged.connect(lambda status: session.history)
    results.shape = (8, 8)
    bump = np.eye(8)[3] * 0.1
    before = 0
    for k in range(POINTS):
        if k == POINTS * 7 // 8:
            # What a full history holds is there; from here on nothing may grow.
            gc.collect()
            tracemalloc.start()
        if k == POINTS * 7 // 8 + 100:
            before, _ = tracemalloc.get_traced_memory()
        clock.now += EVERY_S
        # A drift that comes and goes, an alert each time; and one lone excursion.
        change = bump * (k // 150 % 2) if k != 3_111 else 5 * bump
        listener.emit(results(start + change))
        if k % 100 == 0:
            assert session.flush()
    assert session.flush()
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    # A hundred bytes a point would be 80 kB.
    assert grown < 40_000
    history = session.history
    assert len(history.times) <= 5000
    assert history.high[:, 3].max() == pytest.approx(start[3] + 0.5)
    # The excursion raises one, too.
    assert len(session.alerts) == 25
    summary = session.close()
    assert (summary.rows, summary.rows_lost) == (POINTS, 0)
    with (session.folder / "drift.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert len(rows) == POINTS + 1
    assert {len(row) for row in rows} == {len(rows[0])}
    assert [row[1] for row in rows[1:]] == [str(k) for k in range(POINTS)]
    assert len(read_session(session.folder).events_of("alertRaised")) == 25
    assert list(session.background_errors) == []
