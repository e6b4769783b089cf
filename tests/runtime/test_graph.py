"""A frame on static buffers: the same numbers, with or without a CUDA graph."""

from types import SimpleNamespace

import pytest
import torch

from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.deblurring import FoldedFista, UnrolledFista
from deepblur_live.optics import NoiseModel
from deepblur_live.runtime import graph as graph_module
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.graph import (
    _RECORDING,
    FrameGraph,
    no_recording,
)
from deepblur_live.runtime.graph_executor import GraphExecutor
from deepblur_live.runtime.parity import compare, trial_frame

FAMILY = ZernikeFamily()
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
DEVICES = ["cpu", pytest.param("cuda", marks=CUDA)]


def played(device, *parts):
    """Replaces CUDA graphs of functions, without a card."""
    for part in parts:
        part()
    return [SimpleNamespace(replay=part) for part in parts]


def gamma(seed):
    return FAMILY.sample(1, torch.Generator().manual_seed(seed))[0]


def inputs(image, seed, sigma, deviation=0.0, slope=0.0):
    """A frame, its blur as identified, and its noise."""
    count = FAMILY.n_coefficients
    noise = NoiseModel(*torch.tensor([[slope], [sigma**2], [1e-8]]))
    return image, gamma(seed), deviation**2 * torch.eye(count), noise


@pytest.mark.parametrize("device", DEVICES)
def test_frames_are_those_of_the_plain_executor(pack, device):
    """On a card the graph is recorded at the first frame; on a CPU there is none."""
    where = torch.device(device)
    plain = TorchExecutor(pack, FAMILY, where, half=False)
    graph = GraphExecutor(pack, FAMILY, where, half=False)
    frames = [
        # Blur, its uncertainty, noise, picture and size change from frame to frame.
        inputs(trial_frame((64, 96)), 0, 0.01),
        inputs(trial_frame((64, 96)), 1, 0.01, 0.05),
        inputs(trial_frame((64, 96)).flip(0), 1, 0.05, 0.05),
        inputs(trial_frame((75, 64)), 1, 0.05),
        inputs(trial_frame((75, 64)), 1, 0.01, slope=2e-3),
        inputs(trial_frame((64, 96)), 0, 0.01),
    ]
    # By default a card's kernels differ by the rounding of TF32.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        results = [graph.deblur(*frame) for frame in frames]
        wanted = [plain.deblur(*frame) for frame in frames]
    for result, expected, frame in zip(results, wanted, frames, strict=True):
        assert result.shape == frame[0].shape
        assert compare("", result, expected).error < 1e-5
    # Earlier results are not overwritten by later frames.
    assert torch.equal(results[0], results[-1])
    assert compare("", results[4], results[3]).error > 1e-3
    assert graph.notes == []
    assert ("CUDA graph" in graph.description) == (device == "cuda")


def test_a_recorded_size_has_its_own_noise_again(pack, monkeypatch):
    """Sizes share weights: each recording folds them for its own frame."""

    monkeypatch.setattr(graph_module, "record", played)
    cpu = torch.device("cpu")
    plain = TorchExecutor(pack, FAMILY, cpu, half=False)
    executor = GraphExecutor(pack, FAMILY, cpu, half=False)
    for shape in ((64, 96), (75, 64)):
        executor._graph_for(shape).parts._to_record = True
    for shape, sigma in (((64, 96), 0.01), ((75, 64), 0.05), ((64, 96), 0.01)):
        frame = inputs(trial_frame(shape), 0, sigma)
        assert compare("", executor.deblur(*frame), plain.deblur(*frame)).error < 1e-5
        assert len(executor._graph_for(shape).parts.graphs) == 2


def test_few_sizes_are_held_at_once(pack):
    graph = GraphExecutor(pack, FAMILY, torch.device("cpu"), half=False)
    for side in (64, 66, 68, 70, 72):
        graph.deblur(*inputs(trial_frame((side, side)), 0, 0.01))
    assert len(graph._graphs) == 3


class SplitFamily:
    """The PSF in two kernels, of different shapes."""

    window, n_coefficients = FAMILY.window, FAMILY.n_coefficients

    def kernels(self, coefficients):
        psf = FAMILY.psf(coefficients)
        return psf[..., :10, :], psf[..., 10:, :]

    def operator_from(self, kernels, shape, frame=None):
        return FAMILY.operator_from((torch.cat(kernels, -2),), shape, frame)


