"""The path of one frame with the shipped model, on the simulated microscope."""

import dataclasses
import math
import threading
from time import sleep

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.blur import Estimate
from deepblur_live.drift import Gaussian
from deepblur_live.identification import SpecimenSpectrum
from deepblur_live.optics import NoiseModel, psf_snr, psnr
from deepblur_live.profile import Profile
from deepblur_live.runtime.best import BestExecutor
from deepblur_live.runtime.build import build_pipeline
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.frame import Frame, FrameState
from deepblur_live.runtime.pack import PackError, load_pack
from deepblur_live.runtime.pipeline import DeblurPipeline

SHAPE = (256, 256)


@pytest.fixture(scope="module")
def sample():
    return SimulatedSample(shape=SHAPE)


def made():
    profile = Profile.model_validate({"model": {"threads": 1}})
    return build_pipeline(profile, asynchronous=False)


@pytest.fixture
def pipeline(quick_search):
    return made()


def frame(sample, number, time):
    return Frame(sample.frame(time).pixels, number, time, "test")


def test_frames_are_identified_tracked_and_sharpened(sample):
    """With the whole search, as in a session."""
    pipeline = made()
    for i in range(6):
        last = frame(sample, i, 1.2 * i)
        result = pipeline.submit(last).result()
        assert result.state is FrameState.DEBLURRED, result.reason
        assert result.raw is last.pixels
        assert result.info == last.info
    assert result.estimate is not None
    assert result.estimate.trusted
    true_psf = pipeline.family.psf(torch.tensor(sample.coefficients(6.0)).float())
    # The constant mean PSF scores +4.
    assert psf_snr(torch.tensor(result.psf), true_psf) > 8
    truth = sample.truth_image(6.0)
    peak = float(truth.max() - truth.min())
    raw = psnr(last.pixels, truth, peak)
    assert psnr(result.deblurred, truth, peak) > raw + 0.5
    # No hidden rescaling: the light is the raw frame's within a percent.
    assert result.deblurred.mean() == pytest.approx(last.pixels.mean(), rel=0.01)
    assert result.deblurred.dtype == np.float32
    assert result.timings["total"] >= result.timings["deblur"] > 0


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=pytest.mark.skipif(
                not torch.cuda.is_available(), reason="needs a CUDA card"
            ),
        ),
    ],
)
def test_a_frame_submitted_before_the_last_is_collected_is_the_same(
    sample, device, quick_search
):
    """On a card they overlap; the results are those of frames one by one."""
    profile = Profile.model_validate({"model": {"threads": 1, "device": device}})
    frames = [frame(sample, i, 1.2 * i) for i in range(4)]
    alone = build_pipeline(profile, asynchronous=False)
    wanted = [alone.submit(each).result() for each in frames]
    together = build_pipeline(profile, asynchronous=False)
    results, before = [], together.submit(frames[0])
    for following in frames[1:]:
        after = together.submit(following)
        results.append(before.result())
        before = after
    results.append(before.result())
    assert before.done()
    for mine, theirs in zip(results, wanted, strict=True):
        assert mine.raw is theirs.raw
        assert mine.state is FrameState.DEBLURRED
        assert mine.track.time == theirs.track.time
        off = np.linalg.norm(mine.deblurred - theirs.deblurred)
        # Two recordings on a card may have chosen different kernels, in bfloat16.
        assert off <= (1e-6 if device == "cpu" else 0.01) * np.linalg.norm(
            theirs.deblurred
        )
    for pipeline in (alone, together):
        pipeline.close()


def test_identification_keeps_its_interval(sample, pipeline):
    estimates = [
        pipeline.submit(frame(sample, i, 0.25 * i)).result().estimate for i in range(6)
    ]
    made = [e is not None for e in estimates]
    assert made == [True, False, False, False, True, False]


@pytest.fixture
def asynchronous(pipeline):
    """A pipeline with asynchronous identification, as often as it is let through."""
    identifier, let_through = pipeline.identifier, threading.Semaphore(0)
    solve = identifier.solve

    def when_let_through(problem):
        assert let_through.acquire(timeout=30)
        return solve(problem)

    identifier.solve = when_let_through
    made = DeblurPipeline(
        pipeline.family,
        identifier,
        pipeline.tracker,
        pipeline.executor,
        pipeline.camera,
        asynchronous=True,
    )
    made.let_through = let_through
    yield made
    let_through.release(9)
    made.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not any(name.startswith("identification") for name in names)


