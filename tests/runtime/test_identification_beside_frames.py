"""Identification on a CPU in the background: a search must not delay a frame."""

import dataclasses
import os
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.blur import Estimate
from deepblur_live.drift import Tracker
from deepblur_live.identification import Identifier, Problem, Solution
from deepblur_live.profile import Profile
from deepblur_live.runtime.async_estimator import AsyncEstimator
from deepblur_live.runtime.build import build_pipeline
from deepblur_live.runtime.device import usable_cores
from deepblur_live.runtime.frame import Frame, FrameState
from deepblur_live.runtime.pipeline import DeblurPipeline

SAMPLE = SimulatedSample(shape=(128, 128))


@pytest.fixture(scope="module")
def built():
    return build_pipeline(Profile.model_validate({"model": {"threads": 1}}))


@pytest.fixture
def pipeline(built):
    """A pipeline that finds the true blur, as often as it is let through."""
    errors = built.identifier.errors
    made = DeblurPipeline(
        built.family,
        Identifier(built.family, errors),
        Tracker(built.family, errors),
        built.executor,
        built.camera,
    )
    made.let_through = threading.Semaphore(0)
    made.solved_on = []
    count = built.family.n_coefficients

    def when_let_through(problem):
        made.solved_on.append(threading.current_thread().name)
        assert made.let_through.acquire(timeout=30)
        gamma = SAMPLE.coefficients(problem.time)
        estimate = Estimate(np.asarray(gamma), 1e-4 * np.eye(count), 0.6)
        return Solution(problem, estimate, None)

    made._identification.estimator._solve = when_let_through
    yield made
    made.let_through.release(9)
    made.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not any(name.startswith("identification") for name in names)


def submitted(pipeline, number, seconds, source):
    frame = Frame(SAMPLE.frame(seconds).pixels, number, seconds, source)
    return pipeline.submit(frame).result()


@pytest.mark.parametrize("source", ["live", "mda"])
def test_a_search_holds_up_no_picture_of_a_camera(pipeline, source):
    pipeline.let_through.release()
    # The first waits: there is nothing to deblur it with.
    assert submitted(pipeline, 0, 0.0, source).estimate is not None
    # The next identification takes many seconds.
    late = [submitted(pipeline, i, 0.9 * i, source) for i in range(1, 7)]
    assert {result.state for result in late} == {FrameState.DEBLURRED}
    assert {result.track.time for result in late} == {0.0}
    # Problems do not pile up behind it.
    assert len(pipeline.solved_on) == 2
    pipeline.let_through.release()
    pipeline._identification.estimator._pending[1].result(30)
    result = submitted(pipeline, 7, 6.0, source)
    # Of the frame that the problem was posed with.
    assert result.estimate is not None
    assert result.track.time == pytest.approx(1.8)


@pytest.mark.parametrize("source", ["live", "mda", "replay"])
def test_a_simpler_blur_is_shown_first_in_live_mode(pipeline, monkeypatch, source):
    simpler = property(lambda self: dataclasses.replace(self, phases=False))
    monkeypatch.setattr(Problem, "simpler", simpler)
    solve, phases = pipeline._identification.estimator._solve, []

    def provisional(problem):
        phases.append(problem.phases)
        solution = solve(problem)
        estimate = dataclasses.replace(
            solution.estimate, provisional=not problem.phases
        )
        return dataclasses.replace(solution, estimate=estimate)

    pipeline._identification.estimator._solve = provisional
    pipeline.let_through.release(2)
    first = submitted(pipeline, 0, 0.0, source)
    live = source == "live"
    assert first.state is FrameState.DEBLURRED
    assert first.track.accepted == (not live)
    # What is provisional is replaced as soon as possible.
    submitted(pipeline, 1, 0.1, source)
    pipeline._identification.estimator.take(wait=True)
    assert phases == ([False, True] if live else [True])


def test_frames_are_raw_while_a_first_blur_is_searched_for(pipeline):
    solve = pipeline._identification.estimator._solve

    def refused(problem):
        solution = solve(problem)
        estimate = dataclasses.replace(
            solution.estimate, trusted=False, reason="refused"
        )
        return dataclasses.replace(solution, estimate=estimate)

    pipeline._identification.estimator._solve = refused
    pipeline.let_through.release()
    first = submitted(pipeline, 0, 0.0, "live")
    assert first.reason == "the blur is not known yet: refused"
    for i, seconds in enumerate((0.95, 1.1, 2.05)):
        result = submitted(pipeline, i + 1, seconds, "live")
        assert result.state is FrameState.RAW_ONLY
    assert result.reason == "the blur is not known yet: it is being identified"


