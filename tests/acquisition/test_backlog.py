"""Every frame is processed, in order, however slow the worker is."""

from __future__ import annotations

import errno
import threading
import time

import numpy as np
import pytest

from deepblur_live.acquisition import DeblurListener
from deepblur_live.acquisition.backlog import Backlog
from deepblur_live.acquisition.ring import FrameRing
from deepblur_live.runtime.frame import FrameResult, FrameState, SynchronousPipeline

PATIENCE = 30.0


class SlowPipeline(SynchronousPipeline):
    def process(self, frame):
        time.sleep(0.01)
        return FrameResult(
            frame.info,
            FrameState.DEBLURRED,
            raw=frame.pixels,
            deblurred=frame.pixels.astype(np.float32),
        )


def picture(number: int) -> np.ndarray:
    return np.full((16, 20 + number % 3), number, np.uint16)


@pytest.fixture
def listener():
    with DeblurListener(SlowPipeline, in_process=True) as listener:
        yield listener
    assert listener.background_errors == []


def test_every_frame_is_processed_in_order(listener, tmp_path):
    results: list[FrameResult] = []
    listener.events.resultReady.connect(results.append)
    listener.process_every_frame(True, tmp_path)
    began = time.perf_counter()
    for number in range(100):
        assert listener.submit(picture(number), {"index": number})
        s = listener.statistics
        assert s.captured == s.processed + s.dropped + s.in_flight
    assert time.perf_counter() - began < 0.8  # the worker takes a second
    assert listener.statistics.waiting > 10
    assert listener.drain(PATIENCE)
    assert [r.info.metadata["index"] for r in results] == list(range(100))
    for number, result in enumerate(results):
        np.testing.assert_array_equal(result.raw, picture(number))
    times = [r.info.time for r in results]
    assert times == sorted(times)
    assert times[-1] < 0.8  # of the capture, not of the processing
    s = listener.statistics
    assert (s.captured, s.processed, s.dropped, s.waiting) == (100, 100, 0, 0)


def test_the_newest_frame_counts_again(listener, tmp_path):
    for on in (True, False, True, False):
        listener.process_every_frame(on, tmp_path)
        assert listener.processes_every_frame is on
        for number in range(30):
            listener.submit(picture(number))
    assert listener.drain(PATIENCE)
    s = listener.statistics
    assert s.captured == s.processed + s.dropped == 120
    assert s.dropped > 60
    assert s.waiting == 0


def test_frames_beyond_the_memory_are_dropped_and_counted():
    errors: list[str] = []
    ring = FrameRing(1 << 20, report=errors.append)
    backlog = Backlog(ring, None, errors.append, memory_bytes=3000)
    backlog._step = lambda: time.sleep(0.01)  # a disk that does not respond
    time.sleep(0.1)
    for number in range(20):
        backlog.put(picture(number), source="live", metadata={}, time=0.0)
    waiting, dropped = backlog.counts
    assert waiting + dropped == 20
    assert 4 <= waiting <= 5  # at most 704 bytes each, and one before
    assert len(errors) == 1
    assert "slower than the camera" in errors[0]
    backlog.close()
    assert backlog.counts == (0, 20)
    ring.close()


def test_closing_does_not_wait_for_a_disk_that_does_not_respond():
    errors: list[str] = []
    ring = FrameRing(1 << 20, report=errors.append)
    backlog = Backlog(ring, None, errors.append)
    disk, asked = threading.Event(), threading.Event()

    class Stuck:
        def write(self, data):
            asked.set()
            assert disk.wait(PATIENCE)
            return len(data)

        def __getattr__(self, name):
            return getattr(file, name)

    file, backlog._file = backlog._file, Stuck()
    for number in range(5):  # the first goes to the ring at once
        backlog.put(picture(number), source="live", metadata={}, time=0.0)
    assert asked.wait(PATIENCE)
    began = time.perf_counter()
    backlog.close(0.1)
    assert time.perf_counter() - began < 1.0
    assert backlog.counts == (0, 4)
    assert ["does not respond" in error for error in errors] == [True]
    disk.set()
    backlog._thread.join(PATIENCE)
    assert not backlog._thread.is_alive()
    assert backlog.counts == (0, 4)
    assert file.closed
    ring.close()


def test_a_frame_after_the_end_is_dropped_and_not_blamed_on_the_disk():
    errors: list[str] = []
    ring = FrameRing(1 << 20, report=errors.append)
    backlog = Backlog(ring, None, errors.append)
    backlog.close()
    assert not backlog.put(picture(0), source="live", metadata={}, time=0.0)
    assert backlog.counts == (0, 1)
    assert errors == []
    ring.close()


def test_a_full_disk_costs_the_frames_that_do_not_fit(monkeypatch):
    errors: list[str] = []
    ring = FrameRing(1 << 20, report=errors.append)
    backlog = Backlog(ring, None, errors.append)
    room = [5]

    class Full:
        def __init__(self, file):
            self._file = file

        def write(self, data):
            if room[0] == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            room[0] -= 1
            return self._file.write(data)

        def __getattr__(self, name):
            return getattr(self._file, name)

    backlog._file = Full(backlog._file)
    for number in range(20):
        pixels = np.full((16, 20), number, np.uint16)
        backlog.put(pixels, source="live", metadata={}, time=float(number))
    found = []
    deadline = time.monotonic() + PATIENCE
    while backlog.counts[1] < 14:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    while backlog.counts[0] or ring.counts().in_flight:
        assert time.monotonic() < deadline
        if (lease := ring.take(1, 0.05)) is not None:
            found.append(int(lease.raw()[0, 0]))
            ring.drop(lease)
    # One goes to the ring at once, five to the disk.
    assert found == list(range(6))
    assert backlog.counts == (0, 14)
    assert [e for e in errors if "No space left" in e] == errors
    assert len(errors) == 1
    backlog.close()
    ring.close()
