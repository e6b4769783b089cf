"""The worker's loop alone: the order in which frames are submitted and collected."""

import multiprocessing
import pickle
import threading
import time

import numpy as np
import pytest

from deepblur_live.acquisition.block import SlotAddress
from deepblur_live.acquisition.worker import Ready, Task, serve
from deepblur_live.runtime.frame import (
    DeviceLost,
    Frame,
    FrameInfo,
    FrameResult,
    FrameState,
)

SHAPE = (4, 6)
BYTES = 24 * 4


def task(number, block="a"):
    info = FrameInfo(number, 0.1, "test", {}, "u2", SHAPE)
    return Task(info, SlotAddress(block, 0, BYTES, BYTES))


class Card:
    """A pipeline whose frames are done at once, or when they are collected."""

    error = RuntimeError

    def __init__(self, log, *, done=False, fails=()):
        self.log, self.done, self.fails = log, done, fails

    def step(self, name, number):
        self.log.append(f"{name} {number}")
        if f"{name} {number}" in self.fails:
            raise self.error("the card is gone")

    def submit(self, frame: Frame):
        self.step("submit", frame.number)
        return OnCard(self, frame)

    def collect(self, frame):
        self.step("collect", frame.number)
        return FrameResult(
            frame.info,
            FrameState.DEBLURRED,
            raw=frame.pixels,
            deblurred=frame.pixels.astype(np.float32) + 0.5,
        )

    def close(self):
        self.log.append("close")


class OnCard:
    def __init__(self, card, frame):
        self.card, self.frame = card, frame

    def done(self):
        if f"query {self.frame.number}" in self.card.fails:
            raise RuntimeError("the card is gone")
        return self.card.done

    def result(self):
        return self.card.collect(self.frame)


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
        tasks.send(task(number, block))
    tasks.send(None)
    serve(tasks_in, replies_out, lambda: pipeline, memory.open)
    assert isinstance(replies.recv(), Ready)
    answers = []
    for _ in blocks:
        answers.append(pickle.loads(replies.recv_bytes()))
    assert [answer.outcome.info.number for answer in answers] == list(
        range(len(blocks))
    )
    with pytest.raises(EOFError):
        replies.recv()
    return answers, memory


def test_a_frame_is_submitted_while_the_one_before_is_on_the_card():
    log = []
    answers, memory = run(Card(log), ["a", "a", "a"])
    expected = "submit 0, submit 1, collect 0, submit 2, collect 1, collect 2, close"
    assert log == expected.split(", ")
    assert {answer.outcome.state for answer in answers} == {FrameState.DEBLURRED}
    assert {answer.deblurred for answer in answers} == {SHAPE}
    result = np.ndarray(SHAPE, np.float32, memory.bytes["a"], BYTES)
    assert (result == 0.5).all()


def test_the_time_spent_on_a_frame_is_reported():
    class Slow(Card):
        def submit(self, frame):
            time.sleep(0.05)
            return super().submit(frame)

        def collect(self, frame):
            time.sleep(0.03)
            return super().collect(frame)

    answers, _ = run(Slow([]), ["a", "a"])
    for answer in answers:
        assert 80 <= answer.busy_ms < 5000


@pytest.mark.parametrize("done", [False, True])
def test_a_reply_says_whether_frames_overlap(done):
    answers, _ = run(Card([], done=done), ["a"])
    assert answers[0].overlapped is not done


def test_a_finished_frame_is_collected_before_the_next_is_submitted():
    log = []
    run(Card(log, done=True), ["a", "a"])
    assert log == ["submit 0", "collect 0", "submit 1", "collect 1", "close"]


def test_a_result_goes_to_its_block_before_another_is_opened():
    log = []
    run(Card(log), ["a", "a", "b"])
    expected = "submit 0, submit 1, collect 0, collect 1, submit 2, collect 2, close"
    assert log == expected.split(", ")


@pytest.mark.parametrize("step", ["submit 1", "query 1", "collect 1"])
def test_a_failure_is_the_reply_to_its_own_frame(step):
    answers, _ = run(Card([], fails=[step]), ["a", "a", "a"])
    failed = [answer.outcome.info.number for answer in answers if answer.error]
    # A frame whose state cannot be queried is waited for.
    assert failed == ([] if step == "query 1" else [1])
    for number in failed:
        assert answers[number].outcome.state is FrameState.RAW_ONLY
        assert "the card is gone" in answers[number].outcome.reason


@pytest.mark.parametrize("step", ["submit 1", "collect 1"])
def test_a_worker_whose_device_is_lost_ends_after_its_reply(step):
    class Lost(Card):
        error = DeviceLost

    log = []
    tasks_in, tasks = multiprocessing.Pipe(duplex=False)
    replies, replies_out = multiprocessing.Pipe(duplex=False)
    for number in range(4):
        tasks.send(task(number))
    with pytest.raises(SystemExit, match="the device has failed"):
        serve(tasks_in, replies_out, lambda: Lost(log, fails=[step]), Blocks().open)
    assert "submit 3" not in log
    assert log[-1] == "close"
    assert isinstance(replies.recv(), Ready)
    for number in (0, 1):
        reply = pickle.loads(replies.recv_bytes())
        assert reply.outcome.info.number == number
        assert bool(reply.error) == (number == 1)
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
        def collect(self, frame):
            self.log.append("too late" if ended.is_set() else "in time")
            end()
            return super().collect(frame)

    # If it were held back, it would be until something comes.
    late = threading.Timer(10, end)
    late.start()
    tasks.send(task(0))
    serve(tasks_in, replies_out, lambda: Lonely(log), Blocks().open)
    late.cancel()
    late.join(10)
    assert log == ["submit 0", "in time", "collect 0", "close"]
    assert isinstance(replies.recv(), Ready)
    assert pickle.loads(replies.recv_bytes()).outcome.state is FrameState.DEBLURRED
