"""Runs without a window: progress, and cameras and recordings that stall."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from rich.console import Console

from deepblur_live.acquisition import Statistics, open_series
from deepblur_live.acquisition.simulated import SIMULATED_CONFIG
from deepblur_live.cli import headless
from deepblur_live.cli.console_session import (
    Options,
    prepare_window,
    running_session,
)
from deepblur_live.cli.cores import MicroscopeError, core_from_config
from deepblur_live.cli.headless import watch_live, watch_replay
from deepblur_live.cli.progress import RunProgress, progress_text
from deepblur_live.cli.replay import replay_recording
from deepblur_live.drift import DriftState, DriftStatus
from deepblur_live.profile import Profile
from deepblur_live.runtime.frame import FrameResult, FrameState, SynchronousPipeline
from deepblur_live.session import LiveSession, connection
from deepblur_live.session.record import SessionRecord

BASELINING = DriftStatus(DriftState.BASELINING, n_baseline=3, n_needed=20)


class Signals:
    def __getattr__(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(connect=lambda slot: None, disconnect=lambda slot: None)


def test_a_camera_that_sends_nothing_is_named():
    core = core_from_config(SIMULATED_CONFIG)
    silent = SimpleNamespace(
        core=SimpleNamespace(
            getCameraDevice=core.getCameraDevice,
            getExposure=lambda: 100.0,
            startContinuousSequenceAcquisition=lambda: None,
        ),
        listener=SimpleNamespace(
            statistics=Statistics(), events=Signals(), latest=None
        ),
        family=None,
        status=BASELINING,
        events=Signals(),
    )
    now = iter(np.arange(0.0, 100.0, 4.0))
    with pytest.raises(MicroscopeError, match="camera Camera: no frame in"):
        watch_live(silent, Console(quiet=True), None, clock=lambda: next(now))


def test_the_progress_text_says_what_matters():
    statistics = Statistics(
        captured=70, processed=66, dropped=3, in_flight=1, raw_only={"constant": 2}
    )
    text = progress_text(12.3, 75.0, statistics, BASELINING)
    assert text == "12 of 75 s · 66 frames, 3 dropped · 2 raw only · baselining 3/20"
    unarmed = replace(BASELINING, reason="not armed: too alike")
    text = progress_text(12.3, 75.0, statistics, unarmed)
    assert text.endswith(" · baselining 3/20 (not armed: too alike)")
    raw = DriftStatus(DriftState.RAW_ONLY, n_baseline=0, n_needed=20)
    assert progress_text(30.0, None, Statistics(), raw).endswith(" · raw-only")
    drifting = DriftStatus(DriftState.WARN, 20, 20, change_text="22 nm")
    text = progress_text(30.0, None, Statistics(), drifting)
    assert text.endswith("warn, changed by 22 nm")


def test_progress_in_a_log_is_a_line_every_ten_seconds():
    console = Console(file=io.StringIO(), width=40)
    with RunProgress(console, 60.0) as progress:
        progress.say("[ALARM] at /a/very/long/path/that/is/not/to/be/wrapped.csv")
        for elapsed in range(25):
            progress.show(elapsed, f"{elapsed} s", elapsed)
        progress.say("the end")
    assert console.file.getvalue().splitlines() == [
        "[ALARM] at /a/very/long/path/that/is/not/to/be/wrapped.csv",
        *("0 s", "10 s", "20 s"),
        "the end",
    ]


def test_progress_on_a_terminal_is_one_line_that_is_removed():
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with RunProgress(console, 60.0) as progress:
        progress.show(30.0, "30 s [of] 60", 30.0)
        progress._bar.refresh()
        assert "30 s [of] 60" in console.file.getvalue()
        progress.say("a message")
    assert console.file.getvalue().endswith("a message\n")


class Slow(SynchronousPipeline):
    """Takes its time, and never finishes the frame of number `hangs_at`."""

    hangs_at = -1

    def process(self, frame):
        time.sleep(0.05)
        while frame.number == self.hangs_at:
            time.sleep(0.01)
        return FrameResult(
            frame.info, FrameState.RAW_ONLY, reason="constant", raw=frame.pixels
        )


def replayed(folder, clock, stalled_s, during=lambda session: None):
    stack = np.random.default_rng(0).integers(0, 999, (12, 64, 64)).astype(np.uint16)
    tifffile.imwrite(folder / "series.tif", stack)
    session = LiveSession.from_profile(
        Profile(), folder=folder, every_frame=True, in_process=True
    )
    try:
        with open_series(folder / "series.tif") as source, session:
            watch_replay(
                session,
                Console(file=io.StringIO(), width=200),
                source,
                clock=lambda: clock(session.listener.statistics),
                stalled_s=stalled_s,
            )
    finally:
        during(session)
    return session


def test_a_recording_is_followed_to_its_last_frame(tmp_path, monkeypatch, pipeline):
    pipeline(Slow)
    monkeypatch.setattr(connection, "_DRAIN_S", 0.01)
    # One second of this clock per frame: long in total, but never stalled.
    session = replayed(tmp_path, lambda statistics: statistics.processed, 1.5)
    assert (session.summary.processed, session.summary.dropped) == (12, 0)


def test_a_recording_that_stalls_ends_and_counts_what_is_lost(
    tmp_path, monkeypatch, pipeline
):
    pipeline(Slow)
    monkeypatch.setattr(connection, "_DRAIN_S", 0.01)
    monkeypatch.setattr(Slow, "hangs_at", 8)
    hung, ended = [], []

    def clock(statistics):
        # It starts when all but the last frames have been processed.
        if statistics.processed < 8:
            return 0.0
        if not hung:
            # The thread that hangs is released later; its frame is lost.
            threading.Timer(2.0, setattr, (Slow, "hangs_at", -1)).start()
        hung.append(time.monotonic())
        return hung[-1] - hung[0]

    with pytest.raises(
        RuntimeError, match="last 4 of the recording's 12 frames are lost"
    ):
        replayed(tmp_path, clock, 0.5, ended.append)
    summary = ended[0].summary
    assert (summary.captured, summary.processed, summary.dropped) == (12, 8, 4)


def test_a_window_without_a_frame_is_not_an_error(tmp_path):
    options = Options(Console(quiet=True), tmp_path, window=True, in_process=True)
    prepare_window(options)
    with running_session(options, Profile()):
        pass  # opened, and closed again
    with (
        pytest.raises(RuntimeError, match="no frame was processed"),
        running_session(replace(options, window=False), Profile()),
    ):
        pass


def test_an_error_is_printed_once(tmp_path, monkeypatch, pipeline):
    pipeline(Slow)
    monkeypatch.setattr(connection, "_DRAIN_S", 0.01)
    stack = np.random.default_rng(0).integers(0, 999, (6, 64, 64)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "series.tif", stack)
    console = Console(file=io.StringIO(), width=200)
    options = Options(console, tmp_path, Profile(), in_process=True)
    feed, close = headless.feed, SessionRecord.finish

    def fed(session, *rest):
        session._notifier.error("the disk is full")
        feed(session, *rest)

    def closed(record, *rest):
        record._on_error("a picture cannot be made")
        close(record, *rest)

    monkeypatch.setattr(headless, "feed", fed)
    monkeypatch.setattr(SessionRecord, "finish", closed)
    replay_recording(options, tmp_path / "series.tif")
    said = console.file.getvalue().splitlines()
    assert said.count("Note: the disk is full") == 1
    assert said.count("Note: a picture cannot be made") == 1
