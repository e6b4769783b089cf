"""What is kept outlives a killed program, a full disk, a disk that hangs, a Ctrl-C."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from deepblur_live.acquisition.missed import Missed
from deepblur_live.profile import Drift, Profile
from deepblur_live.session import LiveSession
from deepblur_live.session.disk_thread import DiskThread
from deepblur_live.session.line_file import LineFile, csv_line

pytestmark = pytest.mark.usefixtures("quick_monitor")

PROFILE = Profile(drift=Drift(baseline_points=5))
PATIENCE = 60.0


@pytest.fixture
def session(family, listener, clock, now, tmp_path):
    session = LiveSession(PROFILE, family, listener, tmp_path, clock=clock, now=now)
    yield session
    session.close()


def about(folder: Path):
    return json.loads((folder / "session.json").read_text("utf-8"))


def events(folder: Path):
    lines = (folder / "events.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


_SCRIPT = """
import importlib.util, itertools, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("made_up", {conftest!r})
made_up = importlib.util.module_from_spec(spec)
sys.modules["made_up"] = made_up
spec.loader.exec_module(made_up)
from deepblur_live.blur import family_from_profile
from deepblur_live.profile import Drift, Profile
from deepblur_live.session import LiveSession, new_series
listener, results = made_up.FakeListener(), made_up.Results()
profile = Profile(drift=Drift(baseline_points=5))
new_series.DriftMonitor = made_up.LimitMonitor
session = LiveSession(profile, family_from_profile(profile), listener, Path({folder!r}))
for k in itertools.count():
    step = 0.2 if k > 40 else 0.0
    listener.emit(results(made_up.START + step))
    session.flush()