@pytest.mark.parametrize("source", ["replay", "snap", ""])
def test_other_frames_are_deblurred_with_their_own_estimate(pipeline, source):
    """So that a recording gives the same result on any computer."""
    pipeline.let_through.release(9)
    results = [submitted(pipeline, i, 0.5 * i, source) for i in range(5)]
    assert [r.estimate is not None for r in results] == [True, False] * 2 + [True]
    assert [r.track.time for r in results] == [0.0, 0.0, 1.0, 1.0, 2.0]
    assert set(pipeline.solved_on) == {threading.current_thread().name}


def test_slow_frames_of_a_camera_are_each_identified(pipeline):
    pipeline.let_through.release(9)
    for i in range(3):
        result = submitted(pipeline, i, 60.0 * i, "mda")
        assert result.track.time == 60 * i


def test_frames_are_not_slow_because_one_has_waited(pipeline, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(
        "deepblur_live.runtime.stream_identification.time.perf_counter", lambda: now[0]
    )
    solve = pipeline._identification.estimator._solve

    def in_four_seconds(problem):
        now[0] += 4
        return solve(problem)

    pipeline._identification.estimator._solve = in_four_seconds
    pipeline.let_through.release()
    assert submitted(pipeline, 0, 0.0, "live").estimate is not None
    # Nothing lets this one through: a frame that waited would fail.
    late = submitted(pipeline, 1, 4.3, "live")
    assert late.state is FrameState.DEBLURRED
    assert late.estimate is None


@contextmanager
def solved_beside(solve, threads):
    """An estimator with a problem, begun while torch has a number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    estimator = AsyncEstimator(solve)
    try:
        estimator.start(0.0, "problem", background=True)
        yield estimator
    finally:
        estimator.close()
        torch.set_num_threads(before)


def test_the_thread_leaves_the_cores_to_the_frames(monkeypatch):
    monkeypatch.setattr("deepblur_live.runtime.async_estimator.usable_cores", lambda: 3)
    found = {}

    def solve(problem):
        found["threads"] = torch.get_num_threads()
        if sys.platform == "linux":
            thread = threading.get_native_id()
            found["nice"] = os.getpriority(os.PRIO_PROCESS, thread)
        return problem

    with solved_beside(solve, 2) as estimator:
        assert estimator.take(wait=True) == (0.0, "problem")
        assert found["threads"] == 1
        assert torch.get_num_threads() == 2
        # Threads that start later compute on as many cores as before.
        later = threading.Thread(
            target=lambda: found.update(later=torch.get_num_threads())
        )
        later.start()
        later.join(10)
        assert found["later"] == 2
    if sys.platform == "linux":
        own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        assert found["nice"] > own or own == 19


def test_frames_on_all_cores_pause_the_thread():
    steps, stop = [], threading.Event()

    def solve(problem):
        while not stop.wait(0.001):
            steps.append(torch.ones(1))
        return problem

    def moves_on():
        before = len(steps)
        return any(stop.wait(0.01) or len(steps) > before + 1 for _ in range(50))

    with solved_beside(solve, usable_cores()) as estimator:
        assert moves_on()
        for _ in range(2):
            estimator.begin_frame()
            assert not moves_on()
            estimator.end_frame()
            assert moves_on()
        # It has had no time since the last frame, which took a while.
        estimator.begin_frame()
        time.sleep(0.4)
        estimator.end_frame()
        began = time.perf_counter()
        estimator.begin_frame()
        assert time.perf_counter() - began > 0.08
        assert not moves_on()
        # Who needs the solution lets it go on.
        stop.set()
        assert estimator.take(wait=True) == (0.0, "problem")


def test_a_pause_ends_by_itself(monkeypatch):
    monkeypatch.setattr("deepblur_live.runtime.async_estimator._LONGEST_PAUSE_S", 0.01)
    started = threading.Event()

    def solve(problem):
        assert started.wait(30)
        torch.ones(1)
        return problem

    with solved_beside(solve, usable_cores()) as estimator:
        estimator.begin_frame()
        started.set()
        estimator._pending[1].result(30)


def test_each_frame_of_a_camera_pauses_the_identification(pipeline, monkeypatch):
    estimator, calls = pipeline._identification.estimator, []
    monkeypatch.setattr(estimator, "begin_frame", lambda: calls.append("begin"))
    monkeypatch.setattr(estimator, "end_frame", lambda: calls.append("end"))
    pipeline.let_through.release(9)
    for number, source in enumerate(("live", "mda", "replay", "snap")):
        submitted(pipeline, number, 0.1 * number, source)
    assert calls == ["begin", "end"] * 2
    # A frame that cannot be used, too.
    frame = Frame(np.zeros((128, 128), np.uint16), 9, 9.0, "live")
    assert pipeline.submit(frame).result().state is FrameState.RAW_ONLY
    assert calls == ["begin", "end"] * 3
