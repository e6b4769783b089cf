"""Which steps of a frame wait for which: the real pipeline, the card is played."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import deepblur_live.runtime.pipeline as pipeline_module
from deepblur_live.optics import ZernikeFamily
from deepblur_live.profile import Camera
from deepblur_live.runtime.frame import Frame, FrameState
from deepblur_live.runtime.lanes import Lanes
from deepblur_live.runtime.pipeline import DeblurPipeline

FAMILY = ZernikeFamily(pupil_samples=31)
# Milliseconds: the host's own work with a frame, and the card's.
HOST, UP, DEBLUR, DOWN, CHECK = 1.0, 2.0, 5.0, 2.0, 0.2
IMAGE = torch.zeros(64, 64)


class Card:
    """A card with a clock: streams take their steps in order, beside each other."""

    def __init__(self):
        self.now, self.made, self.current, self.log = 0.0, [], [], []
        self.default = PlayedStream(self)
        self.default.tail = 0.5

    def stream(self, _device=None):
        made = PlayedStream(self)
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


class PlayedStream:
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
        self.server = self
        self.reference = SimpleNamespace(description="torch")

    def deblur(self, image, coefficients, sigma):
        number = sum(what.startswith("deblur") for what, *_ in self.card.log)
        self.card.queue(f"deblur {number}", DEBLUR)
        return IMAGE + (1.0 if number in self.spoiled else 0.0)

    def second_opinion(self, image, coefficients, sigma, server):
        self.card.queue("second", DEBLUR)
        return IMAGE

    def distrust(self, server, why):
        self.left.append((server, why))

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
        image = IMAGE

        def __init__(self, number):
            self.number = number

        def restore(self, sharp):
            card.queue(f"down {self.number}", DOWN)
            return sharp

    def scale(pixels, device):
        number = int(pixels[0, 0])
        card.wait_for(card.now + HOST)
        card.queue(f"up {number}", UP)
        # Grey values are looked at: the host waits.
        card.wait_for(card.current[-1].tail)
        return Scaled(number)

    class Checks:
        def next_frame(self):
            pass

        def fault(self, image, sharp, psf, sigma):
            card.queue("check", CHECK)
            card.wait_for(card.current[-1].tail)
            return "too bright" if float(sharp.max()) > 0 else ""

    monkeypatch.setattr(pipeline_module, "scale", scale)
    monkeypatch.setattr(pipeline_module, "FrameChecks", Checks)
    return card


@pytest.fixture
def pipeline(card):
    identifier = SimpleNamespace(
        spectrum=SimpleNamespace(average_s=5.0, frames=1),
        noise_sigma=0.01,
        answer=None,
    )
    made = DeblurPipeline(FAMILY, identifier, None, Executor(card), Camera())
    made._notice = made._identify = lambda *_: None
    made._track = SimpleNamespace(coefficients=np.zeros(7))
    yield made
    made.close()


def frames(count):
    return [Frame(np.full((2, 2), i), i, 0.1 * i) for i in range(count)]


def test_the_slowest_step_alone_sets_the_pace(card, pipeline):
    """Each frame is begun before the last is finished, as the worker does it."""
    assert pipeline.overlaps
    done, before = [], None
    for frame in frames(12):
        after = pipeline.begin(frame)
        if before is not None:
            assert before.finish().state is FrameState.DEBLURRED
            done.append(card.now)
        before = after
    np.testing.assert_allclose(np.diff(done)[2:], DEBLUR, atol=CHECK)
    times = {what: (began, ended) for what, began, ended in card.log}
    for i in range(12):
        assert times[f"up {i}"][1] <= times[f"deblur {i}"][0]
        assert times[f"deblur {i}"][1] <= times[f"down {i}"][0]
        if i:
            assert times[f"deblur {i}"][0] >= times[f"deblur {i - 1}"][1]


def test_a_frame_is_there_when_it_is_down_and_is_waited_for(card, pipeline):
    under_way = pipeline.begin(frames(1)[0])
    assert not under_way.is_there()
    under_way.finish()
    assert card.now == pytest.approx(HOST + UP + DEBLUR + DOWN + CHECK)
    assert under_way.is_there()


def test_a_second_opinion_waits_for_what_is_being_deblurred(card, pipeline):
    """Torch's static buffers may be in use for the next frame already."""
    pipeline.executor.spoiled = {0}
    first, second = (pipeline.begin(frame) for frame in frames(2))
    result = first.finish()
    assert result.executor == "torch"
    assert pipeline.executor.left == [(pipeline.executor, "too bright")]
    assert second.finish().executor == "a card"
    times = {what: (began, ended) for what, began, ended in card.log}
    assert times["second"][0] >= times["deblur 1"][1]
    # What is checked and comes down is what it made.
    checks = [began for what, began, _ in card.log if what == "check"]
    assert checks[1] >= times["second"][1]


@pytest.mark.parametrize("step", ["begin", "finish"])
@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("CUDA error: an illegal memory access was encountered", True),
        ("CUDA out of memory. Tried to allocate 2.00 GiB", False),
    ],
)
def test_a_card_that_fails_is_noticed_and_its_engines_are_left(
    card, pipeline, monkeypatch, step, text, lost
):
    """It is told late: by whatever waits for the card next."""

    def fail(*_):
        raise RuntimeError(text)

    under_way = pipeline.begin(frames(1)[0])
    where = pipeline.executor if step == "begin" else pipeline._checks
    monkeypatch.setattr(where, "deblur" if step == "begin" else "fault", fail)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="CUDA"):
            pipeline.begin(frames(1)[0]) if step == "begin" else under_way.finish()
    assert pipeline.lost == lost
    assert pipeline.executor.left == (["all"] if lost else [])


def test_where_each_frame_is_identified_for_itself_none_is_left_under_way(
    card, pipeline
):
    pipeline.identifier.spectrum.average_s = 0.0
    assert not pipeline.overlaps
    assert pipeline.begin(frames(1)[0]).is_there()


def test_lanes_begin_after_what_was_made_before(card):
    Lanes(torch.device("cuda"))
    assert [stream.tail for stream in card.made] == [0.5] * 4


def test_on_the_processor_steps_are_simply_taken(card):
    lanes = Lanes(torch.device("cpu"))
    taken = []
    for lane in (lanes.up, lanes.deblurring, lanes.down, lanes.landed):
        with lane():
            taken.append(lane)
    is_there, wait = lanes.landing()
    assert is_there()
    wait()
    assert len(taken) == 4
    assert card.made == []
