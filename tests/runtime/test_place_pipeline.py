"""Frames of a calibrated microscope get the prior of the place that they show."""

from __future__ import annotations

import sys
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from recording_rig import Recorder, RecordingRig

from deepblur_live.blur.calibrated_field import CalibratedField
from deepblur_live.blur.fixed_field import FixedField
from deepblur_live.drift import Gaussian, TrackState
from deepblur_live.profile import check_profile
from deepblur_live.runtime import build
from deepblur_live.runtime.frame import Frame, FrameResult, FrameState
from deepblur_live.runtime.place_pipeline import PlacePipeline

sys.path.append(str(Path(__file__).parents[1] / "calibration"))

from stack_slides import PROFILE
from written_calibration import write_calibration

TREND = np.vstack([np.full(7, 0.02), [0.12, *np.zeros(6)], np.zeros(7)])
SHAPE = (100, 120)
SENSOR = {"sensor": (200, 240), "binning": 2}


@dataclass(frozen=True)
class Placed:
    """A family of one coefficient, whose prior's mean is the region's first row."""

    region: object

    @property
    def prior(self):
        row = self.region[0] if isinstance(self.region, tuple) else 0
        return SimpleNamespace(mean=np.array([float(row)]))

    n_coefficients = 1


class Counting(Recorder):
    """Counts its frames, and reports a track next to its prior's mean."""

    frames = 0

    def process(self, frame):
        self.frames += 1
        gamma = self.family.prior.mean + 0.5
        track = TrackState(frame.time, gamma, np.eye(1), 1.0, True)
        state = FrameState.DEBLURRED
        notes = ("inner",)
        return FrameResult(
            frame.info, state, raw=frame.pixels, track=track, notes=notes
        )


class Rig(RecordingRig):
    def __init__(self, anywhere="whole", **options):
        parts = Placed("whole"), Placed(anywhere), Placed
        super().__init__(
            Counting, lambda make: PlacePipeline(*parts, make, SHAPE, **options)
        )


def test_whole_frames_have_the_whole_fields_prior_and_no_note():
    rig = Rig()
    assert rig.show(*SHAPE).notes == ("inner",)
    assert rig.show(*SHAPE, region=(0, 0, 200, 240), **SENSOR).notes == ("inner",)
    assert [one.family.region for one in rig.made] == ["whole"]


def test_a_region_has_its_own_in_the_calibrated_frames_pixels():
    rig = Rig()
    rig.show(*SHAPE, region=(0, 0, 200, 240), **SENSOR)
    said = rig.show(30, 40, region=(40, 20, 60, 80), **SENSOR).notes
    assert said[0].endswith(
        "at rows 20 to 50, columns 10 to 50 of the calibrated frame"
    )
    assert rig.made[-1].family == Placed((20, 10, 30, 40))
    # It goes on from the blur before, moved by what the field says.
    [known] = rig.made[-1].known
    assert known.coefficients == pytest.approx([20.5])
    assert rig.show(30, 40, region=(40, 20, 60, 80), **SENSOR).notes == ("inner",)
    moved = rig.show(30, 40, region=(60, 20, 60, 80), **SENSOR).notes
    assert "rows 30 to 60" in moved[0]
    assert rig.made[-1].known[0].coefficients == pytest.approx([30.5])
    assert len(rig.made) == 3
    back = rig.show(*SHAPE, region=(0, 0, 200, 240), **SENSOR).notes
    assert "mean over the whole field" in back[0]
    rig.pipeline.close()
    assert all(one.closed for one in rig.made)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({}, "frame has 100 × 120 pixels, and these frames have 30 × 40"),
        ({"region": (4, 4, 30, 40)}, "sensor of unknown size: give sensor_rows"),
        (
            {"region": (4, 4, 30, 40), "sensor": (150, 150)},
            "100 × 120 pixels, and the sensor 150 × 150",
        ),
        ({"region": None}, "could not be read"),
    ],
)
def test_an_unknown_place_has_the_fields_mean_and_says_why(metadata, reason):
    rig = Rig()
    said = rig.show(30, 40, **metadata).notes
    assert "mean over the field" in said[0] and reason in said[0]
    assert rig.show(30, 40, **metadata).notes == ("inner",)
    # The blurs are the same, and so is the pipeline.
    assert len(rig.made) == 1
    # Where they vary over the whole frame, those of an unknown place do not.
    other = Rig(anywhere="anywhere")
    other.show(30, 40, **metadata)
    assert other.made[-1].family.region == "anywhere"


def test_the_profile_may_state_the_sensor():
    rig = Rig(sensor=(100, 120))
    rig.show(30, 40, region=(50, 0, 30, 40))
    assert rig.made[-1].family == Placed((50, 0, 30, 40))


def test_a_camera_that_is_busy_changes_nothing():
    rig = Rig()
    rig.show(30, 40, region=(40, 20, 60, 80), **SENSOR)
    assert rig.show(30, 40, region=None, **SENSOR).notes == ("inner",)
    assert len(rig.made) == 2


