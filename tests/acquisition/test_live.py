"""The live tap alone, on a core that the test controls step by step."""

from types import SimpleNamespace

import numpy as np
import pytest

from deepblur_live.acquisition.live import LiveTap
from deepblur_live.acquisition.missed import Missed


class SteppedCore:
    """The part of a core that the tap uses."""

    def __init__(self) -> None:
        self.running = False
        self.in_mda = False
        self.count = 0
        self.frame: tuple[np.ndarray, dict[str, str]] | None = None
        self.peeks = 0
        self.refuses = False
        self.mda = SimpleNamespace(is_running=lambda: self.in_mda)

    def isSequenceRunning(self) -> bool:
        if self.refuses:
            raise RuntimeError("device is gone")
        return self.running

    def getRemainingImageCount(self) -> int:
        return self.count

    def getBufferTotalCapacity(self) -> int:
        return 100

    def getExposure(self) -> float:
        return 20.0

    def getCameraDevice(self) -> str:
        return "Kinetix"

    def getLastImageAndMD(self):
        self.peeks += 1
        if self.frame is None:
            raise IndexError("Circular buffer is empty.")
        return self.frame

    def make(self, number: int | None, *, shape=(4, 5), camera="Kinetix") -> None:
        tags = {"Camera": camera}
        if number is not None:
            tags["ImageNumber"] = str(number)
        self.frame = np.zeros(shape, np.uint16), tags
        self.count += 1


