"""A session behind a listener: what it follows, keeps, reports, and survives."""

from __future__ import annotations

import csv
import errno
import json
import logging
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from deepblur_live.acquisition.worker import WorkerState
from deepblur_live.blur import ResolvedBy, orbit
from deepblur_live.drift import DriftState
from deepblur_live.profile import Alerts, Drift, Profile, check_profile
from deepblur_live.session import LiveSession
from deepblur_live.session.sinks import AlertSink

pytestmark = pytest.mark.usefixtures("quick_monitor")

PROFILE = Profile(drift=Drift(baseline_points=5))
COMA = np.eye(8)[3]


@pytest.fixture
def make(family, listener, clock, now):
    made = []

    def build(folder=None, **options) -> LiveSession:
        session = LiveSession(
            PROFILE, family, listener, folder, clock=clock, now=now, **options
        )
        made.append(session)
        return session

    yield build
    for session in made:
        session.close()


@pytest.fixture
def session(make) -> LiveSession:
    return make()


class FullDisk:
    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self):
        pass


def rows_of(session: LiveSession):
    assert session.flush()
    with (session.folder / "drift.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def feed(listener, results, coefficients, n, **options):
    for _ in range(n):
        listener.emit(results(coefficients, **options))


def test_follows_from_baseline_to_alarm_and_back(session, listener, results, start):
    raised, cleared, states = [], [], []
    session.events.alertRaised.connect(raised.append)
    session.events.alertCleared.connect(lambda: cleared.append(results.number))
    session.events.statusChanged.connect(lambda status: states.append(status.state))

    feed(listener, results, start, 4)
    assert session.status.state is DriftState.BASELINING
    assert session.status.n_baseline == 4
    feed(listener, results, start, 10)
    feed(listener, results, start + 0.05 * COMA, 20)
    assert session.status.state is DriftState.WARN
    feed(listener, results, start + 0.10 * COMA, 20)
    session.acknowledge()
    assert session.status.acknowledged
    assert cleared == []
    feed(listener, results, start, 60)

    assert [alert.level for alert in raised] == [DriftState.WARN, DriftState.ALARM]
    assert session.alerts == tuple(raised)
    assert len(cleared) == 1
    assert states == [
        DriftState.OK,
        DriftState.WARN,
        DriftState.ALARM,
        DriftState.ALARM,  # acknowledged
        DriftState.OK,
    ]
    assert list(session.background_errors) == []


def test_rebaseline_clears_the_alert(session, listener, results, start):
    cleared, states = [], []
    feed(listener, results, start, 6)
    feed(listener, results, start + 0.1 * COMA, 10)
    session.events.alertCleared.connect(lambda: cleared.append(1))
    session.events.statusChanged.connect(lambda status: states.append(status.state))
    session.rebaseline()
    assert cleared == [1]
    assert states == [DriftState.BASELINING]
    feed(listener, results, start + 0.1 * COMA, 10)
    assert session.status.state is DriftState.OK


def test_an_alert_that_was_not_raised_is_not_cleared(
    session, listener, results, start, monkeypatch
):
    """As while alerts are snoozed, or too soon after the last."""
    cleared = []
    session.events.alertCleared.connect(lambda: cleared.append(1))
    feed(listener, results, start, 6)
    update = session.monitor.update
    for times in (1, 2):
        monkeypatch.setattr(session.monitor, "update", update)
        feed(listener, results, start + 0.1 * COMA, 10)
        feed(listener, results, start, 10)
        assert cleared == [1] * times
        monkeypatch.setattr(session.monitor, "update", lambda t: update(t) and None)
        feed(listener, results, start + 0.1 * COMA, 10)
        assert session.status.state is DriftState.ALARM
        feed(listener, results, start, 10)
        assert session.status.state is DriftState.OK
        assert cleared == [1] * times


def test_alert_is_a_log_line(session, listener, results, start, caplog):
    feed(listener, results, start, 6)
    with caplog.at_level(logging.WARNING, "deepblur_live.session"):
        feed(listener, results, start + 0.05 * COMA, 10)
    assert [record.message for record in caplog.records] == [session.alerts[0].text]


def test_only_identified_frames_are_points(session, listener, results, start):
    feed(listener, results, start, 30, identified=False)
    assert session.status.n_baseline == 0
    assert len(session.history.times) == 0


def test_history_has_the_equivalent_of_the_truth_nearest_the_track(
    session, listener, results, start, family
):
    (symmetry,) = orbit(family, ResolvedBy.NEVER)[1:]
    other = symmetry.apply(start)
    listener.emit(results(start, truth=other))
    listener.emit(results(start))
    listener.emit(results(start, truth=[0.1] * 3))
    history = session.history
    np.testing.assert_allclose(history.truth[0], start)
    assert np.isnan(history.truth[1:]).all()
    np.testing.assert_allclose(history.coefficients, np.tile(start, (3, 1)))
    np.testing.assert_allclose(history.sigma, 0.002)
    np.testing.assert_array_equal(history.times, [0.0, 1.0, 2.0])


def test_stale_names_its_source_and_resumes(session, listener, results, start, clock):
    states = []
    session.events.statusChanged.connect(states.append)
    assert session.status.state is DriftState.BASELINING
    for _ in range(8):
        clock.now += 0.1
        listener.emit(results(start, exposure_ms=2000.0))
    clock.now += 12.0
    assert session.status.state is DriftState.OK
    clock.now += 0.3
    assert session.status.state is DriftState.STALE
    assert session.status.reason == "no frame from fake since 0:00:07"
    assert session.status.baseline is not None
    listener.emit(results(start))
    assert session.status.state is DriftState.OK
    assert [s.state for s in states] == [DriftState.OK, DriftState.STALE, DriftState.OK]


def test_a_session_without_trusted_estimates_is_stale(
    session, listener, results, start
):
    """Frames still come back deblurred, with the last identified blur."""
    feed(listener, results, start, 10)
    feed(listener, results, start, 60, accepted=False, trusted=False)
    assert session.status.state is DriftState.OK
    feed(listener, results, start, 1, accepted=False, trusted=False)
    status = session.status
    assert status.state is DriftState.STALE
    assert status.reason == "no blur identified since 0:00:09: too little detail"
    feed(listener, results, start, 1)
    assert session.status.state is DriftState.OK


def test_a_webhooks_address_is_not_kept(family, listener, tmp_path, now):
    alerts = Alerts(on_alarm=("log", "webhook:https://example.org/secret"))
    session = LiveSession(Profile(alerts=alerts), family, listener, tmp_path, now=now)
    session.close()
    kept = (session.folder / "session.json").read_text(encoding="utf-8")
    assert "secret" not in kept
    read = check_profile(json.loads(kept)["profile"], "session.json")
    assert read.alerts.on_alarm == ("log", "webhook:example.org")


def test_captured_frames_are_not_stale(session, listener, results, start, clock):
    feed(listener, results, start, 2)
    for _ in range(10):
        clock.now += 5.0
        listener.count(captured=1, dropped=1)
        assert session.status.state is DriftState.BASELINING


def test_time_lapse_is_not_stale_between_its_points(
    session, listener, results, start, clock
):
    for _ in range(4):
        listener.emit(results(start))
        clock.now += 60.0
    assert session.status.state is DriftState.BASELINING


def test_raw_only_from_frames_and_from_the_worker(session, listener, results, start):
    feed(listener, results, start, 6)
    feed(listener, results, start, 2, raw_reason="saturated")
    assert session.status.state is DriftState.OK
    feed(listener, results, start, 1, raw_reason="saturated")
    assert session.status.state is DriftState.RAW_ONLY
    assert "saturated" in session.status.reason
    feed(listener, results, start, 1)
    assert session.status.state is DriftState.OK
    listener.statistics = replace(
        listener.statistics, worker_state=WorkerState.RAW_ONLY
    )
    assert session.status.state is DriftState.RAW_ONLY


@pytest.mark.usefixtures("no_pictures")
def test_drift_csv_and_sidecar(make, tmp_path, listener, results, start):
    session = make(tmp_path / "sessions")
    assert session.folder == tmp_path / "sessions" / "2025-03-04_15-06-07"
    about = json.loads((session.folder / "session.json").read_text(encoding="utf-8"))
    assert about["state"] == "running"
    assert about["profile"]["drift"]["baseline_points"] == 5
    assert about["coefficients"][1] == "oblique astigmatism"
    assert {"python", "torch", "numpy"} <= set(about["versions"])

    listener.emit(results(start, truth=start + 0.001))
    listener.emit(results(start, identified=False))
    listener.emit(results(start, accepted=False))
    feed(listener, results, start, 5, raw_reason="constant")
    rows = rows_of(session)
    assert list(rows[0]) == list(about["columns"])
    # Identified frames, and the change to raw only.
    assert [row["frame"] for row in rows] == ["0", "2", "5"]
    assert float(rows[0]["oblique_astigmatism_waves"]) == pytest.approx(start[1])
    assert float(rows[0]["sigma_defocus_waves"]) == pytest.approx(0.002)
    assert float(rows[0]["truth_defocus_waves"]) == pytest.approx(start[0] + 0.001)
    assert rows[1]["truth_defocus_waves"] == ""
    assert float(rows[0]["wavefront_rms_waves"]) == pytest.approx(np.linalg.norm(start))
    assert 0.5 < float(rows[0]["strehl"]) < 1
    assert [row["accepted"] for row in rows] == ["1", "0", ""]
    assert [row["state"] for row in rows] == ["baselining", "baselining", "raw-only"]
    assert rows[2]["reason"] == "constant"
    assert rows[2]["captured"] == "6"


def test_close_writes_everything_and_the_summary(
    make, tmp_path, listener, results, start
):
    sharp = np.zeros(results.shape)
    sharp[10:20, 10:20] = 1000.0
    session = make(tmp_path, truth_image=lambda metadata: sharp)
    feed(listener, results, start, 6, truth=start)
    feed(listener, results, start + 0.1 * COMA, 25, truth=start)
    summary = session.close()
    assert session.close() is summary
    assert (summary.captured, summary.processed, summary.dropped) == (31, 31, 0)
    assert summary.duration_s == pytest.approx(30.0)
    assert summary.latency_p95_ms == 90.0
    assert summary.psf.n == 31
    assert summary.psf.median < 10
    assert 0 < summary.images.n <= 12
    assert summary.images.psnr_raw != summary.images.psnr_deblurred
    assert len(summary.alerts) == 1
    assert summary.rows == 31
    text = summary.text()
    assert "31 captured, 31 processed, 0 dropped; the capture took 0:00:30" in text
    assert "PSF SNR against the truth" in text
    assert "PSNR" in text
    assert str(session.folder) in text
    about = json.loads((session.folder / "session.json").read_text(encoding="utf-8"))
    assert about["state"] == "finished"
    assert about["summary"]["processed"] == 31
    assert about["summary"]["alerts"][0]["level"] == "alarm"
    pictures = about["pictures"]
    assert pictures[0] == "drift.png"
    assert len(pictures) == 5
    assert all((session.folder / name).stat().st_size > 1000 for name in pictures)
    assert list(session.background_errors) == []


def test_speed_is_measured_from_the_first_capture(make, listener, results, start):
    session = make()
    # The first frame of a short run was searched for two seconds, the others waited.
    for _ in range(3):
        listener.emit(results(start))
    listener.statistics = replace(listener.statistics, worked_s=2.5)
    summary = session.close()
    assert summary.fps == pytest.approx(1.2)
    assert "1.2 frames/s" in summary.text()


def test_a_closed_session_takes_no_more_results(session, listener, results, start):
    session.close()
    listener.emit(results(start))
    assert len(session.history.times) == 0


def test_session_without_frames_closes(make, tmp_path):
    session = make(tmp_path)
    summary = session.close()
    assert summary.fps == 0
    assert "0 captured" in summary.text()
    assert not (session.folder / "drift.png").exists()


def test_slots_that_raise_affect_nothing_else(
    session, listener, results, start, caplog
):
    def broken(alert):
        raise RuntimeError("no such webhook")

    session.events.alertRaised.connect(broken)
    feed(listener, results, start, 6)
    with caplog.at_level(logging.ERROR, "deepblur_live.session"):
        feed(listener, results, start + 0.1 * COMA, 10)
    assert session.status.state is DriftState.ALARM
    assert len(session.history.times) == 16
    assert "no such webhook" in session.background_errors[0]
    assert len(caplog.records) >= 1


def test_errors_are_emitted_when_they_occur(session, listener, results):
    emitted = []
    session.events.errorRaised.connect(emitted.append)
    for _ in range(3):
        listener.emit(results(np.zeros(3)))
    assert emitted == list(session.background_errors)
    assert len(emitted) == 1


def test_a_slot_for_errors_that_raises_is_not_called_endlessly(
    session, listener, results
):
    def broken(text):
        raise RuntimeError("no such console")

    session.events.errorRaised.connect(broken)
    listener.emit(results(np.zeros(3)))
    listener.emit(results())
    assert "no such console" in session.background_errors[-1]
    assert len(session.history.times) == 1


def test_a_slot_that_closes_what_is_being_closed_gets_an_error(make, tmp_path):
    class FailingSink(AlertSink):
        name = "failing"

        def deliver(self, notice):
            pass

        def close(self):
            raise OSError("no line")

    session = make(tmp_path, sinks=(FailingSink(),))
    caught = []

    def close(text):
        with pytest.raises(RuntimeError, match="being closed") as error:
            session.close()
        caught.append(error)

    session.events.errorRaised.connect(close)
    ended = threading.Thread(target=session.close, daemon=True)
    ended.start()
    ended.join(timeout=30)
    assert not ended.is_alive()
    assert caught
    assert session.close() is session.summary


def test_a_slot_does_not_wait_for_the_thread_that_closes(make, listener, results):
    """The thread that closes waits for the slot."""
    session = make(None)
    in_slot, closing, caught = threading.Event(), threading.Event(), []

    def close_too(text):
        in_slot.set()
        assert closing.wait(10)
        # Until the other thread holds the lock and waits for this one.
        while not session._ending:
            time.sleep(0.01)
        try:
            session.close()
        except RuntimeError as error:
            caught.append(str(error))

    session.events.errorRaised.connect(close_too)
    wrong = results(np.zeros(3))
    producer = threading.Thread(target=listener.emit, args=(wrong,), daemon=True)
    producer.start()
    assert in_slot.wait(10)
    closer = threading.Thread(target=session.close, daemon=True)
    closer.start()
    closing.set()
    for thread in (producer, closer):
        thread.join(timeout=30)
        assert not thread.is_alive()
    assert caught == ["the session is being closed by another thread"]


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("kept", [False, True])
def test_slot_may_close_the_session(make, listener, results, start, tmp_path, kept):
    session = make(tmp_path if kept else None)
    session.events.alertRaised.connect(lambda alert: session.close())
    feed(listener, results, start, 6)
    feed(listener, results, start + 0.1 * COMA, 20)
    assert len(session.alerts) == 1
    assert list(session.background_errors) == []


def test_result_that_cannot_be_taken_is_kept_as_an_error(session, listener, results):
    for _ in range(10):
        listener.emit(results(np.zeros(3)))
    listener.emit(results())
    (error,) = session.background_errors
    assert error.startswith("frame 0: ")
    assert len(session.history.times) == 1


@pytest.mark.usefixtures("no_pictures")
def test_lost_log_rows_surface_once(make, tmp_path, listener, results, start, caplog):
    session = make(tmp_path)
    lines = session._record._log
    lines._file.close()
    lines._file = FullDisk()
    lines.path.unlink()
    lines.path.mkdir()
    feed(listener, results, start, 20)
    assert session.flush()
    assert len(session.background_errors) == 1
    assert "drift.csv" in session.background_errors[0]
    assert len(session.history.times) == 20
    assert session.close().rows_lost == 20


def test_pictures_that_cannot_be_written_do_not_stop_the_end(
    make, tmp_path, listener, results, start
):
    session = make(tmp_path)
    feed(listener, results, start, 6)
    (session.folder / "drift.png").mkdir()
    summary = session.close()
    assert summary.processed == 6
    assert "drift.png" in session.background_errors[0]
    about = json.loads((session.folder / "session.json").read_text(encoding="utf-8"))
    assert "drift.png" not in about["pictures"]
    assert len(about["pictures"]) == 4