"""


def test_a_killed_program_leaves_whole_rows(tmp_path):
    conftest = str(Path(__file__).with_name("conftest.py"))
    script = _SCRIPT.format(conftest=conftest, folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + PATIENCE
    try:
        while not any(
            path.stat().st_size > 20_000 for path in tmp_path.glob("*/drift.csv")
        ):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait(PATIENCE)
    (folder,) = tmp_path.iterdir()
    text = (folder / "drift.csv").read_text("utf-8")
    assert text.endswith("\n")
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) > 50
    assert [int(row["frame"]) for row in rows] == list(range(len(rows)))
    assert all(None not in row and None not in row.values() for row in rows)
    kept = about(folder)
    assert kept["state"] == "running"
    assert list(rows[0]) == list(kept["columns"])
    kinds = [event["event"] for event in events(folder)]
    assert kinds[0] == "sessionStarted"
    assert "alertRaised" in kinds


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 64 kB, which only root can make."""
    place = tmp_path / "small"
    place.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True
    )
    if made.returncode:
        pytest.skip(f"cannot mount: {made.stderr.decode()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_disk_that_is_full_costs_rows_and_no_more(
    small_disk, family, listener, results, clock, now, caplog
):
    session = LiveSession(PROFILE, family, listener, small_disk, clock=clock, now=now)
    folder = session.folder
    for _ in range(400):
        listener.emit(results())
    assert session.flush()
    # Once, not for each of its files, nor by the file as well.
    (said,) = [one for one in caplog.messages if "No space left" in one]
    assert list(session.background_errors) == [said]
    assert len(session.history.times) == 400
    before = len((folder / "drift.csv").read_text("utf-8").splitlines())
    assert before < 400
    # Somebody makes room: the log goes on after its last whole row.
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    clock.now += 10.0
    for _ in range(10):
        listener.emit(results())
    summary = session.close()
    assert summary.rows + summary.rows_lost == 410
    assert summary.rows_lost > 0
    with (folder / "drift.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == summary.rows
    assert [row["frame"] for row in rows[-10:]] == [str(k) for k in range(400, 410)]
    assert all(None not in row and None not in row.values() for row in rows)
    assert about(folder)["state"] == "finished"
    assert about(folder)["summary"]["rows_lost"] == summary.rows_lost


def test_a_disk_that_is_full_from_the_start_is_named(
    family, listener, tmp_path, monkeypatch
):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(LineFile, "_append", full)
    with pytest.raises(OSError, match=tmp_path.name):
        LiveSession(PROFILE, family, listener, tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_the_systems_own_full_disk_is_survived(tmp_path, clock):
    log = LineFile(tmp_path / "drift.csv", csv_line(["time_s"]), clock=clock)
    log._file.close()
    log._file = open("/dev/full", "wb", buffering=0)
    assert not log.write(csv_line([1.0]))
    assert log.error == os.strerror(errno.ENOSPC)
    clock.now += 10
    assert log.write(csv_line([2.0]))
    log.close()
    assert (tmp_path / "drift.csv").read_text() == "time_s\n2\n"


class HangingFile:
    """A file on a network disk that has gone away, until it is back."""

    def __init__(self, file) -> None:
        self._file = file
        self.back = threading.Event()

    def write(self, data: bytes) -> int:
        assert self.back.wait(PATIENCE)
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)


@pytest.fixture
def short_queue(monkeypatch):
    """Two hundred tasks may wait for the disk instead of two thousand."""
    monkeypatch.setitem(DiskThread.__init__.__kwdefaults__, "max_waiting", 200)


def test_a_disk_that_hangs_blocks_no_caller(
    short_queue, no_pictures, session, listener, results
):
    lines = session._record._log
    lines._file = hanging = HangingFile(lines._file)
    # This loop would not end if it waited for the disk.
    for _ in range(300):
        listener.emit(results())
    assert session.monitor.status.baseline is not None
    assert len(session.history.times) == 300
    assert not session.flush(0.05)
    (error,) = session.background_errors
    assert "drift.csv: cannot be written (the disk does not respond)" in error
    hanging.back.set()
    assert session.flush(PATIENCE)
    listener.emit(results())
    summary = session.close()
    assert summary.rows + summary.rows_lost == 301
    assert 0 < summary.rows_lost < 150


@pytest.mark.skipif(sys.platform == "win32", reason="no interrupt of a lock there")
def test_an_interrupt_while_closing_leaves_a_finished_session(
    session, listener, results, monkeypatch
):
    drawing, go_on = threading.Event(), threading.Event()

    def slow_plot(data, path):
        drawing.set()
        assert go_on.wait(PATIENCE)
        path.touch()

    monkeypatch.setattr("deepblur_live.session.report.save_overview", slow_plot)
    for _ in range(6):
        listener.emit(results())

    def interrupt():
        assert drawing.wait(PATIENCE)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        # On a busy machine the main thread may take long to handle the signal.
        give_up = time.monotonic() + PATIENCE
        while not session._record._interrupted and time.monotonic() < give_up:
            time.sleep(0.01)
        go_on.set()

    hand = threading.Thread(target=interrupt)
    hand.start()
    with pytest.raises(KeyboardInterrupt):
        session.close()
    hand.join(PATIENCE)
    kept = about(session.folder)
    assert kept["state"] == "finished"
    assert kept["summary"]["processed"] == 6
    # What had begun was drawn, the rest left out.
    assert kept["pictures"] == ["drift.png"]


@pytest.mark.usefixtures("no_pictures")
def test_an_end_is_written_before_anything_slow(session, listener, results):
    for _ in range(6):
        listener.emit(results())
    seen = []

    def look(*_):
        seen.append(about(session.folder))
        raise RuntimeError("and it fails, too")

    session._truth_image = look
    session.close()
    assert seen[0]["state"] == "ended"
    assert seen[0]["counts"]["captured"] == 6
    assert about(session.folder)["state"] == "finished"


@pytest.mark.usefixtures("no_pictures")
def test_events_describe_the_session(session, listener, results, start, clock):
    for _ in range(6):
        listener.emit(results(start))
    listener.count(missed=Missed(taken=5, overwritten=2))
    for _ in range(20):
        clock.now += 1.0
        listener.emit(results(start + 0.2))
    session.acknowledge()
    session.rebaseline()
    clock.now += 60.0
    assert session.status.reason
    session.close()
    logged = events(session.folder)
    kinds = [event["event"] for event in logged]
    assert kinds[0] == "sessionStarted"
    assert kinds[-1] == "sessionEnded"
    order = ["framesMissed", "alertRaised", "alertAcknowledged", "rebaselined"]
    assert [kind for kind in kinds if kind in order] == order
    assert "alertCleared" in kinds
    missed = logged[kinds.index("framesMissed")]
    assert missed["frames"] == 7
    assert (missed["so_far"]["taken"], missed["so_far"]["overwritten"]) == (5, 2)
    assert about(session.folder)["counts"]["missed"] == missed["so_far"]
    states = [event["state"] for event in logged if event["event"] == "stateChanged"]
    assert states[-1] == "stale"
    assert all("time_s" in event and "when" in event for event in logged)


@pytest.mark.usefixtures("no_pictures")
def test_the_sidecar_names_the_weights_and_what_ran_them(session, listener, results):
    listener.emit(results())
    assert session.flush()
    assert about(session.folder)["engine"] == {"executor": "a made-up one"}
    model = about(session.folder)["model"]
    assert model["name"] == "zernike7"
    assert len(model["manifest_sha256"]) == 64
    # A model may have more of them.
    assert set(model["weights_sha256"]) >= {
        "identification.safetensors",
        "deblurring.safetensors",
    }
