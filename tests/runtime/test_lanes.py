"""Which steps of a frame's way wait for which; the card is played."""

import contextlib

import pytest
import torch

from deepblur_live.runtime.lanes import Lanes


class Stream:
    """A CUDA stream that does nothing, and says what it is told to wait for."""

    made: list["Stream"]

    def __init__(self, device):
        self.number = len(Stream.made)
        Stream.made.append(self)
        self.log = []

    def wait_stream(self, other):
        self.log.append(f"waits for {other.number}")

    def record_event(self):
        return Event(self)


class Event:
    def __init__(self, stream):
        self.stream = stream

    def query(self):
        return f"asked of {self.stream.number}"

    def synchronize(self):
        self.stream.log.append("waited for")


@pytest.fixture
def streams(monkeypatch):
    Stream.made = []

    @contextlib.contextmanager
    def inside(stream):
        stream.log.append("in")
        yield
        stream.log.append("out")

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", inside)
    return Stream.made


def test_each_lane_waits_for_the_one_before_and_the_last_is_waited_for(streams):
    lanes = Lanes(torch.device("cuda"))
    up, deblurring, down = streams
    for lane in (lanes.up, lanes.deblurring, lanes.down):
        with lane():
            pass
    is_there, wait = lanes.landing()
    assert is_there() == "asked of 2"
    assert down.log == ["waits for 1", "in", "out"]
    wait()
    assert up.log == ["in", "out"]
    assert deblurring.log == ["waits for 0", "in", "out"]
    assert down.log[-1] == "waited for"


def test_on_the_processor_steps_are_simply_taken(streams):
    lanes = Lanes(torch.device("cpu"))
    taken = []
    for lane in (lanes.up, lanes.deblurring, lanes.down):
        with lane():
            taken.append(lane)
    is_there, wait = lanes.landing()
    assert is_there()
    wait()
    assert len(taken) == 3
    assert streams == []