def identified(pipeline, make, time):
    """Process frames, a millisecond apart, until one comes with an estimate."""
    for i in range(500):
        result = pipeline.submit(
            Frame(make(time + 0.001 * i), i, time + 0.001 * i)
        ).result()
        if result.estimate is not None:
            return result
        sleep(0.3)
    raise AssertionError("no estimate")


def test_frames_go_on_while_the_blur_is_identified_asynchronously(sample, asynchronous):
    asynchronous.let_through.release()
    # Nothing can be done without the first.
    first = asynchronous.submit(frame(sample, 0, 0.0)).result()
    assert first.estimate is not None
    going_on = [
        asynchronous.submit(frame(sample, i, 0.3 * i)).result() for i in range(1, 7)
    ]
    assert {r.state for r in going_on} == {FrameState.DEBLURRED}
    assert {r.estimate for r in going_on} == {None}
    asynchronous.let_through.release()
    last = identified(asynchronous, lambda t: sample.frame(t).pixels, 1.9)
    # Of the frame that the problem was posed with, not of the one that it came with.
    assert last.track.time == pytest.approx(1.2)


def test_pixels_may_be_overwritten_once_the_result_is_collected(sample, asynchronous):
    """As slots of the ring are: an identification may still be running."""
    asynchronous.let_through.release()
    slot = np.empty(SHAPE, np.uint16)
    for number, time in enumerate((0.0, 0.9, 1.0)):
        slot[:] = sample.frame(time).pixels
        asynchronous.submit(Frame(slot, number, time)).result()
    slot[:] = 0
    asynchronous.let_through.release()
    result = identified(asynchronous, lambda t: sample.frame(t).pixels, 1.1)
    assert result.track.time == pytest.approx(1.0)
    assert result.estimate.trusted
    gamma = np.stack([result.estimate.coefficients, sample.coefficients(1.0)])
    assert psf_snr(*asynchronous.family.psf(torch.tensor(gamma).float())) > 8


def test_a_recording_faster_than_its_clock_is_identified_as_often(sample, asynchronous):
    asynchronous.let_through.release(9)
    results = [
        asynchronous.submit(frame(sample, i, 0.5 * i)).result() for i in range(9)
    ]
    times = {r.track.time for r in results}
    assert times >= {0.0, 1.0, 2.0, 3.0}


def test_slow_frames_are_each_identified(sample, asynchronous):
    asynchronous.let_through.release(9)
    for i in range(4):
        result = asynchronous.submit(frame(sample, i, 60.0 * i)).result()
        assert result.estimate is not None
        assert result.track.time == 60 * i


def test_an_estimate_of_a_blur_that_has_changed_is_dropped_and_made_again(
    sample, asynchronous
):
    def jumped(time):
        """After the jump of the simulated optics."""
        return sample.frame(70 + time).pixels

    asynchronous.let_through.release()
    asynchronous.submit(frame(sample, 0, 0.0)).result()
    asynchronous.submit(frame(sample, 1, 0.9)).result()
    # Posed with these, and still being solved when the blur has changed.
    asynchronous.submit(frame(sample, 2, 1.0)).result()
    for i, time in enumerate((1.1, 1.15, 1.2)):
        assert (
            asynchronous.submit(Frame(jumped(time), 3 + i, time)).result().estimate
            is None
        )
    asynchronous.let_through.release(2)
    result = identified(asynchronous, jumped, 1.3)
    # Not a second later, when it would have been due.
    assert 1.3 <= result.track.time < 1.9
    gamma = torch.tensor(
        np.stack([result.estimate.coefficients, sample.coefficients(72)])
    )
    assert psf_snr(*asynchronous.family.psf(gamma.float())) > 8


def test_an_estimate_of_another_frame_size_is_dropped(sample, asynchronous):
    asynchronous.let_through.release()
    asynchronous.submit(frame(sample, 0, 0.0)).result()
    asynchronous.submit(frame(sample, 1, 0.9)).result()
    asynchronous.submit(frame(sample, 2, 1.0)).result()
    small = frame(sample, 3, 1.1).pixels[:240]
    assert asynchronous.submit(Frame(small, 3, 1.1)).result().estimate is None
    asynchronous.let_through.release(2)
    result = identified(asynchronous, lambda t: sample.frame(t).pixels[:240], 1.2)
    # Posed at once, when the size had changed.
    assert result.track.time == pytest.approx(1.1)


