"""Frames of several channels, positions and planes: each series on its own."""

from __future__ import annotations

import numpy as np
import pytest

from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.drift import TrackState
from deepblur_live.profile import Profile, check_profile
from deepblur_live.runtime.build import build_pipeline, build_series_pipeline
from deepblur_live.runtime.frame import DeviceLost, Frame, FrameResult, FrameState
from deepblur_live.runtime.pack import PackError
from deepblur_live.runtime.series_key import SeriesKey, series_key
from deepblur_live.runtime.series_pipeline import ColourParts, SeriesPipeline

PIXELS = np.zeros((4, 4), np.uint16)
PRIOR = 0.01 * np.eye(2)


class Recording:
    """A pipeline that keeps what it is given; its results are collected late."""

    def __init__(self, wavelength_nm: float) -> None:
        self.wavelength_nm = wavelength_nm
        self.frames, self.collected = [], []
        self.starts, self.closed, self.error = [], 0, None

    def submit(self, frame):
        self.frames.append(frame.number)
        return _Late(self, frame)

    def start_from(self, known):
        self.starts.append(known)

    def close(self):
        self.closed += 1


class _Late:
    def __init__(self, pipeline, frame) -> None:
        self.pipeline, self.frame = pipeline, frame

    def done(self):
        return False

    def result(self):
        pipeline, frame = self.pipeline, self.frame
        pipeline.collected.append(frame.number)
        if pipeline.error is not None:
            raise pipeline.error
        gamma = np.array([pipeline.wavelength_nm, frame.number])
        return FrameResult(
            frame.info,
            FrameState.DEBLURRED,
            track=TrackState(frame.time, gamma, np.eye(2), 1.0, True),
            notes=("its own",),
            raw=frame.pixels,
        )


class Rig:
    """A series pipeline of recordings; makes frames."""

    def __init__(self, channels=(), **options) -> None:
        self.made, self.ended, self.number = [], [], 0
        self.pipeline = SeriesPipeline(
            self._parts,
            540.0,
            dict(channels),
            close=lambda: self.ended.append(True),
            **options,
        )

    def _parts(self, wavelength_nm):
        def make():
            self.made.append(Recording(wavelength_nm))
            return self.made[-1]

        return ColourParts(make, PRIOR)

    def frame(self, channel="", **index):
        metadata = {"index": index} if channel or index else {}
        if channel:
            metadata["channel"] = channel
        self.number += 1
        return Frame(PIXELS, self.number, float(self.number), "mda", metadata)

    def process(self, *args, **index):
        return self.pipeline.submit(self.frame(*args, **index)).result()


def test_the_key_of_a_frame():
    assert series_key({}) == SeriesKey()
    assert series_key({"index": 7}) == SeriesKey()  # a recording's
    assert series_key({"index": {"t": 3}}) == SeriesKey()
    index = {"t": 3, "c": 1, "p": 2, "g": 5, "z": 0}
    key = series_key({"index": index, "channel": "GFP", "position": "dish A"})
    assert key == SeriesKey("GFP", 2, 5, 0)
    assert key.text == "GFP, dish A, tile 5, plane 0"
    assert key.place == "dish A, tile 5"
    assert series_key({"index": {"c": 1}}).text == "1"
    assert SeriesKey().text == ""
    # The name does not tell positions apart: two may have the same.
    assert SeriesKey(position=1, name="a") != SeriesKey(position=2, name="a")


def test_each_series_has_its_own_pipeline():
    rig = Rig({"DAPI": 460.0})
    assert len(rig.made) == 1  # before the first frame
    for _ in range(2):
        rig.process("DAPI", c=0, p=0)
        rig.process("GFP", c=1, p=0)
        rig.process("GFP", c=1, p=1)
    frames = {(made.wavelength_nm, tuple(made.frames)) for made in rig.made}
    assert frames == {(540.0, (2, 5)), (460.0, (1, 4)), (540.0, (3, 6))}


def test_frames_over_time_alone_have_the_first_pipeline():
    rig = Rig()
    rig.process()
    rig.process(t=1)
    assert [made.frames for made in rig.made] == [[1, 2]]
    assert rig.made[0].starts == []


def test_a_new_series_begins_at_the_blur_of_one_like_it():
    """Of the same wavelength and plane, with the uncertainty of the prior."""
    rig = Rig({"DAPI": 460.0})
    rig.process("GFP", p=0, z=0)
    rig.process("DAPI", p=0, z=0)
    rig.process("GFP", p=0, z=1)
    rig.process("GFP", p=1, z=0)
    first, other_colour, other_plane, other_place = rig.made
    assert first.starts == other_colour.starts == other_plane.starts == []
    (start,) = other_place.starts
    np.testing.assert_array_equal(start.coefficients, [540.0, 1.0])
    np.testing.assert_array_equal(start.covariance, PRIOR)
    assert start.time == 4.0


