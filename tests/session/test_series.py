"""Channels, positions and planes of an MDA: charts, history and alerts of their own."""

from __future__ import annotations

import csv
import json
import queue

import numpy as np
import pytest
from pymmcore_plus import CMMCorePlus
from useq import MDASequence

from deepblur_live.acquisition.core_signals import let_core_exit
from deepblur_live.blur import Estimate
from deepblur_live.drift import DriftState, TrackState
from deepblur_live.profile import check_profile
from deepblur_live.runtime.frame import FrameResult, FrameState, SynchronousPipeline
from deepblur_live.runtime.series_key import SeriesKey, series_key
from deepblur_live.session import LiveSession, connection, core_changes
from deepblur_live.session.record import SessionRecord
from deepblur_live.session.report.page import _series, verdict
from deepblur_live.session.report.read import read_session
from deepblur_live.session.series_watch import SeriesWatches

COMA = np.eye(8)[3]
PROFILE = check_profile(
    {
        "channels": {"DAPI": {"emission_nm": 460.0}, "FITC": {"emission_nm": 520.0}},
        "drift": {"baseline_points": 5},
    },
    "test",
)
GFP0 = {"channel": "GFP", "position": "dish A", "index": {"c": 0, "p": 0}}
GFP1 = {"channel": "GFP", "index": {"c": 0, "p": 1}}
DAPI0 = {"channel": "DAPI", "position": "dish A", "index": {"c": 1, "p": 0}}


@pytest.fixture
def no_pictures(monkeypatch):
    """Draw none at the end of a session, which takes seconds."""
    monkeypatch.setattr(SessionRecord, "_pictures", lambda *_: iter(()))


@pytest.fixture
def session(family, listener, clock, now, quick_monitor):
    with LiveSession(PROFILE, family, listener, clock=clock, now=now) as made:
        yield made


@pytest.fixture
def kept(family, listener, now, tmp_path, quick_monitor, no_pictures):
    """The same with a folder."""
    with LiveSession(PROFILE, family, listener, tmp_path, now=now) as made:
        yield made