def test_what_is_known_beforehand_reaches_the_first_region():
    rig = Rig()
    known = Gaussian(0.5, np.array([7.0]), np.eye(1))
    rig.pipeline.start_from(known)
    rig.show(30, 40, region=(40, 20, 60, 80), **SENSOR)
    assert rig.made[0].known == rig.made[1].known == [known]


def test_a_frame_that_fails_leaves_its_note_to_the_next(monkeypatch):
    rig = Rig()
    region = {"region": (40, 20, 60, 80), **SENSOR}
    failed = Future()
    failed.set_exception(TimeoutError())
    with monkeypatch.context() as patch:
        patch.setattr(Counting, "submit", lambda self, frame: failed)
        with pytest.raises(TimeoutError):
            rig.show(30, 40, **region)
    assert "rows 20 to 50" in rig.show(30, 40, **region).notes[0]
    assert rig.show(30, 40, **region).notes == ("inner",)


def test_the_frame_before_is_finished_when_the_region_changes():
    """Pipelines share a card's buffers."""
    rig = Rig()
    frame = Frame(np.zeros(SHAPE, np.uint16), 0, 1.0, "live", {})
    first = rig.pipeline.submit(frame)
    region = {"region": (40, 20, 60, 80), **SENSOR}
    second = rig.pipeline.submit(
        Frame(np.zeros((30, 40), np.uint16), 1, 2.0, "live", region)
    )
    assert first._result is not None
    assert second.result().track.coefficients == pytest.approx([20.5])
    assert rig.made[1].known[0].coefficients == pytest.approx([20.5])


@dataclass
class Executor:
    device: object
    family: object
    closed: int = 0

    def close(self):
        self.closed += 1


@pytest.fixture
def wired(monkeypatch, tmp_path):
    """Profile → series pipeline of a calibration, its parts replaced by recorders."""
    apart = np.vstack([np.full(7, 0.01), np.zeros((2, 7))])
    states = [TREND + apart, TREND - apart]
    folder = write_calibration(tmp_path / "rig.calib", states, beads=True)
    made = []

    def make(profile, pack, family, asynchronous, executor=None, thread=None):
        made.append((family, executor, thread))
        return Counting(family)

    monkeypatch.setattr(build, "_pipeline", make)

    def make_fixed(family, executor, profile, thread=None):
        pipeline = make(None, None, family, None, executor, thread)
        if thread is None:
            # As a pipeline does, whose executor no other uses.
            pipeline.close = executor.close
        return pipeline

    monkeypatch.setattr(build, "FixedPsfPipeline", make_fixed)
    monkeypatch.setattr(build, "_load", lambda profile: None)
    monkeypatch.setattr(build, "tune_process", lambda threads: None)
    device = SimpleNamespace(type="cpu")
    monkeypatch.setattr(
        build,
        "build_executor",
        lambda pack, family, wanted: Executor(device, family),
    )

    def show(regions=((0, 0, 170, 170), (0, 0, 60, 60)), **model):
        made.clear()
        content = PROFILE.model_dump()
        content["model"] |= {"calibration": str(folder), **model}
        series = build.build_series_pipeline(check_profile(content, "test"))
        for number, region in enumerate(regions):
            pixels = np.zeros(region[2:], np.uint16)
            metadata = {"region": region, "sensor": (170, 170)}
            frame = Frame(pixels, number, float(number), "live", metadata)
            try:
                series.submit(frame).result()
            except TypeError:
                pass  # the recorder's track does not suit these families
        series.close()
        return made

    return show


def test_sessions_with_a_calibration_use_it(wired):
    whole, corner = wired()
    assert not whole[0].prior.mean.any()
    # The upper third of the frame: a third of the slope from its middle.
    assert corner[0].prior.mean[2] == pytest.approx(-0.12 * 55 / 170, abs=1e-3)
    assert corner[1] is whole[1]
    assert wired(calibration_set="hull")[0][0].learned.vertices is not None


def test_fields_have_an_operator_of_their_own(wired):
    whole, corner = wired(blur="field")
    assert isinstance(whole[0], CalibratedField) and whole[1].family == whole[0]
    assert np.ptp(np.array(whole[0].offsets)[:, 1]) == pytest.approx(0.12, rel=0.02)
    assert np.ptp(np.array(corner[0].offsets)[:, 1]) == pytest.approx(
        0.12 * 60 / 170, rel=0.02
    )
    assert corner[1] is None
    whole, corner = wired(blur="field", calibration_basis="psf")
    assert isinstance(corner[0], FixedField) and corner[0] != whole[0]
    assert corner[1].family == corner[0]


def test_the_executor_of_a_region_ends_with_it(wired):
    """Regions may change a thousand times in a session."""
    regions = [(0, 0, 170, 170), (0, 0, 60, 60), (9, 0, 60, 60), (18, 0, 60, 60)]
    made = wired(regions, blur="field", calibration_basis="psf")
    shared = [thread is not None for *_, thread in made]
    assert shared == [True, False, False, False]
    assert [executor.closed for _, executor, _ in made] == [1, 1, 1, 1]
