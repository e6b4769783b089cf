"""What a frame may ask of a card: torch calls, and waits for what the card computes.

On the CPU: tensors that would be on the card are marked, from the upload on, and every
read of a marked tensor's values is counted as one wait.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.optics import NoiseModel
from deepblur_live.runtime import graph as graph_module
from deepblur_live.runtime.calibration import scale
from deepblur_live.runtime.check_graph import CheckGraph
from deepblur_live.runtime.frame import Frame
from deepblur_live.runtime.guard import Verdict
from deepblur_live.runtime.pack import load_pack
from deepblur_live.runtime.scaling_graph import ScalingGraph

FAMILY = ZernikeFamily()
CPU = torch.device("cpu")
ATEN = torch.ops.aten
WAITS = {ATEN._local_scalar_dense, ATEN.nonzero, ATEN.equal, ATEN.masked_select}
# As `Tensor.numpy`, which the dispatch mode below does not intercept.
LOOKS = {torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.cpu}


def marked(values):
    tensors = (value for value in tree_iter(values) if isinstance(value, torch.Tensor))
    return [tensor for tensor in tensors if getattr(tensor, "on_card", False)]


class Looks(TorchFunctionMode):
    """Counts copies to the processor, which dispatch does not show."""

    def __init__(self, watch):
        self.watch = watch

    def __torch_function__(self, function, types, args=(), kwargs=None):
        on_card = marked(args[:1])
        result = function(*args, **(kwargs or {}))
        if on_card and function in LOOKS:
            self.watch.waits.append(function.__name__)
            if isinstance(result, torch.Tensor):
                result.on_card = False
        if on_card and function is torch.Tensor.to and "cpu" in args[1:]:
            # Asynchronous, into page-locked memory.
            assert kwargs["non_blocking"]
            self.watch.downloads += 1
            result.on_card = False
        return result


class Watch(TorchDispatchMode):
    """Counts torch's operations, and waits for marked tensors."""

    def __init__(self):
        super().__init__()
        self.calls, self.waits, self.downloads = 0, [], 0
        self._looks = Looks(self)

    def __enter__(self):
        self._looks.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        return self._looks.__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls += 1
        on_card = marked((args, kwargs))
        packet = function.overloadpacket
        masks = packet in (ATEN.index, ATEN.index_put, ATEN.index_put_) and any(
            tensor.dtype == torch.bool for tensor in marked(args[1])
        )
        if on_card and (packet in WAITS or masks):
            self.waits.append(str(packet))
        result = function(*args, **(kwargs or {}))
        upload = packet is ATEN._to_copy and args[0].dtype == torch.uint16
        if on_card or upload:
            for tensor in tree_iter(result):
                if isinstance(tensor, torch.Tensor):
                    tensor.on_card = True
        return result


def photograph(side, seed=0):
    """A camera's frame with hot pixels and columns of different offsets."""
    random = np.random.default_rng(seed)
    wave = np.sin(np.arange(side) / 9)
    frame = (
        200
        + 50 * wave[:, None] * wave
        + random.normal(0, 5, (side, side))
        + random.normal(0, 2, side)
    )
    frame[random.random((side, side)) < 1e-3] += 3000
    return frame.astype(np.uint16)


@pytest.fixture(scope="module")
def pack():
    return load_pack("zernike7")


@pytest.fixture(autouse=True)
def tools(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "tools")


@pytest.fixture
def make(pack):
    """Make a pipeline whose frames of a side are replayed, and seem to be on a card."""
    from benchmarking.host import played_pipeline

    made = []

    def make(side):
        pipeline = played_pipeline(pack, side)
        pipeline._geometry = (side, side), np.dtype(np.uint16).str
        pipeline._identification.identified = 0.0
        scaling, check = pipeline._inspector._graph, pipeline._guard._check
        scaling._image.on_card = check._numbers.on_card = True
        made.append(pipeline)
        return pipeline

    yield make
    for pipeline in made:
        pipeline.close()


def shown(pipeline, pixels, time):
    """Return the result of a frame, and what its two halves asked of the card."""
    begin, finish = Watch(), Watch()
    with begin:
        future = pipeline.submit(Frame(pixels, 0, time))
    with finish:
        result = future.result()
    return result, begin, finish


# Measured, and a little more: a torch call costs about 4 µs on the host.
BEGIN, FINISH = 35, 6


@pytest.mark.parametrize("side", [96, 512, 2048])
def test_a_frame_between_inspections_waits_for_the_card_once(make, side):
    """For its download; the numbers that its check needs come with it."""
    pipeline = make(side)
    pixels = photograph(side)
    _, begin, _ = shown(pipeline, pixels, 1.0)
    assert len(begin.waits) > 5  # of the frame that is inspected
    _, begin, finish = shown(pipeline, pixels, 1.01)
    assert begin.waits == []
    assert begin.downloads == 2
    assert finish.waits == []
    assert finish.downloads == 0
    assert begin.calls <= BEGIN
    assert finish.calls <= FINISH


