"""The tap's rules, on a core that the test moves by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from deepblur_live.acquisition.live import LiveTap


class HandMovedCore:
    """As much of a core as the tap looks at."""

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


class Watch:
    """A tap over that core, with a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.core = HandMovedCore()
        self.frames: list[tuple[np.ndarray, dict]] = []
        self.gaps: list[int] = []
        self.errors: list[str] = []
        self.tap = LiveTap(
            self.core,
            lambda pixels, metadata: self.frames.append((pixels, metadata)),
            on_gap=self.gaps.append,
            on_error=self.errors.append,
            stale_after_s=10.0,
            clock=lambda: self.now,
        )

    def look(self, after: float = 0.001) -> float:
        self.now += after
        return self.tap.step()

    @property
    def numbers(self) -> list[int]:
        return [metadata["image_number"] for _, metadata in self.frames]


@pytest.fixture
def watch() -> Watch:
    watch = Watch()
    watch.core.running = True
    return watch


def test_each_frame_is_seen_once_and_gaps_are_counted(watch: Watch) -> None:
    for number in (0, 1, 2, 5, 6):
        watch.core.make(number)
        for _ in range(4):
            watch.look()
    assert watch.numbers == [0, 1, 2, 5, 6]
    assert watch.gaps == [2]
    assert watch.frames[0][1] == {
        "exposure_ms": 20.0,
        "camera": "Kinetix",
        "image_number": 0,
    }
    assert watch.errors == []


def test_a_frame_is_not_copied_at_every_look(watch: Watch) -> None:
    watch.core.make(0)
    for _ in range(20):  # one exposure of 20 ms
        watch.look()
    assert watch.core.peeks <= 3


def test_a_full_buffer_keeps_its_count_and_frames_are_still_seen(watch: Watch) -> None:
    for number in range(10):
        watch.core.make(number)
        watch.core.count = 7
        watch.look(0.02)
    assert watch.numbers == list(range(10))


def test_an_emptied_buffer_and_a_restart_are_no_gap(watch: Watch) -> None:
    watch.core.make(41)
    watch.look()
    watch.core.frame, watch.core.count = None, 3
    watch.look()
    watch.core.count = 0
    watch.core.make(0)
    watch.look()
    assert watch.numbers == [41, 0]
    assert watch.gaps == []
    assert watch.errors == []


def test_the_first_frame_of_a_sequence_already_running_is_no_gap(watch: Watch) -> None:
    watch.core.make(500)
    watch.look()
    assert watch.gaps == []


def test_the_geometry_is_that_of_each_frame(watch: Watch) -> None:
    watch.core.make(0)
    watch.look()
    watch.core.make(1, shape=(2, 3))
    watch.look()
    assert [pixels.shape for pixels, _ in watch.frames] == [(4, 5), (2, 3)]


def test_a_frame_of_another_size_than_its_tags_is_not_one(watch: Watch) -> None:
    watch.core.make(0)
    watch.look()
    watch.core.make(1, shape=(2, 3))
    watch.core.frame[1].update(Width="5", Height="4")
    watch.look()
    watch.core.make(2, shape=(2, 3))
    watch.core.frame[1].update(Width="3", Height="2")
    watch.look()
    assert [pixels.shape for pixels, _ in watch.frames] == [(4, 5), (2, 3)]
    assert watch.numbers == [0, 2]
    assert watch.gaps == [1]
    assert watch.errors == []


def test_two_cameras_count_for_themselves(watch: Watch) -> None:
    for number in range(3):
        for camera in ("left", "right"):
            watch.core.make(number, camera=camera)
            watch.look()
    assert watch.numbers == [0, 0, 1, 1, 2, 2]
    assert watch.gaps == []


def test_frames_without_numbers_are_told_by_the_count(watch: Watch) -> None:
    for _ in range(3):
        watch.core.make(None)
        for _ in range(40):
            watch.look()
    assert len(watch.frames) == 3


def test_an_image_whose_camera_was_unloaded_is_no_error(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> None:
        raise SystemError("returned NULL without setting an exception")

    watch.core.make(0)
    monkeypatch.setattr(watch.core, "getLastImageAndMD", gone)
    watch.look()
    monkeypatch.undo()
    watch.core.make(1)
    watch.look()
    assert watch.numbers == [1]
    assert watch.errors == []


def test_a_start_that_is_told_late_is_no_other_sequence(watch: Watch) -> None:
    watch.core.make(0)
    watch.look()
    watch.tap.sequence_began(continuous=True)
    watch.look()
    assert watch.numbers == [0]
    # The next one that is told is another one, with the same numbers.
    watch.tap.sequence_began(continuous=True)
    watch.look()
    assert watch.numbers == [0, 0]


def test_a_sequence_that_ended_untold_leaves_the_next_one_whole(watch: Watch) -> None:
    watch.core.make(0)
    watch.look()
    watch.core.running = False
    watch.look(1)
    watch.tap.sequence_began()
    watch.look()
    assert watch.numbers == [0, 0]


def test_it_rests_while_an_mda_runs(watch: Watch) -> None:
    watch.core.in_mda = True
    watch.core.make(0)
    watch.tap.sequence_began()
    assert watch.look() > 0.1
    assert watch.core.peeks == 0
    watch.core.in_mda = False
    watch.look()
    assert watch.numbers == [0]


def test_silence_is_said_once_names_the_camera_and_ends_by_itself(watch: Watch) -> None:
    watch.core.make(0)
    watch.look()
    watch.look(10.0)
    assert watch.errors == []  # exposure and 10 s are not over yet
    watch.look(0.1)
    watch.look(30.0)
    assert len(watch.errors) == 1
    assert "'Kinetix' sends no frames" in watch.errors[0]
    watch.core.make(1)
    watch.look()
    assert watch.numbers == [0, 1]
    watch.look(11)
    assert len(watch.errors) == 2


def test_a_core_that_refuses_every_call_is_silent_too(watch: Watch) -> None:
    watch.look()
    watch.core.refuses = True
    watch.look(5)
    assert watch.errors == []
    watch.look(6)
    watch.look(6)
    assert len(watch.errors) == 1


def test_a_short_series_that_ended_before_the_look_is_seen(watch: Watch) -> None:
    watch.core.running = False
    watch.look()
    watch.core.make(9)
    watch.tap.sequence_began()
    watch.look()
    assert watch.numbers == [9]
    watch.look(1)
    watch.look(1)
    assert watch.errors == []


@pytest.mark.parametrize("stopped", [True, False])
def test_live_mode_that_ends_by_itself_is_told(watch: Watch, stopped: bool) -> None:
    watch.tap.sequence_began(continuous=True)
    watch.core.make(0)
    watch.look()
    watch.core.make(1)
    watch.core.running = False
    watch.look(0.1)
    assert watch.numbers == [0, 1]  # the last one is not lost
    if stopped:
        watch.tap.sequence_stopped()
    watch.look(1)
    watch.look(1)
    assert ["ended live mode by itself" in e for e in watch.errors] == [True] * (
        not stopped
    )


def test_an_unexpected_error_is_told_once_and_the_thread_goes_on(watch: Watch) -> None:
    watch.core.getExposure = lambda: 1 / 0
    tap = watch.tap
    tap.start()
    for _ in range(200):
        if watch.errors:
            break
        tap._wake.wait(0.01)
    del watch.core.getExposure
    watch.core.make(3)
    tap.sequence_began()
    for _ in range(200):
        if watch.frames:
            break
        tap._stop.wait(0.01)
    tap.stop()
    assert len(watch.errors) == 1
    assert "ZeroDivisionError" in watch.errors[0]
    assert watch.numbers == [3]
