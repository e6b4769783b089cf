"""The simulated camera on a real core: snap, live, MDA, configuration, properties."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from pymmcore_plus import CMMCorePlus
from pymmcore_plus.experimental.unicore import UniMMCore
from useq import MDASequence

from deepblur_live.acquisition.simulated import (
    CAMERA_LABEL,
    SIMULATED_CONFIG,
    SimulatedCamera,
    simulated_core,
)
from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.acquisition.specimen import load_specimen
from deepblur_live.acquisition.truth import Truth, read_truth


@pytest.fixture(scope="module")
def sample() -> SimulatedSample:
    return SimulatedSample(load_specimen()[100:340, 100:340], shape=(128, 128))


@pytest.fixture
def core(sample: SimulatedSample) -> Iterator[UniMMCore]:
    core = simulated_core(sample, exposure_ms=2.0)
    yield core
    if core.isSequenceRunning():
        core.stopSequenceAcquisition()
    core.unloadAllDevices()


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait for a condition that another thread makes true."""
    pause, end = threading.Event(), time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited too long"
        pause.wait(0.002)


def truth_of(metadata: object) -> Truth:
    truth = read_truth(metadata)  # type: ignore[arg-type]
    assert truth is not None
    return truth


def acquire(core: CMMCorePlus, n: int) -> list[tuple[np.ndarray, Truth]]:
    """Run an MDA of n frames as fast as it goes.

    More than one, so that the engine runs them as a sequence: a lone event is a snap,
    and the core keeps no metadata of those.
    """
    assert n > 1
    frames: list[tuple[np.ndarray, Truth]] = []

    def keep(image: np.ndarray, _event: object, metadata: dict) -> None:
        frames.append((image.copy(), truth_of(metadata)))

    core.mda.events.frameReady.connect(keep)
    core.mda.run(MDASequence(time_plan={"interval": 0, "loops": n}))
    core.mda.events.frameReady.disconnect(keep)
    return frames


def test_mda_frames_are_their_truth_blurred(
    core: UniMMCore, sample: SimulatedSample
) -> None:
    frames = acquire(core, 12)
    assert len(frames) == 12
    times = [truth.time for _, truth in frames]
    assert times == sorted(set(times))
    for image, truth in frames:
        again = sample.frame(truth.time)
        np.testing.assert_array_equal(image, again.pixels)
        np.testing.assert_array_equal(truth.coefficients, again.coefficients)
        assert sample.truth_image(truth.time).shape == image.shape


def test_live_frames_carry_the_truth(core: UniMMCore, sample: SimulatedSample) -> None:
    core.startContinuousSequenceAcquisition(0)
    wait_until(lambda: core.getRemainingImageCount() >= 5)
    core.stopSequenceAcquisition()
    image, metadata = core.getLastImageAndMD()
    truth = truth_of(metadata)
    np.testing.assert_array_equal(image, sample.frame(truth.time).pixels)
    assert truth.time > 0


def test_live_roi_is_cut_from_the_frame(
    core: UniMMCore, sample: SimulatedSample
) -> None:
    core.setROI(16, 32, 64, 32)
    core.startContinuousSequenceAcquisition(0)
    wait_until(lambda: core.getRemainingImageCount() >= 2)
    core.stopSequenceAcquisition()
    image, metadata = core.getLastImageAndMD()
    whole = sample.frame(truth_of(metadata).time).pixels
    np.testing.assert_array_equal(image, whole[32:64, 16:80])


def test_snap(core: UniMMCore) -> None:
    image = core.snap()
    assert image.shape == (128, 128)
    assert image.dtype == np.uint16
    assert image.std() > 10
    assert core.getPixelSizeUm() == pytest.approx(0.1)


@pytest.mark.parametrize("exposure_ms", [5.0, 40.0])
def test_the_exposure_paces_the_frames(exposure_ms: float) -> None:
    """Drawing the frame counts as part of the exposure, in the camera's own time."""
    now = itertools.count(0.0, 0.001)  # every look at the clock takes a millisecond
    waited: list[float] = []
    camera = SimulatedCamera(
        SimulatedSample(load_specimen()[:240, :240], shape=(128, 128)),
        exposure_ms=exposure_ms,
        clock=lambda: next(now),
        wait=waited.append,
    )
    buffer = np.zeros((128, 128), np.uint16)
    first, second = camera.snap(buffer), camera.snap(buffer)
    assert waited == pytest.approx([exposure_ms / 1000 - 0.001] * 2)
    assert first["truth_time"] == 0.0
    assert second["truth_time"] == pytest.approx(0.002)
    assert all(type(value) is float for value in first["truth"])


def test_exposure_is_honoured_by_the_core(core: UniMMCore) -> None:
    core.setExposure(25.0)
    assert core.getExposure() == 25.0
    core.setProperty(CAMERA_LABEL, "Exposure", "30")
    assert core.getExposure() == 30.0
    times = [truth.time for _, truth in acquire(core, 6)]
    assert min(np.diff(times)) >= 0.029


@pytest.mark.parametrize("bad", [0.0, -1.0, 5000.0, float("nan")])
def test_an_exposure_out_of_range_is_refused(core: UniMMCore, bad: float) -> None:
    with pytest.raises(ValueError, match=r"0\.1 to 1500"):
        core.setExposure(bad)
    assert core.getExposure() == 2.0