@pytest.mark.parametrize(
    ("side", "most", "runs"), [(96, 1.5, 300), (512, 1.5, 300), (2048, 5.0, 60)]
)
def test_the_host_is_fast_enough(pack, side, most, runs):
    """In ms, three times what was measured (docs/speed.md), for a busy computer."""
    from benchmarking.host import host_time

    assert sum(host_time(pack, side, runs)) < most


def test_spectra_are_averaged_twenty_times_a_second(make):
    pipeline = make(96)
    pixels = photograph(96)
    for i in range(60):
        shown(pipeline, pixels, i / 240)
    assert len(pipeline.identifier.observed) == 5


def test_a_frame_mixed_with_the_raw_one_is_downloaded_once(make, monkeypatch):
    pipeline = make(96)
    pixels = photograph(96)
    shown(pipeline, pixels, 1.0)
    whole, *_ = shown(pipeline, pixels, 1.01)
    graph = pipeline.executor.reference._graph_for((96, 96))
    graph.parts.graphs[1] = SimpleNamespace(replay=lambda: graph._sharp.fill_(0.5))
    monkeypatch.setattr(pipeline._guard, "judge", lambda *_: Verdict(0.25, "uncertain"))
    pipeline._blur = pipeline._blur._replace(strength=0.25)
    mixed, begin, finish = shown(pipeline, pixels, 1.02)
    assert (begin.downloads, finish.downloads, finish.waits) == (2, 0, [])
    scaled, _ = pipeline._inspector.scale(Frame(pixels, 0, 1.01))
    raw, half = whole.deblurred, scaled.low + 0.5 * scaled.span
    np.testing.assert_allclose(mixed.deblurred, 0.75 * raw + 0.25 * half, rtol=1e-4)
    assert mixed.strength == 0.25


@pytest.mark.parametrize("side", [64, 130])
def test_the_check_of_a_frame_reads_nothing_back(side):
    """A CUDA graph cannot record what the processor must wait for."""
    check = CheckGraph(FAMILY, (side, side), CPU)
    frame = torch.rand(side, side)
    kernels = FAMILY.kernels(torch.full((1, FAMILY.n_coefficients), 0.03))
    numbers = check.run(frame, frame, kernels, NoiseModel.white(0.01)).clone()
    for buffer in (check._image, check._sharp, check._numbers, *check._kernels):
        buffer.on_card = True
    with torch.no_grad(), Watch() as watch:
        check._steps()
    assert watch.waits == []
    assert watch.downloads == 0
    assert torch.equal(check._numbers, numbers)
    assert numbers[-2:].tolist() == pytest.approx([float(frame.mean())] * 2)


@pytest.mark.parametrize("side", [96, 130])
def test_scaling_between_inspections_reads_nothing_and_gives_the_same(side):
    pixels = photograph(side)
    graph = ScalingGraph(CPU, FAMILY.cutoff)
    like = scale(pixels, cutoff=FAMILY.cutoff)
    again = scale(pixels, cutoff=FAMILY.cutoff, inner=like.inner, graph=graph)
    torch.testing.assert_close(again.image, like.image, rtol=1e-4, atol=1e-4)
    assert again.low == pytest.approx(like.low)
    assert again.span == pytest.approx(like.span)
    for buffer in (graph._raw, graph._image, graph._low, graph._high):
        buffer.on_card = True
    with torch.no_grad(), Watch() as watch:
        graph._steps()
    assert watch.waits == []
    # Another frame does not change this one.
    kept = again.image.clone()
    scale(photograph(side, 1), cutoff=FAMILY.cutoff, inner=like.inner, graph=graph)
    assert torch.equal(again.image, kept)


def test_scaling_is_recorded_once_for_a_size_and_continues_where_it_cannot_be(
    monkeypatch, caplog
):
    recorded = []

    def play(device, steps):
        recorded.append(steps)
        if len(recorded) == 2:
            raise RuntimeError("operation not permitted")
        return [SimpleNamespace(replay=steps)]

    monkeypatch.setattr(graph_module, "record", play)
    graph = ScalingGraph(CPU, FAMILY.cutoff)
    like = scale(photograph(96), cutoff=FAMILY.cutoff)
    for side, count in ((96, 1), (96, 1), (100, 2), (100, 2)):
        frame = photograph(side)
        run = scale(frame, cutoff=FAMILY.cutoff, inner=like.inner, graph=graph)
        if len(recorded) < count:
            # There is no card: what the first frame of a size does on one.
            graph.parts._to_record = True
            run = scale(frame, cutoff=FAMILY.cutoff, inner=like.inner, graph=graph)
        assert run.image.shape == (side, side)
        assert len(recorded) == count
    assert "could not be recorded" in caplog.text