def test_a_failed_identification_is_raised_and_tried_again(sample, pipeline):
    posed = []

    def broken_at_first(problem):
        posed.append(problem)
        if len(posed) == 1:
            raise RuntimeError("no solution")
        return solve(problem)

    solve, pipeline.identifier.solve = pipeline.identifier.solve, broken_at_first
    made = DeblurPipeline(
        pipeline.family,
        pipeline.identifier,
        pipeline.tracker,
        pipeline.executor,
        pipeline.camera,
        asynchronous=True,
    )
    with pytest.raises(RuntimeError, match="no solution"):
        made.submit(frame(sample, 0, 0.0)).result()
    assert made.submit(frame(sample, 1, 1.0)).result().state is FrameState.DEBLURRED
    made.close()


def test_a_clock_that_jumps_back_does_not_stop_identification(sample, pipeline):
    pipeline.submit(frame(sample, 0, 100.0)).result()
    assert pipeline.submit(frame(sample, 1, 2.0)).result().estimate is not None


def test_bad_frames_come_back_raw_and_the_next_good_one_sharp(sample, pipeline):
    good = frame(sample, 0, 0.0)
    pipeline.submit(good).result()
    nan = good.pixels.astype(np.float32)
    nan[5, 5] = math.nan
    bad = {
        "constant": np.zeros(SHAPE, np.uint16),
        "not finite": nan,
        "not a single-channel image": np.zeros((*SHAPE, 3), np.uint8),
        "too small": np.ones((1, 1), np.uint16),
    }
    for i, (reason, pixels) in enumerate(bad.items(), 1):
        result = pipeline.submit(Frame(pixels, i, 0.1 * i)).result()
        assert result.state is FrameState.RAW_ONLY
        assert reason in result.reason
        assert result.deblurred is None
    after = pipeline.submit(frame(sample, 9, 1.0)).result()
    assert after.state is FrameState.DEBLURRED


@pytest.mark.parametrize(
    ("shape", "dtype"), [((200, 256), ">u2"), ((255, 131), "f4"), ((64, 97), "i4")]
)
def test_shape_and_dtype_may_change_on_the_way(sample, pipeline, shape, dtype):
    first = frame(sample, 0, 0.0)
    pipeline.submit(first).result()
    pixels = first.pixels[: shape[0], : shape[1]].astype(dtype)
    result = pipeline.submit(Frame(pixels, 1, 0.2)).result()
    assert result.state is FrameState.DEBLURRED
    assert result.deblurred.shape == shape
    assert pipeline.identifier.spectrum.frames == 1


def test_a_frame_without_a_reliable_estimate_is_raw_until_the_blur_is_known(pipeline):
    rng = np.random.default_rng(0)
    noise = rng.normal(500, 20, SHAPE).astype(np.float32)
    result = pipeline.submit(Frame(noise, 0, 0.0)).result()
    assert result.state is FrameState.RAW_ONLY
    assert "not known yet" in result.reason
    assert result.estimate is not None
    assert not result.estimate.trusted


def test_a_first_frame_that_overflows_is_raw_and_the_next_is_not(sample, pipeline):
    good = frame(sample, 0, 0.0)
    wild = good.pixels.astype(np.float64)
    # A patch, not single pixels: those would be repaired as hot.
    wild[100:106, 100:106] = 1e30
    result = pipeline.submit(Frame(wild, 0, 0.0)).result()
    assert result.state is FrameState.RAW_ONLY
    assert "out of range" in result.reason
    assert pipeline.submit(frame(sample, 1, 0.1)).result().state is FrameState.DEBLURRED


def test_what_float32_cannot_hold_is_passed_on_raw(sample, pipeline):
    pixels = frame(sample, 0, 0.0).pixels.astype(np.float64)
    result = pipeline.submit(Frame(1e296 * pixels, 0, 0.0)).result()
    assert result.state is FrameState.RAW_ONLY
    assert result.reason == "its deblurred values are out of range"
    assert result.deblurred is None
    assert result.estimate is not None
    assert pipeline.submit(Frame(pixels, 1, 0.1)).result().state is FrameState.DEBLURRED