class KnownFamily(SplitFamily):
    """Without `expected_kernels`: γ counts as exact."""

    def kernels(self, coefficients):
        return FAMILY.kernels(coefficients)

    def operator_from(self, kernels, shape, frame=None):
        return FAMILY.operator_from(kernels, shape, frame)


def test_all_kernels_of_an_operator_are_copied_into_place(pack):
    cpu = torch.device("cpu")
    plain = TorchExecutor(pack, KnownFamily(), cpu, half=False)
    split = GraphExecutor(pack, SplitFamily(), cpu, half=False)
    places = None
    for seed in (0, 1):
        frame = inputs(trial_frame((64, 96)), seed, 0.01, 0.05)
        assert torch.equal(split.deblur(*frame), plain.deblur(*frame))
        static = [k.data_ptr() for k in split._graph_for((64, 96))._kernels]
        assert len(static) == 2
        assert places in (None, static)
        places = static


@pytest.mark.parametrize("family", [FAMILY, ZernikeField()])
@pytest.mark.parametrize("mapped", [False, True])
def test_the_recorded_steps_read_nothing_back(mapped, family, operations):
    """A CUDA graph cannot record what the processor must wait for."""
    cpu, shape = torch.device("cpu"), (64, 160)
    network = UnrolledFista(3, 8, exact=1, noise_map=mapped, plain=int(mapped))
    graph = FrameGraph(FoldedFista(network), shape, family, 2, cpu)
    coefficients = family.sample(1, torch.Generator().manual_seed(0))
    covariance = 1e-3 * torch.eye(family.n_coefficients)[None]
    kernels = family.expected_kernels(coefficients, covariance)
    frame = trial_frame(shape), kernels, NoiseModel.white(0.01)
    graph.run(*frame)
    with torch.no_grad(), operations:
        graph._steps()
    assert "_fft_r2c" in operations.names
    assert not {"_local_scalar_dense", "nonzero", "equal"} & operations.names


def test_a_frame_records_only_while_no_engine_opens_and_never_waits(pack, monkeypatch):
    """Without a card: recording itself is played."""
    recorded = []

    def record(device, *parts):
        assert _RECORDING.locked()
        recorded.append(device)
        return played(device, *parts)

    monkeypatch.setattr(graph_module, "record", record)
    cpu = torch.device("cpu")
    graph = FrameGraph(FoldedFista(pack.deblurring), (64, 96), FAMILY, 2, cpu)
    kernels = FAMILY.kernels(gamma(0)[None])
    frame = trial_frame((64, 96)), kernels, NoiseModel.white(0.01)
    wanted = graph.run(*frame).clone()
    assert recorded == []  # on a CPU
    graph.parts._to_record = True
    with no_recording():
        # Elsewhere an engine opens.
        assert torch.equal(graph.run(*frame), wanted)
    assert recorded == []
    for _ in range(2):
        assert torch.equal(graph.run(*frame), wanted)
    assert recorded == [cpu]
    assert not _RECORDING.locked()


def test_a_frame_that_cannot_be_recorded_says_so_once(pack, monkeypatch):
    def refuse(*_):
        raise RuntimeError("operation not permitted")

    monkeypatch.setattr(graph_module, "record", refuse)
    executor = GraphExecutor(pack, FAMILY, torch.device("cpu"), half=False)
    frame = inputs(trial_frame((64, 96)), 0, 0.01)
    executor._graph_for((64, 96)).parts._to_record = True
    first = executor.deblur(*frame)
    assert torch.equal(executor.deblur(*frame), first)
    (note,) = executor.notes
    assert "64 × 96" in note
    assert "operation not permitted" in note
    assert "one CUDA graph" not in executor.description


@CUDA
def test_where_recording_fails_frames_run_without_it_and_a_note_says_so(
    pack, monkeypatch
):
    """Runs only where there is a card."""

    def refuse(*_, **__):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    executor = GraphExecutor(pack, FAMILY, torch.device("cuda"), half=False)
    frame = inputs(trial_frame((64, 96)), 0, 0.01)
    plain = TorchExecutor(pack, FAMILY, torch.device("cuda"), half=False)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        result, expected = executor.deblur(*frame), plain.deblur(*frame)
    assert compare("", result, expected).error < 1e-5
    (note,) = executor.notes
    assert "not permitted" in note
