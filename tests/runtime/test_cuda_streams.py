"""Which steps of a frame wait for which: the real pipeline on a simulated card."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import deepblur_live.runtime.pipeline as pipeline_module
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.profile import Camera
from deepblur_live.runtime import inspection
from deepblur_live.runtime.cuda_streams import (
    RECORDING,
    CudaStreams,
    background_stream,
)
from deepblur_live.runtime.frame import DeviceLost, Frame, FrameState
from deepblur_live.runtime.guard import Verdict
from deepblur_live.runtime.pipeline import DeblurPipeline

FAMILY = ZernikeFamily(pupil_samples=31)
# Milliseconds: the host's own work with a frame, and the card's.
HOST, UP, DEBLUR, DOWN, CHECK = 1.0, 2.0, 5.0, 2.0, 0.2
IMAGE = torch.zeros(64, 64)


class Card:
    """A card with a clock: steps run in order in a stream, streams in parallel."""

    def __init__(self):
        self.now, self.made, self.current, self.log = 0.0, [], [], []
        self.default = SimulatedStream(self)
        self.default.tail = 0.5

    def stream(self, _device=None, priority=0):
        made = SimulatedStream(self)
        made.priority = priority
        self.made.append(made)
        return made

    @contextlib.contextmanager
    def inside(self, stream):
        self.current.append(stream)
        yield
        self.current.pop()

    def queue(self, what, took):
        """Queue a step in the current stream; return when it began and when it ends."""
        stream = self.current[-1]
        began = max(stream.tail, self.now)
        stream.tail = began + took
        self.log.append((what, began, stream.tail))

    def wait_for(self, time):
        self.now = max(self.now, time)


class SimulatedStream:
    def __init__(self, card):
        self.card, self.tail = card, 0.0

    def wait_stream(self, other):
        self.tail = max(self.tail, other.tail)

    def record_event(self):
        tail = self.tail
        return SimpleNamespace(
            query=lambda: self.card.now >= tail,
            synchronize=lambda: self.card.wait_for(tail),
        )


class Executor:
    description, device = "a card", torch.device("cuda")

    def __init__(self, card):
        self.card, self.spoiled, self.left = card, set(), []
        self.backend = self
        self.reference = SimpleNamespace(description="torch", deblur=self.deblur_again)

    def deblur(self, *inputs):
        number = sum(what.startswith("deblur") for what, *_ in self.card.log)
        self.card.queue(f"deblur {number}", DEBLUR)
        return IMAGE + (1.0 if number in self.spoiled else 0.0)

    def deblur_again(self, *inputs):
        self.card.queue("second", DEBLUR)
        return IMAGE

    def distrust(self, backend, why):
        self.left.append((backend, why))

    def card_failed(self):
        self.left.append("all")

    def take_notes(self):
        return []

    def close(self):
        pass


@pytest.fixture
def card(monkeypatch):
    card = Card()
    monkeypatch.setattr(torch.cuda, "Stream", card.stream)
    monkeypatch.setattr(torch.cuda, "stream", card.inside)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _=None: card.default)

    class Scaled:
        image, low, span, inner = IMAGE, 0.0, 1.0, (0.0, 1.0)

        def __init__(self, number):
            self.number = number

        def restore(self, sharp):
            card.queue(f"down {self.number}", DOWN)
            return sharp

    def scale(pixels, device, cutoff, inner, graph):
        number = int(pixels[0, 0])
        card.wait_for(card.now + HOST)
        card.queue(f"up {number}", UP)
        # Grey values are read: the host waits.
        card.wait_for(card.current[-1].tail)
        return Scaled(number)

    class Guard:
        def __init__(self, family):
            pass

        def refusal(self, *_):
            return ""

        def strength(self, *_):
            return 1.0

        def measure(self, image, sharp, *_):
            card.queue("check", CHECK)
            return sharp

        def judge(self, sharp, *_):
            return Verdict(0, "too bright") if float(sharp.max()) > 0 else Verdict()

    monkeypatch.setattr(inspection, "scale", scale)
    monkeypatch.setattr(inspection, "ScalingGraph", lambda *_: None)
    monkeypatch.setattr(pipeline_module, "FrameGuard", Guard)
    monkeypatch.setattr(inspection, "untreatable", lambda *_: "")
    return card


@pytest.fixture
def pipeline(card):
    identifier = SimpleNamespace(
        spectrum=SimpleNamespace(average_s=5.0, frames=1),
        take_notes=list,
        noise_sigma=0.01,
        solve=None,
    )
    made = DeblurPipeline(FAMILY, identifier, None, Executor(card), Camera())
    made._reset_if_geometry_changed = made._identify = lambda *_: None
    made._identification.track = SimpleNamespace(
        coefficients=np.zeros(7), covariance=np.eye(7)
    )
    yield made
    made.close()


def frames(count):
    return [Frame(np.full((2, 2), i), i, 0.1 * i) for i in range(count)]


def test_the_slowest_step_alone_sets_the_pace(card, pipeline):
    """Each frame is submitted before the last is collected, as the worker does it."""
    done, before = [], None
    for frame in frames(12):
        after = pipeline.submit(frame)
        if before is not None:
            assert before.result().state is FrameState.DEBLURRED
            done.append(card.now)
        before = after
    np.testing.assert_allclose(np.diff(done)[2:], DEBLUR, atol=CHECK)
    times = {what: (began, ended) for what, began, ended in card.log}
    for i in range(12):
        assert times[f"up {i}"][1] <= times[f"deblur {i}"][0]
        assert times[f"deblur {i}"][1] <= times[f"down {i}"][0]
        if i:
            assert times[f"deblur {i}"][0] >= times[f"deblur {i - 1}"][1]


def test_a_frame_is_done_when_it_is_downloaded_and_is_waited_for(card, pipeline):
    future = pipeline.submit(frames(1)[0])
    assert not future.done()
    future.result()
    assert card.now == pytest.approx(HOST + UP + DEBLUR + DOWN + CHECK)
    assert future.done()


def test_the_second_deblurring_waits_for_the_frame_in_progress(card, pipeline):
    """Torch's static buffers may be in use for the next frame already."""
    pipeline.executor.spoiled = {0}
    first, second = (pipeline.submit(frame) for frame in frames(2))
    result = first.result()
    assert result.executor == "torch"
    assert pipeline.executor.left == [(pipeline.executor, "too bright")]
    assert second.result().executor == "a card"
    times = {what: (began, ended) for what, began, ended in card.log}
    assert times["second"][0] >= times["deblur 1"][1]
    # Its own result is checked and downloaded.
    checks = [began for what, began, _ in card.log if what == "check"]
    assert checks[-1] >= times["second"][1]


