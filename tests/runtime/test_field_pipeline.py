"""Frames are identified as a field where they can be, and with one PSF elsewhere."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from recording_rig import Recorder, RecordingRig

from deepblur_live.acquisition.listener import DeblurListener
from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.blur import Estimate
from deepblur_live.blur.field_basis import FieldView
from deepblur_live.blur.one_psf import as_field
from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.cli.demo import demo_profile
from deepblur_live.drift import Gaussian, TrackState
from deepblur_live.runtime.build import build_field_pipeline
from deepblur_live.runtime.field_pipeline import FieldPipeline
from deepblur_live.runtime.frame import Frame, FrameResult, FrameState

FIELD = ZernikeField()
LEAST = 192


class Tracked(Recorder):
    """Reports a track that is known beforehand."""

    def process(self, frame):
        n = self.family.n_coefficients
        gamma, covariance = 0.01 * np.arange(1, n + 1), np.diag(np.full(n, 1e-4))
        track = TrackState(frame.time, gamma, covariance, 1.0, True, measured=gamma)
        return FrameResult(
            frame.info,
            FrameState.DEBLURRED,
            raw=frame.pixels,
            estimate=Estimate(gamma, covariance, 0.5),
            track=track,
            notes=("inner",),
        )


class Rig(RecordingRig):
    def __init__(self, **options):
        super().__init__(Tracked, lambda make: FieldPipeline(FIELD, make, **options))


def region(*place, sensor=(2048, 2048)):
    return {"region": place, "sensor": sensor, "binning": 1}


def test_a_change_of_the_region_keeps_the_coefficients():
    rig = Rig()
    whole = rig.show(2048, 2048, **region(0, 0, 2048, 2048))
    part = rig.show(800, 900, **region(100, 200, 800, 900))
    assert whole.view == FieldView(2048, 2048)
    assert part.view == FieldView(2048, 2048, 100, 200, 800, 900)
    first, second = rig.made
    assert second.family.view == part.view
    (known,) = second.known
    np.testing.assert_array_equal(known.coefficients, whole.track.coefficients)
    np.testing.assert_array_equal(known.covariance, whole.track.covariance)
    assert known.time == part.info.time
    assert not second.closed
    rig.pipeline.close()
    assert first.closed
    assert second.closed
    assert whole.notes == part.notes == ("inner",)


def test_a_small_frame_gets_one_psf_and_says_so_once():
    rig = Rig()
    found = [rig.show(512, 512) for _ in range(3)]
    assert [result.view for result in found] == [None] * 3
    assert len(rig.made) == 1
    assert rig.made[0].family == FIELD.local
    said = [note for result in found for note in result.notes if note != "inner"]
    assert len(said) == 1
    assert "one PSF" in said[0]
    assert "512 × 512" in said[0]


def test_one_psf_is_reported_as_a_constant_field():
    result = Rig().show(512, 512)
    gamma = 0.01 * np.arange(1, FIELD.local.n_coefficients + 1)
    everywhere = FIELD.design(FIELD.view.grid(3)) @ result.track.coefficients
    np.testing.assert_allclose(everywhere, np.tile(gamma, (9, 1)))
    for found in (result.estimate, result.track):
        np.testing.assert_allclose(found.coefficients, FIELD.constant(gamma))
        local = FIELD.design(np.array([[0.5, 0.5]]))[0]
        np.testing.assert_allclose(
            local @ found.covariance @ local.T, 1e-4 * np.eye(len(gamma)), atol=1e-18
        )
    np.testing.assert_allclose(result.track.measured, FIELD.constant(gamma))


def test_it_says_when_the_blur_is_a_field_again():
    rig = Rig()
    rig.show(1024, 1024)
    # Without a region the first frame is the sensor: another size has no known place.
    unknown = rig.show(800, 800)
    again = rig.show(1024, 1024)
    assert unknown.view is None
    assert "place of a frame of 800 × 800" in unknown.notes[0]
    assert again.view == FieldView(1024, 1024)
    assert again.notes[0] == "the blur is identified as a field again"
    # One PSF says nothing of the terms that vary: the field starts again.
    assert [len(made.known) for made in rig.made] == [0, 0, 0]


def test_a_known_blur_is_given_to_the_pipeline_of_the_frame_it_holds_for():
    rig = Rig()
    rig.show(512, 512)
    n = FIELD.n_coefficients
    known = Gaussian(1.5, np.linspace(-0.05, 0.05, n), 1e-4 * np.eye(n))
    rig.pipeline.start_from(known)
    (local,) = rig.made[0].known
    middle = FIELD.design(np.array([[0.5, 0.5]]))[0]
    np.testing.assert_allclose(local.coefficients, middle @ known.coefficients)
    assert local.covariance.shape == (7, 7)
    rig.show(1024, 1024)
    assert rig.made[1].known == [known]


def test_no_frame_goes_to_a_closed_pipeline_if_the_next_cannot_be_made(monkeypatch):
    rig = Rig(least_side=LEAST)
    rig.show(256, 256)

    def fail(family):
        raise RuntimeError("out of memory")

    make = rig.pipeline._make
    monkeypatch.setattr(rig.pipeline, "_make", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        rig.show(100, 100)
    monkeypatch.setattr(rig.pipeline, "_make", make)
    rig.show(100, 100)
    rig.pipeline.close()
    assert [one.family for one in rig.made[1:]] == [FIELD.local]


def test_close_ends_the_pipeline_in_use():
    rig = Rig()
    rig.pipeline.close()
    rig.show(512, 512)
    rig.pipeline.close()
    assert rig.made[0].closed


@pytest.fixture(scope="module")
def sample():
    profile = demo_profile(SimulatedSample(shape=(64, 64)), "field")
    field = ZernikeField.from_optics(profile.optics)
    return profile, SimulatedSample(family=field, shape=(256, 256))


def test_real_frames_are_deblurred_as_a_field_and_with_one_psf(sample):
    profile, microscope = sample
    pipeline = build_field_pipeline(profile, False, LEAST)
    pixels = microscope.frame(0.0).pixels
    try:
        field = pipeline.submit(Frame(pixels, 0, 0.0, "replay")).result()
        small = pipeline.submit(Frame(pixels[:160, :160], 1, 9.0, "replay")).result()
    finally:
        pipeline.close()
    assert field.view == FieldView(256, 256)
    assert small.view is None
    assert small.state is FrameState.DEBLURRED
    sharp = microscope.truth_image(0.0)
    raw, found = (np.square(x - sharp).mean() for x in (pixels, field.deblurred))
    assert found < 0.9 * raw
    for result in (field, small):
        assert result.track.coefficients.shape == (microscope.family.n_coefficients,)


def test_the_mean_blur_of_tracked_frames_is_as_uncertain_as_one_psf(sample):
    """What a field may be besides neither widens the PSF nor weakens the result."""
    profile, microscope = sample
    pipeline = build_field_pipeline(profile, False, LEAST)
    field = ZernikeField(microscope.family.local, FieldView(256, 256))
    inner = pipeline._make(field)
    gamma, one = np.full(field.local.n_coefficients, 0.02), 1e-5
    constant, may_vary = as_field(field, gamma, one * np.eye(len(gamma)))
    varies = np.array([term.order > 0 for term in field.terms])
    deviations = np.sqrt(np.diag(may_vary))
    alike = varies == varies[:, None]
    may_vary = 0.5 * may_vary + 0.5 * np.outer(deviations, deviations) * alike
    # Several estimates: the filter's rounding makes a constant field vary.
    for time in (0.0, 1.0, 2.0):
        estimate = Estimate((1 + 0.01 * time) * constant, may_vary, 0.5)
        track = inner.tracker.update(time, estimate)
        assert track.accepted
    blur = inner._blur_of(track)
    inner.close()
    assert track.coefficients[varies].any() and track.covariance[varies].any()
    assert not blur.uncertainty[varies].any()
    assert not blur.uncertainty[:, varies].any()
    np.testing.assert_allclose(
        blur.uncertainty[~varies][:, ~varies],
        track.covariance[~varies][:, ~varies],
        rtol=1e-5,
    )
    assert blur.strength > 0.9 > inner._guard.strength(torch.tensor(track.covariance))


def test_in_a_worker_process(sample):
    profile, microscope = sample
    build = functools.partial(build_field_pipeline, profile, least_side=LEAST)
    frames = []
    with DeblurListener(build, policy="all") as listener:
        assert listener.start(timeout=120)
        listener.events.resultReady.connect(frames.append)
        metadata = region(0, 0, 256, 256, sensor=(256, 256))
        listener.submit(microscope.frame(0.0).pixels, metadata, "mda")
        assert listener.drain(120)
    (result,) = frames
    assert result.view == FieldView(256, 256)
    # So small a frame may not show that its blur varies, and then says so.
    assert all(error.startswith("one PSF") for error in listener.background_errors)