class Bench:
    """A tap over that core, with its own clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.core = SteppedCore()
        self.frames: list[tuple[np.ndarray, dict]] = []
        self.missed: list[Missed] = []
        self.errors: list[str] = []
        self.tap = LiveTap(
            self.core,
            lambda pixels, metadata: self.frames.append((pixels, metadata)),
            on_missed=self.missed.append,
            on_error=self.errors.append,
            stale_after_s=10.0,
            clock=lambda: self.now,
        )

    def poll(self, after: float = 0.001) -> float:
        self.now += after
        return self.tap.step()

    @property
    def numbers(self) -> list[int]:
        return [metadata["image_number"] for _, metadata in self.frames]


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.core.running = True
    return bench


def test_each_frame_is_seen_once_and_gaps_are_counted(bench: Bench) -> None:
    for number in (0, 1, 2, 5, 6):
        bench.core.make(number)
        for _ in range(4):
            bench.poll()
    assert bench.numbers == [0, 1, 2, 5, 6]
    assert bench.missed == [Missed(unread=2)]
    assert bench.frames[0][1] == {
        "exposure_ms": 20.0,
        "camera": "Kinetix",
        "image_number": 0,
    }
    assert bench.errors == []


def test_a_frame_is_not_copied_at_every_poll(bench: Bench) -> None:
    bench.core.make(0)
    for _ in range(20):  # one exposure of 20 ms
        bench.poll()
    assert bench.core.peeks <= 3


def test_a_full_buffer_keeps_its_count_and_frames_are_still_seen(bench: Bench) -> None:
    for number in range(10):
        bench.core.make(number)
        bench.core.count = 7
        bench.poll(0.02)
    assert bench.numbers == list(range(10))


def test_an_emptied_buffer_and_a_restart_are_not_gaps(bench: Bench) -> None:
    bench.core.make(41)
    bench.poll()
    bench.core.frame, bench.core.count = None, 3
    bench.poll()
    bench.core.count = 0
    bench.core.make(0)
    bench.poll()
    assert bench.numbers == [41, 0]
    assert bench.missed == []
    assert bench.errors == []


def test_the_first_frame_of_a_sequence_already_running_is_not_a_gap(
    bench: Bench,
) -> None:
    bench.core.make(500)
    bench.poll()
    assert bench.missed == []


def test_the_geometry_is_that_of_each_frame(bench: Bench) -> None:
    bench.core.make(0)
    bench.poll()
    bench.core.make(1, shape=(2, 3))
    bench.poll()
    assert [pixels.shape for pixels, _ in bench.frames] == [(4, 5), (2, 3)]


def test_a_frame_whose_size_differs_from_its_tags_is_ignored(bench: Bench) -> None:
    bench.core.make(0)
    bench.poll()
    bench.core.make(1, shape=(2, 3))
    bench.core.frame[1].update(Width="5", Height="4")
    bench.poll()
    bench.core.make(2, shape=(2, 3))
    bench.core.frame[1].update(Width="3", Height="2")
    bench.poll()
    assert [pixels.shape for pixels, _ in bench.frames] == [(4, 5), (2, 3)]
    assert bench.numbers == [0, 2]
    assert bench.missed == [Missed(unread=1)]
    assert bench.errors == []


def test_each_camera_has_its_own_numbering(bench: Bench) -> None:
    for number in range(3):
        for camera in ("left", "right"):
            bench.core.make(number, camera=camera)
            bench.poll()
    assert bench.numbers == [0, 0, 1, 1, 2, 2]
    assert bench.missed == []


def test_frames_without_numbers_are_recognised_by_the_count(bench: Bench) -> None:
    for _ in range(3):
        bench.core.make(None)
        for _ in range(40):
            bench.poll()
    assert len(bench.frames) == 3


def test_an_image_whose_camera_was_unloaded_is_not_an_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> None:
        raise SystemError("returned NULL without setting an exception")

    bench.core.make(0)
    monkeypatch.setattr(bench.core, "getLastImageAndMD", gone)
    bench.poll()
    monkeypatch.undo()
    bench.core.make(1)
    bench.poll()
    assert bench.numbers == [1]
    assert bench.errors == []


def test_a_late_start_event_is_not_another_sequence(bench: Bench) -> None:
    bench.core.make(0)
    bench.poll()
    bench.tap.sequence_began(continuous=True)
    bench.poll()
    assert bench.numbers == [0]
    # The next one that is reported is another one, with the same numbers.
    bench.tap.sequence_began(continuous=True)
    bench.poll()
    assert bench.numbers == [0, 0]


def test_the_sequence_after_one_without_events_is_complete(bench: Bench) -> None:
    bench.core.make(0)
    bench.poll()
    bench.core.running = False
    bench.poll(1)
    bench.tap.sequence_began()
    bench.poll()
    assert bench.numbers == [0, 0]


def test_it_pauses_during_an_mda(bench: Bench) -> None:
    bench.core.in_mda = True
    bench.core.make(0)
    bench.tap.sequence_began()
    assert bench.poll() > 0.1
    assert bench.core.peeks == 0
    bench.core.in_mda = False
    bench.poll()
    assert bench.numbers == [0]


def test_silence_is_reported_once_with_the_camera_and_ends_by_itself(
    bench: Bench,
) -> None:
    bench.core.make(0)
    bench.poll()
    bench.poll(10.0)
    assert bench.errors == []  # exposure and 10 s are not over yet
    bench.poll(0.1)
    bench.poll(30.0)
    assert len(bench.errors) == 1
    assert "'Kinetix' sends no frames" in bench.errors[0]
    bench.core.make(1)
    bench.poll()
    assert bench.numbers == [0, 1]
    bench.poll(11)
    assert len(bench.errors) == 2


def test_a_core_that_refuses_every_call_is_silent_too(bench: Bench) -> None:
    bench.poll()
    bench.core.refuses = True
    bench.poll(5)
    assert bench.errors == []
    bench.poll(6)
    bench.poll(6)
    assert len(bench.errors) == 1


def test_a_short_series_that_ended_before_the_poll_is_read(bench: Bench) -> None:
    bench.core.running = False
    bench.poll()
    bench.core.make(9)
    bench.tap.sequence_began()
    bench.poll()
    assert bench.numbers == [9]
    bench.poll(1)
    bench.poll(1)
    assert bench.errors == []


@pytest.mark.parametrize("stopped", [True, False])
def test_live_mode_that_ends_by_itself_is_reported(bench: Bench, stopped: bool) -> None:
    bench.tap.sequence_began(continuous=True)
    bench.core.make(0)
    bench.poll()
    bench.core.make(1)
    bench.core.running = False
    bench.poll(0.1)
    assert bench.numbers == [0, 1]  # the last one is not lost
    if stopped:
        bench.tap.sequence_stopped()
    bench.poll(1)
    bench.poll(1)
    assert ["ended live mode by itself" in e for e in bench.errors] == [True] * (
        not stopped
    )


def test_an_unexpected_error_is_reported_once_and_the_thread_continues(
    bench: Bench,
) -> None:
    bench.core.getExposure = lambda: 1 / 0
    tap = bench.tap
    tap.start()
    for _ in range(200):
        if bench.errors:
            break
        tap._wake.wait(0.01)
    del bench.core.getExposure
    bench.core.make(3)
    tap.sequence_began()
    for _ in range(200):
        if bench.frames:
            break
        tap._stop.wait(0.01)
    tap.stop()
    assert len(bench.errors) == 1
    assert "ZeroDivisionError" in bench.errors[0]
    assert bench.numbers == [3]
