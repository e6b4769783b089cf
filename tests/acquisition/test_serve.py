"""The worker's loop by itself: in what order frames are begun and answered."""

import functools
import multiprocessing
import pickle
import threading
import time

import numpy as np
import pytest

from deepblur_live.acquisition.worker import Ready, Task, serve
from deepblur_live.runtime.frame import Frame, FrameResult, FrameState, UnderWay

SHAPE = (4, 6)
BYTES = 24 * 4


class Card:
    """A pipeline whose frames are there at once, or when they are waited for."""

    def __init__(self, log, *, there=False, fails=()):
        self.log, self.there, self.fails = log, there, fails

    def _step(self, name, number):
        self.log.append(f"{name} {number}")
        if f"{name} {number}" in self.fails:
            raise RuntimeError("the card is gone")

    def begin(self, frame: Frame) -> UnderWay:
        self._step("begin", frame.number)
        return UnderWay(
            functools.partial(self.finish, frame),
            functools.partial(self.is_there, frame),
        )

    def is_there(self, frame):
        if f"ask {frame.number}" in self.fails:
            raise RuntimeError("the card is gone")
        return self.there

    def finish(self, frame):
        self._step("finish", frame.number)
        sharp = frame.pixels.astype(np.float32) + 0.5
        return FrameResult(frame, FrameState.DEBLURRED, deblurred=sharp)

    def close(self):
        self.log.append("close")


class Blocks:
    """Shared memory that lets go of a block when another is opened."""

    def __init__(self):
        self.bytes, self.open_now = {}, None

    def open(self, name):
        if name != self.open_now:
            self.open_now = name
            self.bytes[name] = bytearray(2 * BYTES)
        return memoryview(self.bytes[name])


def run(pipeline, blocks):
    """Serve a frame in each of `blocks`, all there from the start; return replies."""
    tasks_in, tasks = multiprocessing.Pipe(duplex=False)
    replies, replies_out = multiprocessing.Pipe(duplex=False)
    memory = Blocks()
    for number, block in enumerate(blocks):
        tasks.send(Task(number, 0.1, "test", {}, "u2", SHAPE, block, 0, BYTES, BYTES))
    tasks.send(None)
    serve(tasks_in, replies_out, lambda: pipeline, memory.open)
    assert isinstance(replies.recv(), Ready)
    answers = []
    for _ in blocks:
        answers.append(pickle.loads(replies.recv_bytes()))
    assert [answer.number for answer in answers] == list(range(len(blocks)))
    with pytest.raises(EOFError):
        replies.recv()
    return answers, memory


def test_a_frame_is_begun_while_the_one_before_is_on_the_card():
    log = []
    answers, memory = run(Card(log), ["a", "a", "a"])
    expected = "begin 0, begin 1, finish 0, begin 2, finish 1, finish 2, close"
    assert log == expected.split(", ")
    assert {answer.state for answer in answers} == {FrameState.DEBLURRED}
    assert {answer.deblurred for answer in answers} == {SHAPE}
    result = np.ndarray(SHAPE, np.float32, memory.bytes["a"], BYTES)
    assert (result == 0.5).all()


def test_all_that_a_frame_took_is_told():
    class Slow(Card):
        def begin(self, frame):
            time.sleep(0.05)
            return super().begin(frame)

        def finish(self, frame):
            time.sleep(0.03)
            return super().finish(frame)

    answers, _ = run(Slow([]), ["a", "a"])
    for answer in answers:
        assert 80 <= answer.busy_ms < 5000


@pytest.mark.parametrize(("overlaps", "at_once"), [(False, 2), (True, 3)])
def test_a_worker_says_how_many_frames_it_makes_use_of(overlaps, at_once):
    card = Card([])
    card.overlaps = overlaps
    tasks_in, tasks = multiprocessing.Pipe(duplex=False)
    replies, replies_out = multiprocessing.Pipe(duplex=False)
    tasks.send(None)
    serve(tasks_in, replies_out, lambda: card, Blocks().open)
    assert replies.recv() == Ready(at_once)


def test_what_is_there_is_answered_before_the_next_is_begun():
    log = []
    run(Card(log, there=True), ["a", "a"])
    assert log == ["begin 0", "finish 0", "begin 1", "finish 1", "close"]


def test_a_result_goes_to_its_block_before_another_is_opened():
    log = []
    run(Card(log), ["a", "a", "b"])
    expected = "begin 0, begin 1, finish 0, finish 1, begin 2, finish 2, close"
    assert log == expected.split(", ")


@pytest.mark.parametrize("step", ["begin 1", "ask 1", "finish 1"])
def test_what_fails_is_answered_in_its_place(step):
    answers, _ = run(Card([], fails=[step]), ["a", "a", "a"])
    failed = [answer.number for answer in answers if answer.error]
    # Asked in vain whether it is there, a frame is waited for.
    assert failed == ([] if step == "ask 1" else [1])
    for number in failed:
        assert answers[number].state is FrameState.RAW_ONLY
        assert "the card is gone" in answers[number].reason


def test_a_worker_whose_card_is_lost_ends_after_its_answer():
    class Lost(Card):
        def finish(self, frame):
            self.lost = frame.number == 1
            return super().finish(frame)

    log = []
    tasks_in, tasks = multiprocessing.Pipe(duplex=False)
    replies, replies_out = multiprocessing.Pipe(duplex=False)
    for number in range(4):
        tasks.send(Task(number, 0.1, "test", {}, "u2", SHAPE, "a", 0, BYTES, BYTES))
    with pytest.raises(SystemExit, match="the card has failed"):
        serve(tasks_in, replies_out, lambda: Lost(log), Blocks().open)
    assert log[-2:] == ["finish 1", "close"]
    assert isinstance(replies.recv(), Ready)
    for number in (0, 1):
        assert pickle.loads(replies.recv_bytes()).number == number
    with pytest.raises(EOFError):
        replies.recv()


def test_a_frame_is_not_held_back_while_no_other_waits():
    tasks_in, tasks = multiprocessing.Pipe(duplex=False)
    replies, replies_out = multiprocessing.Pipe(duplex=False)
    log, ended = [], threading.Event()

    def end():
        if not ended.is_set():
            ended.set()
            tasks.send(None)

    class Lonely(Card):
        def finish(self, frame):
            self.log.append("too late" if ended.is_set() else "in time")
            end()
            return super().finish(frame)

    # Held back it would be until something comes.
    late = threading.Timer(10, end)
    late.start()
    tasks.send(Task(0, 0.1, "test", {}, "u2", SHAPE, "a", 0, BYTES, BYTES))
    serve(tasks_in, replies_out, lambda: Lonely(log), Blocks().open)
    late.cancel()
    late.join(10)
    assert log == ["begin 0", "in time", "finish 0", "close"]
    assert isinstance(replies.recv(), Ready)
    assert pickle.loads(replies.recv_bytes()).state is FrameState.DEBLURRED