@pytest.mark.parametrize("step", ["submit", "collect"])
@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("CUDA error: an illegal memory access was encountered", ["all"]),
        # No engine is to blame for these.
        ("CUDA error: the launch timed out and was terminated", []),
        ("CUDA error: uncorrectable ECC error encountered", []),
    ],
)
def test_a_card_that_fails_is_noticed_and_engines_are_blamed_for_their_own_faults(
    card, pipeline, monkeypatch, step, text, counted
):
    """Its failure is reported late: by the next call that waits for the card."""

    def fail(*_):
        raise RuntimeError(text)

    futures = [pipeline.submit(frame) for frame in frames(2)]
    where = pipeline.executor if step == "submit" else pipeline._guard
    monkeypatch.setattr(where, "deblur" if step == "submit" else "judge", fail)
    for future in futures:
        with pytest.raises(DeviceLost, match="CUDA"):
            pipeline.submit(frames(1)[0]) if step == "submit" else future.result()
    assert pipeline.executor.left == counted


@pytest.mark.parametrize("step", ["submit", "collect"])
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        # Of page-locked memory.
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
    ],
)
def test_a_full_card_passes_frames_on_and_says_so(
    card, pipeline, monkeypatch, step, error
):
    futures = [pipeline.submit(frame) for frame in frames(2)]
    where = pipeline.executor if step == "submit" else pipeline._guard
    attribute = "deblur" if step == "submit" else "judge"
    with monkeypatch.context() as full:
        full.setattr(where, attribute, lambda *_: (_ for _ in ()).throw(error))
        if step == "submit":
            futures.append(pipeline.submit(frames(1)[0]))
        result = futures[-1].result()
    assert result.state is FrameState.RAW_ONLY
    assert "no memory left for frames of 2 × 2" in result.reason
    assert pipeline.executor.left == []
    # Another program may leave: the next frame is tried again.
    again = pipeline.submit(frames(1)[0]).result()
    assert again.state is FrameState.DEBLURRED


def test_other_errors_of_cuda_are_of_one_frame_unless_they_come_again(
    card, pipeline, monkeypatch
):
    def fail(*_):
        raise torch.AcceleratorError(
            "CUDA error: operation not permitted when stream is capturing"
        )

    monkeypatch.setattr(pipeline.executor, "deblur", fail)
    card.default.synchronize = lambda: None
    with pytest.raises(torch.AcceleratorError):
        pipeline.submit(frames(1)[0])
    card.default.synchronize = fail
    with pytest.raises(DeviceLost):
        pipeline.submit(frames(1)[0])
    assert pipeline.executor.left == []


def test_where_each_frame_is_identified_by_itself_frames_do_not_overlap(card, pipeline):
    pipeline.identifier.spectrum.average_s = 0.0
    assert pipeline.submit(frames(1)[0]).done()


def test_streams_begin_after_what_was_queued_before(card):
    CudaStreams(torch.device("cuda"))
    assert [stream.tail for stream in card.made] == [0.5] * 3


def test_background_work_yields_to_frames(card):
    """On a card the lower number is served first."""
    CudaStreams(torch.device("cuda"))
    with background_stream(torch.device("cuda")):
        assert card.current == card.made[3:]
    *frames, beside = (stream.priority for stream in card.made)
    # Torch gives each priority streams of its own.
    assert max(frames) < RECORDING < beside


def test_on_the_processor_steps_run_at_once(card):
    streams = CudaStreams(torch.device("cpu"))
    taken = []
    for stream in (streams.upload, streams.compute, streams.download):
        with stream():
            taken.append(stream)
    assert streams.downloaded() is None
    assert len(taken) == 3
    assert card.made == []