def rows_of(session):
    assert session.flush()
    with (session.folder / "drift.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def events_of(session, kind):
    assert session.flush()
    lines = (session.folder / "events.jsonl").read_text("utf-8").splitlines()
    return [e for e in map(json.loads, lines) if e["event"] == kind]


def test_series_are_watched_one_by_one(session, listener, results, start):
    """Blurs that differ between series are no change of the optics."""
    raised = []
    session.events.alertRaised.connect(raised.append)
    for _ in range(8):
        listener.emit(results(start, **GFP0))
        listener.emit(results(start + 0.2 * COMA, **GFP1))
        listener.emit(results(start - 0.2 * COMA, **DAPI0))
    assert session.status.state is DriftState.OK
    assert raised == []
    assert [key.text for key in session.series] == [
        "GFP, dish A",
        "GFP, position 1",
        "DAPI, dish A",
    ]
    for key, sign in zip(session.series, (0, 1, -1), strict=True):
        shown = session.series_history(key)
        expected = np.tile(start + 0.2 * sign * COMA, (8, 1))
        np.testing.assert_allclose(shown.points.coefficients, expected)
    # The newest frame's.
    assert session.series_history().key.channel == "DAPI"
    assert session.series_history(SeriesKey("none")).key.channel == "DAPI"


def test_an_alert_names_its_series(session, listener, results, start):
    raised, cleared = [], []
    session.events.alertRaised.connect(raised.append)
    session.events.alertCleared.connect(lambda: cleared.append(True))
    for k in range(20):
        listener.emit(results(start, **GFP0))
        listener.emit(results(start + (0.1 if k > 9 else 0.0) * COMA, **GFP1))
    (alert,) = raised
    assert alert.series == "GFP, position 1"
    assert alert.text.startswith("GFP, position 1: ALARM")
    # The other is well; what the session shows is the worst.
    assert session.status.state is DriftState.ALARM
    assert session.status.reason == "GFP, position 1"
    one, other = (session.series_history(key) for key in session.series)
    assert (one.alerts, other.alerts) == ((), (alert,))
    session.acknowledge()
    assert session.status.acknowledged
    for _ in range(3):
        listener.emit(results(start, **GFP1))
    assert cleared == [True]
    assert session.status.state is DriftState.OK


def test_the_log_tells_series_apart(kept, listener, results, start):
    for _ in range(6):
        listener.emit(results(start, **GFP0))
        listener.emit(results(start, **DAPI0, z=1))
        index = {"c": 0, "p": 1, "g": 2, "z": 4}
        listener.emit(results(start, **(GFP1 | {"index": index})))
    rows = rows_of(kept)
    places = [(row["channel"], row["position"], row["z"]) for row in rows[:3]]
    assert places == [
        ("GFP", "dish A", ""),
        ("DAPI", "dish A", ""),
        ("GFP", "1, tile 2", "4"),
    ]
    # Each at its own wavelength.
    cutoffs = [kept.series_history(key).family.cutoff for key in kept.series]
    np.testing.assert_allclose(np.divide(cutoffs, cutoffs[0]), [1, 540 / 460, 1])
    set_of = [event["series"] for event in events_of(kept, "baselineSet")]
    assert set_of == ["GFP, dish A", "DAPI, dish A", "GFP, position 1, tile 2, plane 4"]


def test_the_report_has_a_line_for_each_series(kept, listener, results, start):
    """Its curves are those of the series that has changed."""
    for k in range(20):
        listener.emit(results(start, **GFP0))
        moved = start + (0.1 if k > 9 else 0.0) * COMA
        listener.emit(results(moved, **DAPI0))
    kept.close()
    data = read_session(kept.folder)
    assert [series.name for series in data.series] == ["DAPI, dish A", "GFP, dish A"]
    assert data.profile.optics.wavelength_nm == 460
    assert len(data.times) == 20
    assert len(data.baselines) == 1
    lines = _series(data).split("<tr>")[2:]
    # 0.08 is what the alert of these tests says, 0.1 what has changed.
    assert "DAPI, dish A" in lines[0]
    assert ">46 nm<" in lines[0]
    assert "ALARM" in lines[0]
    assert "GFP, dish A" in lines[1]
    assert ">0 nm<" in lines[1]
    assert "OK" in lines[1]
    assert "DAPI, dish A: The change from the baseline exceeded" in verdict(data)


def test_the_summary_has_a_line_for_each_series(session, listener, results, start):
    for _ in range(6):
        listener.emit(results(start, **GFP0))
        listener.emit(results(start, **GFP1))
    lines = session.close().text().splitlines()
    series = [line for line in lines if line.startswith("Series")]
    assert series == [
        "Series   GFP, dish A: ok, 6 estimates",
        "Series   GFP, position 1: ok, 6 estimates",
    ]


def test_a_preview_before_the_mda_does_not_count(session, listener, results, start):
    listener.emit(results(start))
    for _ in range(6):
        listener.emit(results(start, **GFP0))
    assert session.status.state is DriftState.OK


def test_a_new_series_is_snoozed_too(session, listener, results, start):
    listener.emit(results(start, **GFP0))
    session.snooze(600)
    listener.emit(results(start, **GFP1))
    assert session.monitor.status.snoozed_until == 600


def test_frames_over_time_alone_are_one_series_without_a_name(
    session, listener, results, start
):
    monitor = session.monitor
    for t in range(6):
        listener.emit(results(start, index={"t": t}))
    assert session.monitor is monitor
    assert session.series == (SeriesKey(),)
    assert "Series" not in session.close().text()


def test_the_number_of_series_is_bounded():
    class Watch:
        def __init__(self, key):
            self.key = key

    watches = SeriesWatches(Watch, lambda channel: True, most=3)
    first = watches.newest
    keys = [SeriesKey(position=k) for k in range(4)]
    assert watches.of(keys[0]) is first
    for key in (*keys[:3], keys[0], keys[3]):
        watches.of(key)
    assert [watch.key for watch in watches.all] == [keys[0], keys[2], keys[3]]
    assert watches.find(keys[1]) is watches.newest


class BySeries(SynchronousPipeline):
    """Another blur for each series, known well."""

    def process(self, frame):
        key = series_key(frame.metadata)
        gamma = 0.05 * (1 + (key.channel == "FITC")) * COMA + 0.1 * key.position
        covariance = 1e-6 * np.eye(8)
        return FrameResult(
            frame.info,
            FrameState.DEBLURRED,
            raw=frame.pixels,
            deblurred=frame.pixels.astype(np.float32),
            estimate=Estimate(gamma, covariance, 1.0),
            track=TrackState(frame.time, gamma, covariance, 7.0, True),
        )


def test_an_mda_of_two_channels_and_two_positions(monkeypatch, tmp_path, no_pictures):
    """Stage and filter that the MDA moves itself are no change of the specimen."""
    monkeypatch.setenv("PYMM_SIGNALS_BACKEND", "psygnal")
    monkeypatch.setattr(connection, "pipeline_factory", lambda profile: BySeries)
    core = CMMCorePlus()
    let_core_exit(core)
    core.loadSystemConfiguration()
    core.setExposure(1)
    now = [0.0]
    monkeypatch.setattr(core_changes, "monotonic", lambda: now[0])
    sequence = MDASequence(
        axis_order="tpc",
        time_plan={"interval": 0, "loops": 3},
        stage_positions=[{"x": 0, "y": 0, "name": "dish A"}, {"x": 900, "y": 500}],
        channels=["DAPI", "FITC"],
    )
    with LiveSession.from_profile(
        PROFILE, core, tmp_path, every_frame=True, in_process=True
    ) as session:
        core.mda.run(sequence)
        assert session.listener.drain(30)
        assert [key.text for key in session.series] == [
            "DAPI, dish A",
            "FITC, dish A",
            "DAPI, position 1",
            "FITC, position 1",
        ]
        for key in session.series:
            points = session.series_history(key).points.coefficients
            assert len(points) == 3
            assert np.ptp(points, axis=0).max() == 0
        assert events_of(session, "specimenChanged") == []
        # Between MDAs a move of the stage is one, for all of them.
        reported = queue.Queue()
        core.events.XYStagePositionChanged.connect(lambda *at: reported.put(at))

        def move_to(x):
            core.setXYPosition(x, 0)
            while abs(reported.get(timeout=10)[1] - x) > 1:
                pass

        # The core may report the MDA's own last moves after its end.
        move_to(-300)
        now[0] += 10
        move_to(-700)
        core.mda.run(sequence)
        assert session.listener.drain(30)
        changed = [event["series"] for event in events_of(session, "specimenChanged")]
        assert sorted(changed) == sorted(key.text for key in session.series)
    assert session.listener.background_errors == []
    assert not session.background_errors
