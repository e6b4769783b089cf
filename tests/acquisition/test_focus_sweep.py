"""Focus sweeps on a real core: the stage moves within its range and returns."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from pymmcore_plus import CMMCorePlus
from pymmcore_plus.experimental.unicore import UniMMCore

from deepblur_live.acquisition.focus_sweep import acquire_sweep
from deepblur_live.acquisition.simulated import (
    SIMULATED_CONFIG,
    STAGE_LABEL,
    simulated_core,
)
from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.acquisition.specimen import load_specimen
from deepblur_live.blur import focus_direction
from deepblur_live.identification import SweepError

OFFSETS = np.array([-0.4, 0.0, 0.4])


@pytest.fixture(scope="module")
def sample() -> SimulatedSample:
    return SimulatedSample(load_specimen()[100:340, 100:340], shape=(128, 128))


@pytest.fixture
def simulated(sample: SimulatedSample) -> Iterator[UniMMCore]:
    core = simulated_core(sample, exposure_ms=1.0)
    yield core
    core.unloadAllDevices()


@pytest.fixture
def demo() -> Iterator[CMMCorePlus]:
    """DemoCamera with its Z stage."""
    core = CMMCorePlus()
    core.loadSystemConfiguration()
    yield core
    core.unloadAllDevices()


def test_the_simulated_stage_moves_the_blur(
    simulated: UniMMCore, sample: SimulatedSample
) -> None:
    still = sample.coefficients(0.0)
    moved = sample.coefficients(0.0, 0.3)
    change = 0.3 * focus_direction(sample.family)
    # γ is rounded to 1/300 of the prior's scale.
    np.testing.assert_allclose(moved - still, change, atol=1e-3)
    simulated.setProperty("Camera", "Noise", "Off")
    simulated.setProperty("Camera", "AberrationDrift", "Off")
    sweep = acquire_sweep(simulated, OFFSETS, 0.5)
    assert sweep.stage == STAGE_LABEL
    contrast = [frame.std() for frame in sweep.frames]
    assert np.ptp(contrast) > 0.02 * max(contrast)
    np.testing.assert_allclose(sweep.z_um, OFFSETS, atol=1e-9)


def test_the_stage_of_a_configuration_belongs_to_its_camera() -> None:
    core = UniMMCore()
    core.loadSystemConfiguration(SIMULATED_CONFIG)
    assert core.getFocusDevice() == STAGE_LABEL
    core.setPosition(0.5)
    assert core.getPosition() == pytest.approx(0.5)
    with pytest.raises(Exception, match="travels"):
        core.setPosition(50.0)
    core.unloadAllDevices()


def test_a_real_core_sweeps_and_returns(demo: CMMCorePlus) -> None:
    demo.setPosition(12.5)
    demo.waitForDevice(demo.getFocusDevice())
    sweep = acquire_sweep(demo, OFFSETS, 0.5)
    assert sweep.start_um == pytest.approx(12.5, abs=0.01)
    np.testing.assert_allclose(sweep.z_um, OFFSETS, atol=0.05)
    assert [frame.shape for frame in sweep.frames] == [(512, 512)] * 3
    assert demo.getPosition() == pytest.approx(12.5, abs=0.01)


def test_the_stage_returns_after_a_camera_error(
    simulated: UniMMCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulated.setPosition(0.2)

    def fail() -> None:
        raise RuntimeError("camera unplugged")

    monkeypatch.setattr(simulated, "snapImage", fail)
    with pytest.raises(RuntimeError, match="unplugged"):
        acquire_sweep(simulated, OFFSETS, 0.5)
    assert simulated.getPosition() == pytest.approx(0.2)


def test_a_stage_that_does_not_return_is_named(
    simulated: UniMMCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = simulated.setPosition

    def fail() -> None:
        def jam(label: str, z: float) -> None:
            raise RuntimeError("stage jammed")

        monkeypatch.setattr(simulated, "setPosition", jam)
        raise RuntimeError("camera unplugged")

    monkeypatch.setattr(simulated, "snapImage", fail)
    with pytest.raises(SweepError, match=r"not returned to 0\.000 µm: stage jammed"):
        acquire_sweep(simulated, OFFSETS, 0.5)
    right(simulated.getFocusDevice(), 0.0)


def test_the_stage_stays_within_the_range(simulated: UniMMCore) -> None:
    with pytest.raises(SweepError, match=r"400 nm exceeds the allowed range of 300"):
        acquire_sweep(simulated, OFFSETS, 0.3)
    assert simulated.getPosition() == 0.0


def test_a_running_sequence_is_not_disturbed(simulated: UniMMCore) -> None:
    simulated.startContinuousSequenceAcquisition(0)
    try:
        with pytest.raises(SweepError, match="live mode"):
            acquire_sweep(simulated, OFFSETS, 0.5)
        assert simulated.isSequenceRunning()
    finally:
        simulated.stopSequenceAcquisition()


def test_no_focus_drive_is_named(demo: CMMCorePlus) -> None:
    demo.setFocusDevice("")
    with pytest.raises(SweepError, match="no focus drive"):
        acquire_sweep(demo, OFFSETS, 0.5)


@pytest.mark.parametrize(
    ("factor", "reason"),
    [(0.0, "does not move"), (-1.0, "wrong way"), (0.5, "instead")],
)
def test_a_stage_that_does_not_follow_is_named(
    simulated: UniMMCore, monkeypatch: pytest.MonkeyPatch, factor: float, reason: str
) -> None:
    right = simulated.setPosition
    monkeypatch.setattr(
        simulated, "setPosition", lambda label, z: right(label, factor * z)
    )
    with pytest.raises(SweepError, match=reason):
        acquire_sweep(simulated, OFFSETS, 0.5)


def test_a_stage_that_never_arrives_is_stopped(
    simulated: UniMMCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(range(1000))
    stopped = []
    monkeypatch.setattr(simulated, "deviceBusy", lambda label: True)
    monkeypatch.setattr(simulated, "stop", stopped.append)
    with pytest.raises(SweepError, match="still moving after 5 s"):
        acquire_sweep(simulated, OFFSETS, 0.5, clock=lambda: float(next(times)))
    assert stopped[0] == STAGE_LABEL