def test_spectra_come_as_often_as_identifications_and_for_raw_frames(sample, pipeline):
    first = pipeline.submit(frame(sample, 0, 0.0)).result().spectrum
    assert first.power.shape == (64, 33)
    assert pipeline.submit(frame(sample, 1, 0.5)).result().spectrum is None
    # In the frame's own unit, whatever the range that it is scaled to.
    brighter = Frame(3.0 * frame(sample, 2, 1.1).pixels, 2, 1.1, "test")
    second = pipeline.submit(brighter).result().spectrum
    assert np.median(second.power / first.power) == pytest.approx(9, rel=0.2)
    noise = np.random.default_rng(0).normal(100, 1, SHAPE)
    raw = pipeline.submit(Frame(noise, 3, 9.0, "test")).result()
    assert raw.spectrum is not None


def test_a_frame_whose_light_changes_is_passed_on_raw(sample, pipeline, monkeypatch):
    deblur = pipeline.executor.deblur
    for broken in (lambda x: 1.3 * x, lambda x: x * math.nan):
        monkeypatch.setattr(
            pipeline.executor, "deblur", lambda *a, b=broken: b(deblur(*a))
        )
        result = pipeline.submit(frame(sample, 0, 0.0)).result()
        assert result.state is FrameState.RAW_ONLY
        assert "total light" in result.reason


class Broken(TorchExecutor):
    """Engines whose frames are wrong; TensorRT is not used."""

    name = "broken engines"

    def __init__(self, *arguments, spoil):
        super().__init__(*arguments)
        self.spoil = spoil

    def is_admitted(self, shape):
        return True

    def release(self):
        pass

    def program_ends(self):
        pass

    def deblur(self, *frame):
        return self.spoil(super().deblur(*frame))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda x: 1.3 * x, "total light"),
        (lambda x: x * math.nan, "total light"),
        (lambda x: x.flip(0), "blurred again, does not match the raw frame"),
    ],
)
def test_where_torch_can_deblur_a_frame_the_engine_is_abandoned_visibly(
    sample, pipeline, spoil, said
):
    pack = load_pack("zernike7")
    arguments = pack, pipeline.family, torch.device("cpu")
    engines = Broken(*arguments, spoil=spoil)
    pipeline.executor = BestExecutor(TorchExecutor(*arguments), [engines])
    result = pipeline.submit(frame(sample, 0, 0.0)).result()
    assert result.state is FrameState.DEBLURRED
    assert result.deblurred.mean() == pytest.approx(
        result.frame.pixels.mean(), rel=0.02
    )
    (note,) = result.notes
    assert said in note


def test_a_frame_that_torch_too_gets_wrong_is_raw_with_the_reason(sample, pipeline):
    arguments = load_pack("zernike7"), pipeline.family, torch.device("cpu")
    torchs, engines = (
        Broken(*arguments, spoil=lambda sharp: sharp.flip(0)) for _ in range(2)
    )
    pipeline.executor = BestExecutor(torchs, [engines])
    result = pipeline.submit(frame(sample, 0, 0.0)).result()
    assert result.state is FrameState.RAW_ONLY
    assert "blurred again" in result.reason
    assert result.notes == ()


def test_half_precision_agrees_with_single(sample, pipeline):
    from deepblur_live.runtime.calibration import scale
    from deepblur_live.runtime.executor import TorchExecutor
    from deepblur_live.runtime.pack import load_pack

    image = scale(sample.frame(0.0).pixels).image
    gamma = torch.tensor(sample.coefficients(0.0)).float()
    known = torch.zeros(len(gamma), len(gamma))
    inputs = image, gamma, known, NoiseModel.white(0.01)
    pack, cpu = load_pack("zernike7", ("live", "quality")), torch.device("cpu")
    single = TorchExecutor(pack, pipeline.family, cpu, half=False).deblur(*inputs)
    half = pipeline.executor.deblur(*inputs)
    assert (half - single).norm() < 0.02 * single.norm()
    assert "cpu" in pipeline.executor.backend.description


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
def test_a_card_gives_the_same_frames_as_the_processor(sample):
    made = []
    for device in ("cpu", "cuda"):
        settings = {"threads": 1, "device": device}
        pipeline = build_pipeline(Profile.model_validate({"model": settings}))
        made.append(
            [pipeline.submit(frame(sample, i, 1.2 * i)).result() for i in range(3)]
        )
        pipeline.close()
    for here, there in zip(*made, strict=True):
        assert there.state is FrameState.DEBLURRED
        np.testing.assert_allclose(there.psf, here.psf, atol=0.02 * here.psf.max())
        off = np.linalg.norm(there.deblurred - here.deblurred)
        assert off < 0.02 * np.linalg.norm(here.deblurred)