def test_a_frame_is_collected_before_one_of_another_series_is_begun():
    """The buffers of a card are shared; within a series frames overlap as before."""
    rig = Rig()
    first = rig.pipeline.submit(rig.frame("GFP", p=0))
    second = rig.pipeline.submit(rig.frame("GFP", p=0))
    assert rig.made[0].collected == []
    first.result()
    third = rig.pipeline.submit(rig.frame("GFP", p=1))
    assert rig.made[0].collected == [1, 2]
    assert second.done()
    assert not third.done()
    assert second.result().info.number == 2
    assert rig.made[0].collected == [1, 2]


def test_the_error_of_a_frame_is_its_own():
    rig = Rig()
    lost = rig.pipeline.submit(rig.frame("GFP", p=0))
    rig.made[0].error = DeviceLost("gone")
    rig.pipeline.submit(rig.frame("GFP", p=1)).result()
    assert lost.done()
    with pytest.raises(DeviceLost):
        lost.result()


def test_the_oldest_series_ends_when_there_are_too_many():
    rig = Rig(most=2)
    rig.process("GFP", p=0)
    rig.process("GFP", p=1)
    rig.process("GFP", p=0)
    result = rig.process("GFP", p=2)
    (note,) = [note for note in result.notes if "no longer followed" in note]
    assert note.startswith("GFP, position 1: no longer followed, as at most 2")
    assert rig.process("GFP", p=0).notes == ("its own",)
    assert [made.frames for made in rig.made] == [[1, 3, 5], [2], [4]]
    # It starts again, and displaces another; each is named once.
    for _ in range(40):
        rig.process("GFP", p=1)
        notes = rig.process("GFP", p=2).notes
    assert notes == ("its own",)
    rig.pipeline.close()
    assert all(made.closed == 1 for made in rig.made)
    assert rig.ended == [True]


def test_channels_without_a_wavelength_are_named_once():
    rig = Rig({"DAPI": 460.0})
    rig.process("DAPI", c=0)
    notes = rig.process("GFP", c=1, p=0).notes
    assert "channel GFP is not in the profile" in notes[0]
    assert "540 nm" in notes[0]
    assert "[channels.GFP] emission_nm" in notes[0]
    assert rig.process("GFP", c=1, p=1).notes == ("its own",)


def test_one_channel_is_what_the_optics_describe():
    rig = Rig()
    assert rig.process("GFP", c=0).notes == ("its own",)
    notes = rig.process("DAPI", c=1).notes
    assert [note.split(" is not")[0] for note in notes[:2]] == [
        "channel GFP",
        "channel DAPI",
    ]


def test_a_focus_sweep_is_for_the_series_that_comes_next():
    rig = Rig()
    rig.process("GFP", p=0)
    rig.process("GFP", p=1)
    rig.pipeline.start_from("known")
    rig.process("GFP", p=0)
    assert rig.made[0].starts == ["known"]
    assert "known" not in rig.made[1].starts


@pytest.fixture(scope="module")
def frames():
    sample = SimulatedSample(shape=(128, 128))
    return [sample.frame(1.2 * k).pixels for k in range(2)]


def processed(pipeline, frames, metadata):
    try:
        return [
            pipeline.submit(Frame(pixels, k, 1.2 * k, "mda", metadata(k))).result()
            for k, pixels in enumerate(frames)
        ]
    finally:
        pipeline.close()


def test_one_series_is_the_same_to_the_digit(frames, quick_search):
    profile = Profile.model_validate({"model": {"threads": 1}})
    alone = processed(build_pipeline(profile, False), frames, lambda k: {})
    series = processed(
        build_series_pipeline(profile, False), frames, lambda k: {"index": {"t": k}}
    )
    assert [result.state for result in alone] == 2 * [FrameState.DEBLURRED]
    for one, other in zip(alone, series, strict=True):
        np.testing.assert_array_equal(one.deblurred, other.deblurred)
        np.testing.assert_array_equal(one.track.coefficients, other.track.coefficients)
        np.testing.assert_array_equal(one.track.covariance, other.track.covariance)


def test_the_network_must_serve_every_channel():
    content = {
        "optics": {"numerical_aperture": 1.0, "refractive_index": 1.33},
        "channels": {"far red": {"emission_nm": 1200.0}},
    }
    profile = check_profile(content, "test")
    with pytest.raises(PackError, match=r"channels\.far red: "):
        build_series_pipeline(profile)
