"""Why live frames did not reach the listener."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest
from echo_pipeline import Echo

from deepblur_live.acquisition import DeblurListener
from deepblur_live.acquisition.live import LiveTap
from deepblur_live.acquisition.missed import CameraNumbers, Missed, classify


@pytest.mark.parametrize(
    ("missing", "before", "now", "more", "what"),
    [
        # All of them are still there: the reader was late.
        (4, 3, 8, {}, Missed(unread=4)),
        # None or some are there, though all would have had room.
        (4, 3, 1, {}, Missed(taken=4)),
        (4, 3, 3, {}, Missed(taken=2, unread=2)),
        # More came than there was room for.
        (9, 95, 1, {}, Missed(overwritten=9)),
        (9, 95, 5, {}, Missed(overwritten=5, unread=4)),
        # It would just have been full.
        (4, 94, 1, {}, Missed(taken=4)),
        (4, 95, 1, {}, Missed(overwritten=4)),
        # Where both are possible, neither is claimed.
        (9, 95, 1, {"read": True}, Missed(unknown=9)),
        (9, 3, 1, {"capacity": 0}, Missed(unknown=9)),
        # The count of the buffer is that of all cameras.
        (4, 3, 8, {"shared": True}, Missed(unknown=4)),
        # The last one was taken between two calls.
        (2, 3, 0, {}, Missed(taken=2)),
    ],
)
def test_classify(missing, before, now, more, what) -> None:
    options = {"capacity": 100, "shared": False, "read": False} | more
    assert classify(missing, before, now, **options) == what
    assert what.total == missing


def test_missed_frames_add_up_and_are_named() -> None:
    missed = Missed(taken=3) + Missed(taken=1, unread=2) + Missed()
    assert missed == Missed(taken=4, unread=2)
    assert missed.total == 6
    assert missed.text == "4 taken by another reader, 2 not read in time"
    assert Missed().text == ""


def test_a_cameras_own_numbers_show_what_it_did_not_send() -> None:
    numbers = CameraNumbers()

    def at(number: int, own: object, tag: str = "PVCAM-FMD-FrameNr") -> int:
        return numbers.not_sent("Prime", number, {tag: own})

    assert [at(n, str(100 + n)) for n in range(4)] == [0, 0, 0, 0]
    # Two inserted in between, of five that were exposed.
    assert at(6, "109") == 3
    assert at(7, "110") == 0
    numbers.clear()
    assert at(0, "1") == 0


@pytest.mark.parametrize("own", ["0", "-", ""])
def test_numbers_that_do_not_count_are_not_believed(own: str) -> None:
    numbers = CameraNumbers()
    tags = {"FrameCounter": own}
    assert {numbers.not_sent("Thor", n, tags) for n in range(9)} == {0}
    # A clock in a tag of that name: it never agreed with the core.
    times = [
        numbers.not_sent("Thor", n, {"FrameCounter": str(7 * n)}) for n in range(9)
    ]
    assert set(times) == {0}


class BufferCore:
    """The circular buffer of a core: numbered frames, the oldest first."""

    def __init__(self, capacity: int = 100) -> None:
        self.capacity = capacity
        self.buffer: deque[int] = deque()
        self.number = 0
        self.on_look = lambda: None
        self.mda = SimpleNamespace(is_running=lambda: False)

    def insert(self, n: int = 1) -> None:
        for _ in range(n):
            if len(self.buffer) == self.capacity:
                self.buffer.clear()
            self.buffer.append(self.number)
            self.number += 1

    def isSequenceRunning(self) -> bool:
        return True

    def getRemainingImageCount(self) -> int:
        return len(self.buffer)

    def getBufferTotalCapacity(self) -> int:
        return self.capacity

    def getExposure(self) -> float:
        return 20.0

    def getCameraDevice(self) -> str:
        return "Kinetix"

    def getLastImageAndMD(self):
        return self.getNBeforeLastImageAndMD(0)

    def getNBeforeLastImageAndMD(self, n: int):
        if n:
            self.on_look()
        if n >= len(self.buffer):
            raise IndexError("Circular buffer is empty.")
        number = self.buffer[-1 - n]
        tags = {"Camera": "Kinetix", "ImageNumber": str(number)}
        return np.full((4, 5), number, np.uint16), tags


class Bench:
    def __init__(self, capacity: int = 100, *, every: bool = False) -> None:
        self.core = BufferCore(capacity)
        self.numbers: list[int] = []
        self.missed = Missed()
        self.now = 0.0
        self.tap = LiveTap(
            self.core,
            self.deliver,
            on_missed=self.note,
            every=lambda: every,
            on_error=lambda text: pytest.fail(text),
            clock=lambda: self.now,
        )

    def deliver(self, pixels, metadata) -> None:
        assert (pixels == metadata["image_number"]).all()
        self.numbers.append(metadata["image_number"])

    def note(self, missed: Missed) -> None:
        self.missed += missed

    def insert_and_poll(self, n: int = 1) -> None:
        self.core.insert(n)
        self.now += 0.02
        self.tap.step()


def test_late_polls_are_distinguished_from_another_reader() -> None:
    bench = Bench()
    for _ in range(3):
        bench.insert_and_poll()
    bench.insert_and_poll(4)
    assert bench.missed == Missed(unread=3)
    bench.core.insert(4)
    for _ in range(9):
        bench.core.buffer.popleft()
    bench.insert_and_poll(2)
    # Eleven frames were made since, of which nine and more are gone.
    assert bench.numbers == [0, 1, 2, 6, 12]
    assert bench.missed.taken == 2 and bench.missed.overwritten == 0
    assert bench.missed.total + len(bench.numbers) == bench.core.number


def test_a_full_buffer_is_distinguished_from_another_reader() -> None:
    bench = Bench(capacity=8)
    bench.insert_and_poll(6)
    bench.insert_and_poll(5)
    # The first frame of a sequence joined late is not missed; 6 and 7 were lost with
    # the rest when the ninth did not fit, 8 and 9 are still there.
    assert bench.missed == Missed(overwritten=2, unread=2)


def test_every_frame_that_is_still_there_is_read_in_order() -> None:
    bench = Bench(every=True)
    bench.insert_and_poll()
    bench.insert_and_poll(5)
    assert bench.numbers == list(range(6))
    # Frames that come while it reads move the others back.
    looks = itertools.count()
    bench.core.on_look = lambda: bench.core.insert(next(looks) % 2)
    bench.insert_and_poll(4)
    assert bench.numbers == list(range(10))
    assert bench.core.number > 10
    bench.core.on_look = lambda: None
    bench.insert_and_poll(1)
    assert bench.numbers == list(range(bench.core.number))
    assert bench.missed == Missed()


def test_frames_taken_while_it_reads_are_missed() -> None:
    bench = Bench(every=True)
    bench.insert_and_poll()
    bench.core.on_look = bench.core.buffer.clear
    bench.insert_and_poll(4)
    assert bench.numbers == [0, 4]
    assert bench.missed.total == 3


def test_another_reader_of_a_real_core_is_distinguished_from_a_full_buffer(
    core, results
):
    core.setExposure(2)
    core.setCircularBufferMemoryFootprint(64)
    stop = threading.Event()

    def read() -> None:
        while not stop.wait(0.03):
            while core.getRemainingImageCount():
                core.popNextImage()

    reader = threading.Thread(target=read)
    with DeblurListener(Echo, in_process=True) as listener:
        results.listen(listener)
        with listener.attached(core):
            core.startContinuousSequenceAcquisition()
            reader.start()
            results.wait(lambda: listener.statistics.missed.taken > 0)
            stop.set()
            reader.join()
            core.stopSequenceAcquisition()
        missed = listener.statistics.missed
    # 128 frames fit: it is never full.
    assert missed.taken and not missed.overwritten and not missed.not_sent


def test_a_full_buffer_of_a_real_core(core) -> None:
    core.setExposure(1)
    core.setCircularBufferMemoryFootprint(2)
    missed, overwritten = [], threading.Event()

    def note(what: Missed) -> None:
        missed.append(what)
        if what.overwritten:
            overwritten.set()

    tap = LiveTap(
        core,
        # Four frames fit.
        lambda pixels, metadata: overwritten.wait(0.05),
        on_missed=note,
        on_error=lambda text: pytest.fail(text),
    )
    tap.start()
    core.startContinuousSequenceAcquisition()
    tap.sequence_began(continuous=True)
    assert overwritten.wait(10)
    core.stopSequenceAcquisition()
    tap.sequence_stopped()
    tap.stop()
    assert sum(what.taken for what in missed) == 0