def test_a_calibrated_camera_gives_the_noise(sample, quick_search):
    camera = {"offset_adu": 100.0, "gain_e_per_adu": 0.5, "read_noise_e": 1.5}
    pipeline = build_pipeline(
        Profile.model_validate({"camera": camera, "model": {"threads": 1}})
    )
    read = build_pipeline(Profile.model_validate({"model": {"threads": 1}}))
    for p in (pipeline, read):
        p.submit(frame(sample, 0, 0.0)).result()
    assert pipeline.identifier.noise_sigma == pytest.approx(
        read.identifier.noise_sigma, rel=0.15
    )


def test_other_modes_leave_the_network_out_and_work(sample, quick_search):
    profile = Profile.model_validate(
        {"optics": {"noll": "paper"}, "model": {"threads": 1}}
    )
    pipeline = build_pipeline(profile)
    assert pipeline.identifier.network is None
    result = pipeline.submit(frame(sample, 0, 0.0)).result()
    assert result.state is FrameState.DEBLURRED
    assert result.track.coefficients.shape == (7,)


def test_an_untrusted_estimate_leaves_the_track_where_it_was(sample, pipeline):
    first = pipeline.submit(frame(sample, 0, 0.0)).result()
    p = pipeline.family.n_coefficients
    lost = Estimate(np.full(p, 9.0), np.eye(p), 0.9, False, "out of range")
    pipeline.identifier.accept = lambda solution: lost
    second = pipeline.submit(frame(sample, 1, 1.0)).result()
    assert second.state is FrameState.DEBLURRED, second.reason
    np.testing.assert_allclose(
        second.track.coefficients, first.track.coefficients, atol=1e-9
    )


def test_processed_frames_stay_raw_though_a_blur_is_known(sample, pipeline):
    pipeline.submit(frame(sample, 0, 0.0)).result()
    for k in range(1, 8):
        shot = frame(sample, k, float(k))
        smooth = gaussian_filter(shot.pixels.astype(float), 0.6).round()
        filtered = dataclasses.replace(shot, pixels=smooth.astype(np.uint16))
        result = pipeline.submit(filtered).result()
    assert result.state is FrameState.RAW_ONLY
    assert "filtered" in result.reason


def test_optics_out_of_range_are_refused_when_built():
    profile = Profile()
    optics = profile.optics.model_copy(update={"pixel_size_nm": 25.0})
    with pytest.raises(PackError, match="pixel_size_nm 25"):
        build_pipeline(profile.model_copy(update={"optics": optics}))


def test_results_cross_to_another_process(sample, pipeline):
    import pickle

    result = pipeline.submit(frame(sample, 0, 0.0)).result()
    light = dataclasses.replace(result, deblurred=None)
    again = pickle.loads(pickle.dumps(light))
    np.testing.assert_array_equal(again.track.coefficients, result.track.coefficients)


def test_a_bead_slide_uses_the_prior_of_its_beads():
    """The prior of the specimen is the beads' own, and the network is not used."""
    model = {"threads": 1, "bead_diameter_nm": 700.0}
    identifier = build_pipeline(Profile.model_validate({"model": model})).identifier
    assert identifier.network is None
    expected = SpecimenSpectrum.beads(7.0)
    assert torch.equal(identifier.refiner.specimen.mean, expected.mean)


def test_a_known_blur_is_used_from_its_time_on_with_its_sign(sample, pipeline):
    first = pipeline.submit(frame(sample, 0, 0.0)).result()
    # The same PSF has even modes of the other sign.
    even = pipeline.family.even
    known = np.where(even, -1.0, 1.0) * first.track.coefficients
    pipeline.start_from(Gaussian(1.0, known, 1e-4 * np.eye(len(known))))
    before = pipeline.submit(frame(sample, 1, 0.5)).result()
    np.testing.assert_array_equal(before.track.coefficients, first.track.coefficients)
    result = pipeline.submit(frame(sample, 2, 1.5)).result()
    # Earlier frames are forgotten, and the next estimate starts from it.
    assert pipeline.identifier.spectrum.frames == 1
    assert result.estimate is not None
    np.testing.assert_allclose(result.track.coefficients, known, atol=0.02)
    assert np.sign(result.track.coefficients[even]) @ np.sign(known[even]) > 2