def test_the_configuration_loads_and_gives_frames() -> None:
    core = UniMMCore()
    core.loadSystemConfiguration(SIMULATED_CONFIG)
    try:
        assert core.getCameraDevice() == CAMERA_LABEL
        assert core.getPixelSizeUm() == pytest.approx(0.1)
        assert core.getExposure() == 50.0
        core.setExposure(1.0)
        assert core.snap().shape == (512, 512)
        frames = acquire(core, 3)
        assert [image.shape for image, _ in frames] == [(512, 512)] * 3
        core.startContinuousSequenceAcquisition(0)
        wait_until(lambda: core.getRemainingImageCount() >= 3)
        core.stopSequenceAcquisition()
        assert truth_of(core.getLastImageAndMD()[1]).coefficients.shape == (8,)
    finally:
        core.unloadAllDevices()


class Clock:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def timed() -> Iterator[tuple[UniMMCore, SimulatedSample, Clock]]:
    sample = SimulatedSample(load_specimen()[:240, :240], shape=(128, 128))
    clock = Clock()
    core = simulated_core(sample, exposure_ms=500, clock=clock, wait=clock.wait)
    yield core, sample, clock
    core.unloadAllDevices()


def test_the_session_runs_on_the_injected_clock(timed) -> None:
    """Still, then an exponential approach, then the step: a minute in a moment."""
    core, sample, _ = timed
    frames = acquire(core, 130)
    times = np.array([truth.time for _, truth in frames])
    np.testing.assert_allclose(times, np.arange(130) * 0.5)
    gamma = np.array([truth.coefficients for _, truth in frames])
    change = sample.family.wavefront_rms(gamma - gamma[0])
    assert np.all(change[times <= 32] == 0)
    moving = (times > 32) & (times < 58)
    expected = 0.0585 * (1 - np.exp(-(times[moving] - 32) / 8))
    np.testing.assert_allclose(change[moving], expected, atol=0.0006)
    assert np.all(change[times >= 58] > 0.072)


def test_drift_is_held_and_continues_where_it_was(timed) -> None:
    core, sample, _ = timed
    acquire(core, 80)  # to 40 s
    core.setProperty(CAMERA_LABEL, "AberrationDrift", "Off")
    assert core.getProperty(CAMERA_LABEL, "AberrationDrift") == "Off"
    held = [truth for _, truth in acquire(core, 80)]  # 40 s in which nothing moves
    assert held[-1].time - held[0].time > 39
    assert len({truth.coefficients.tobytes() for truth in held}) == 1
    core.setProperty(CAMERA_LABEL, "AberrationDrift", "On")
    after = [truth for _, truth in acquire(core, 4)]
    trajectory_time = after[-1].time - 40.0
    np.testing.assert_array_equal(
        after[-1].coefficients, sample.coefficients(trajectory_time)
    )
    assert np.any(after[-1].coefficients != held[-1].coefficients)


def test_a_bump_on_demand_moves_the_truth_at_once(timed) -> None:
    core, sample, _ = timed
    before = acquire(core, 2)[-1][1]
    core.setProperty(CAMERA_LABEL, "Bump", "Now")
    after = acquire(core, 2)[0][1]
    change = sample.family.wavefront_rms(after.coefficients - before.coefficients)
    assert change == pytest.approx(0.067, abs=0.001)
    assert core.getProperty(CAMERA_LABEL, "Bump") == "Idle"


def test_noise_off_gives_the_expected_frame(timed) -> None:
    core, sample, _ = timed
    core.setProperty(CAMERA_LABEL, "Noise", "Off")
    image, truth = acquire(core, 2)[0]
    np.testing.assert_array_equal(image, np.round(sample.expected_image(truth.time)))
    with pytest.raises(ValueError, match=r"Perhaps.*On.*Off"):
        core.setProperty(CAMERA_LABEL, "Noise", "Perhaps")


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"truth": "not json", "truth_time": "1"},
        {"truth": [0.1, float("nan")], "truth_time": 1.0},
        {"truth": [0.1, 0.2]},
        {"truth": 5, "truth_time": 1.0},
        {"truth": {"a": 1}, "truth_time": 1.0},
        {"camera_metadata": "text"},
    ],
)
def test_metadata_without_a_readable_truth_has_none(metadata: dict) -> None:
    assert read_truth(metadata) is None


def test_truth_is_read_in_every_form() -> None:
    plain = {"truth": [0.1, -0.2], "truth_time": 1.5}
    text = {key: str(value) for key, value in plain.items()}
    for metadata in (plain, text, {"camera_metadata": text}):
        truth = truth_of(metadata)
        np.testing.assert_array_equal(truth.coefficients, (0.1, -0.2))
        assert truth.time == 1.5


_LEAVES_WHILE_A_FRAME_IS_COMPUTED = """
import threading, time
import torch
from deepblur_live.acquisition.core_signals import let_core_exit
from deepblur_live.acquisition.simulated import simulated_core
from deepblur_live.acquisition.simulated_sample import SimulatedSample

computing = threading.Event()


class Slow(SimulatedSample):
    def frame(self, *args, **kinds):
        computing.set()
        ones, until = torch.ones(200_000), time.monotonic() + 3
        while time.monotonic() < until:
            ones + ones
        return super().frame(*args, **kinds)


core = simulated_core(Slow(shape=(64, 64)))
let_core_exit(core)
core.startContinuousSequenceAcquisition()
assert computing.wait(20)
"""


def test_a_program_may_end_while_a_frame_is_computed():
    command = [sys.executable, "-c", _LEAVES_WHILE_A_FRAME_IS_COMPUTED]
    done = subprocess.run(command, timeout=120, check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
