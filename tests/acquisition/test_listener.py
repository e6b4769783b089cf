"""The listener with submitted frames; its worker mostly runs on a thread."""

import dataclasses
import functools
import threading

import numpy as np
import pytest
from echo_pipeline import Echo, Naming, Raising, failing, fingerprint

from deepblur_live.acquisition import DeblurListener, WorkerState
from deepblur_live.acquisition.ring import FrameRing
from deepblur_live.acquisition.statistics import Meter
from deepblur_live.runtime.frame import FrameState, SynchronousPipeline

FRAME = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)


class Gate(SynchronousPipeline):
    """A pipeline that waits for the test at every frame."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def process(self, frame):
        self.entered.release()
        assert self.open.wait(20)
        return Echo().process(frame)


def balanced(listener: DeblurListener):
    now = listener.statistics
    assert now.captured == now.processed + now.dropped + now.in_flight
    return now


class Noting(SynchronousPipeline):
    """A pipeline that adds a note to its results, and is closed at the end."""

    closed = 0

    def process(self, frame):
        return dataclasses.replace(
            Echo().process(frame), notes=("an engine is abandoned",)
        )

    def close(self):
        Noting.closed += 1


def test_a_pipelines_notes_reach_the_user_and_it_is_closed(results) -> None:
    with DeblurListener(Noting, in_process=True) as listener:
        told = []
        listener.events.errorRaised.connect(told.append)
        results.listen(listener)
        listener.submit(FRAME)
        results.wait(lambda: results.all and told)
        assert results.all[0].state is FrameState.DEBLURRED
        assert results.all[0].notes == ("an engine is abandoned",)
        assert listener.background_errors == told == ["an engine is abandoned"]
    assert Noting.closed == 1


def test_a_frame_makes_the_round_trip_through_the_worker(results) -> None:
    with DeblurListener(Echo, in_process=True) as listener:
        results.listen(listener)
        assert listener.submit(FRAME, {"truth": [1.0]}, "replay", time=12.5)
        results.wait(lambda: results.all)
        assert listener.drain(5)
        (result,) = results.all
        assert result is listener.latest
        assert result.state is FrameState.DEBLURRED
        assert result.deblurred.dtype == np.float32
        np.testing.assert_array_equal(result.deblurred, FRAME)
        np.testing.assert_array_equal(result.frame.pixels, FRAME)
        assert (result.frame.number, result.frame.time) == (0, 12.5)
        assert (result.frame.source, result.frame.metadata) == (
            "replay",
            {"truth": [1.0]},
        )
        now = balanced(listener)
        assert (now.captured, now.processed, now.dropped) == (1, 1, 0)
        assert now.worker_state is WorkerState.RUNNING
        assert 0 < now.latency_p50_ms <= now.latency_p95_ms
    assert balanced(listener).worker_state is WorkerState.STOPPED
    assert results.states == [WorkerState.STOPPED]
    assert listener.background_errors == []
    assert listener.shared_bytes == 0


def test_all_frames_in_order_when_the_source_waits(results) -> None:
    with DeblurListener(
        functools.partial(Echo, 0.002),
        policy="all",
        memory_bytes=1 << 18,
        in_process=True,
    ) as listener:
        results.listen(listener)
        for value in range(100):
            assert listener.submit(np.full((40, 50), value), block=True)
        assert listener.drain(20)
        assert [r.frame.number for r in results.all] == list(range(100))
        assert all((r.deblurred == r.frame.number).all() for r in results.all)
        assert balanced(listener).dropped == 0
    assert listener.background_errors == []


def test_the_worker_gets_the_newest(results) -> None:
    gate = Gate()
    with DeblurListener(lambda: gate, in_process=True) as listener:
        results.listen(listener)
        listener._supervisor._busy_ms = 1e3  # a slow worker is given one at a time
        listener.submit(FRAME)
        assert gate.entered.acquire(timeout=5)
        for value in range(1, 10):
            listener.submit(np.full_like(FRAME, value))
            balanced(listener)
        gate.open.set()
        assert listener.drain(5)
        assert [r.frame.number for r in results.all] == [0, 9]
        assert (results.all[-1].deblurred == 9).all()
        assert balanced(listener).dropped == 8


def test_overload_is_flat_in_memory_and_counted(results) -> None:
    gate = Gate()
    with DeblurListener(
        lambda: gate, policy="all", memory_bytes=1 << 20, in_process=True
    ) as listener:
        results.listen(listener)
        for _ in range(1000):
            listener.submit(FRAME)
            assert listener.shared_bytes <= 1 << 20
        assert balanced(listener).dropped > 500
        gate.open.set()
        assert listener.drain(20)
        now = balanced(listener)
        assert now.processed == len(results.all) == 1000 - now.dropped
        results.wait(lambda: results.errors)
    assert len(results.errors) == 1
    assert "budget" in results.errors[0]


def test_odd_frames_arrive_unchanged_in_the_worker(results) -> None:
    floats = np.full((5, 4), np.nan, np.float32)
    frames = [
        FRAME,
        floats,
        np.zeros((6, 7, 3), np.uint8),
        FRAME.astype(">u2"),
        np.kron(FRAME, np.ones((3, 3), np.int32)).T[::2],
        np.ones((1, 1), np.float64),
        FRAME[:3, :2],
    ]
    with DeblurListener(Naming, policy="all", in_process=True) as listener:
        results.listen(listener)
        for pixels in frames:
            assert listener.submit(pixels, block=True)
        assert listener.drain(10)
        for pixels, result in zip(frames, results.all, strict=True):
            assert result.state is FrameState.RAW_ONLY
            assert result.deblurred is None
            assert result.reason == fingerprint(pixels)
            np.testing.assert_array_equal(result.frame.pixels, pixels)
        assert sum(listener.statistics.raw_only.values()) == len(frames)
    assert listener.background_errors == []


def test_a_pipeline_that_raises_affects_only_that_frame(results) -> None:
    with DeblurListener(Raising, policy="all", in_process=True) as listener:
        results.listen(listener)
        for _ in range(10):
            listener.submit(FRAME)
        assert listener.drain(10)
        states = [r.state for r in results.all]
        assert states == [FrameState.DEBLURRED, FrameState.RAW_ONLY] * 5
        reason = "ValueError: odd frames displease"
        assert results.all[1].reason == reason
        assert listener.statistics.raw_only == {reason: 5}
        assert listener.statistics.worker_state is WorkerState.RUNNING
        results.wait(lambda: results.errors)
    (error,) = results.errors  # reported once, with the traceback
    assert reason in error
    assert "echo_pipeline.py" in error


def test_a_callback_that_raises_affects_nothing_else(results) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a callback of someone else")

    listener = DeblurListener(Echo, policy="all", in_process=True)
    results.listen(listener)
    for signal in ("resultReady", "workerStateChanged", "errorRaised"):
        getattr(listener.events, signal).connect(fail)
    with listener:
        for _ in range(5):
            listener.submit(FRAME)
        listener.submit(np.array([object()]))  # causes an error to be reported
        assert listener.drain(10)
        assert len(results.all) == 5
        results.wait(lambda: results.errors)
        assert (balanced(listener).processed, balanced(listener).dropped) == (5, 1)
    told = [e for e in listener.background_errors if "a callback of" in e]
    assert len(told) == len(set(told))  # however often it was called
    assert {e.split()[3] for e in told} == {
        "resultReady",
        "workerStateChanged",
        "errorRaised",
    }


def test_a_failing_factory_is_reported_and_frames_are_passed_on_raw(results) -> None:
    listener = DeblurListener(failing, in_process=True)
    results.listen(listener)
    assert not listener.start()
    listener.submit(FRAME)
    results.wait(lambda: results.all and results.errors)
    assert listener.drain(5)
    assert "no weights of model 'nobody'" in results.errors[0]
    assert results.errors == listener.background_errors
    assert results.all[0].state is FrameState.RAW_ONLY
    assert results.all[0].reason == "worker is down"
    np.testing.assert_array_equal(results.all[0].frame.pixels, FRAME)
    assert listener.statistics.worker_state is WorkerState.RAW_ONLY
    listener.close()


def test_frames_are_passed_on_raw_while_a_slow_worker_starts(results) -> None:
    gate = threading.Event()

    def slow() -> Echo:
        assert gate.wait(20)
        return Echo()

    listener = DeblurListener(slow, in_process=True)
    results.listen(listener)
    assert not listener.start(timeout=0.05)
    assert "not ready after 0.05 s" in listener.background_errors[0]
    listener.submit(FRAME)
    results.wait(lambda: results.all)
    assert results.all[0].reason == "worker is starting"
    gate.set()
    results.wait(lambda: WorkerState.RUNNING in results.states)
    listener.submit(FRAME)
    results.wait(lambda: len(results.all) == 2)
    assert results.all[1].state is FrameState.DEBLURRED
    listener.close()


def test_metadata_that_cannot_be_pickled_stay_with_the_result(results) -> None:
    with DeblurListener(Echo, in_process=True) as listener:
        results.listen(listener)
        lock = threading.Lock()
        listener.submit(FRAME, {"lock": lock})
        assert listener.drain(5)
        assert results.all[0].state is FrameState.DEBLURRED
        assert results.all[0].frame.metadata["lock"] is lock
        results.wait(lambda: results.errors)
    assert "metadata" in results.errors[0]


def test_draining_waits_for_the_callbacks() -> None:
    told = []
    inside: list[BaseException] = []

    def slow(result) -> None:
        try:
            listener.drain(1)
        except RuntimeError as error:
            inside.append(error)
        told.append(result)

    with DeblurListener(Echo, policy="all", in_process=True) as listener:
        listener.events.resultReady.connect(slow)
        for _ in range(20):
            listener.submit(FRAME)
        assert listener.drain(10)
        assert len(told) == 20
    assert len(inside) == 20


def test_nothing_is_raised_before_start_or_after_close() -> None:
    listener = DeblurListener(Echo, in_process=True)
    assert listener.submit(FRAME)
    with pytest.raises(RuntimeError, match="start"):
        listener.submit(FRAME, block=True)
    assert not listener.drain(0.01)
    listener.frameReady(FRAME)
    assert listener.latest is None
    listener.close()
    listener.close()
    assert not listener.submit(FRAME)
    now = balanced(listener)
    assert (now.captured, now.dropped) == (3, 3)
    with pytest.raises(RuntimeError, match="closed"):
        listener.start()


def test_closing_ends_the_wait_of_a_source() -> None:
    gate = Gate()
    listener = DeblurListener(lambda: gate, in_process=True)
    listener.start()
    answers = []

    def fill() -> None:
        while listener.submit(FRAME, block=True):
            pass
        answers.append("ended")

    source = threading.Thread(target=fill)
    source.start()
    assert gate.entered.acquire(timeout=5)
    gate.open.set()
    listener.close()
    source.join(10)
    assert answers == ["ended"]
    assert balanced(listener).in_flight == 0


def test_a_factory_that_cannot_be_pickled_is_refused() -> None:
    with pytest.raises(TypeError, match="module-level function"):
        DeblurListener(lambda: Echo())


def test_rates_follow_an_injected_clock() -> None:
    now = [100.0]
    listener = DeblurListener(Echo, in_process=True, clock=lambda: now[0])
    for _ in range(11):
        listener.submit(FRAME)
        now[0] += 0.1
    assert listener.statistics.fps_captured == pytest.approx(10)
    now[0] += 9.9
    assert listener.statistics.fps_captured == pytest.approx(0.1)
    listener.close()


def test_two_results_that_come_together_are_not_a_rate() -> None:
    now = [100.0]
    meter = Meter(lambda: now[0])
    ring = FrameRing(1 << 20, report=print, clock=lambda: now[0])
    for moment in (0.0, 0.1):
        now[0] = 100.0 + moment
        meter.captured()
    for moment in (2.5, 2.501):  # the first was searched for, the second waited
        now[0] = 100.0 + moment
        meter.delivered(2500.0, None)
    statistics = meter.statistics(ring, WorkerState.RUNNING)
    assert statistics.worked_s == pytest.approx(2.501)
    assert statistics.fps_processed == pytest.approx(1)
    ring.close()
