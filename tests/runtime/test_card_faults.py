"""Each fault of a card ends in a named state, and frames go on; simulated on CPU."""

import contextlib
import dataclasses
import gc
import threading
import weakref
from types import SimpleNamespace

import pytest
import torch

from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.deblurring import FoldedFista, UnrolledFista
from deepblur_live.identification import INPUT_SHAPE
from deepblur_live.optics import NoiseModel
from deepblur_live.runtime import compiled_executor, order
from deepblur_live.runtime import graph as graph_module
from deepblur_live.runtime.best import BestExecutor
from deepblur_live.runtime.compiled_executor import CompiledExecutor
from deepblur_live.runtime.cuda_streams import RECORDING
from deepblur_live.runtime.device import Choice, choose_device, has_lost_card
from deepblur_live.runtime.engine_cache import EngineCache
from deepblur_live.runtime.engines import EngineSource
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.graph import FrameGraph
from deepblur_live.runtime.graph_executor import (
    EngineExecutor,
    PreparedExecutor,
    exactly,
)
from deepblur_live.runtime.order import executor_order
from deepblur_live.runtime.parity import compare, trial_frame, trial_spectra
from deepblur_live.runtime.tensorrt import EngineError

FAMILY = ZernikeFamily()
CPU = torch.device("cpu")
SHAPE = (64, 70)
STILL = torch.zeros(FAMILY.n_coefficients)
INPUTS = STILL, torch.zeros(len(STILL), len(STILL)), NoiseModel.white(0.01)
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.fixture
def pack(pack):
    """The shipped model with a small deblurring network."""
    torch.manual_seed(0)
    small = UnrolledFista(iterations=3, channels=8).eval()
    torch.nn.init.normal_(small.proximal.layers[-1].weight, std=0.05)
    return dataclasses.replace(pack, deblurring=small)


# ------------------------------------------------------------------- a failed recording


@pytest.fixture
def streams(monkeypatch):
    """Torch's streams and graphs, whose recording fails as the card's does."""
    current = [SimpleNamespace(wait_stream=lambda _: None)]
    recordings, allocating, released = [], [], []

    class Recording:
        """As `torch.cuda.graph`: where the end raises the stream stays."""

        def __init__(self, graph, pool, stream, capture_error_mode):
            self.stream = stream
            allocating.append(pool)

        def __enter__(self):
            current.append(self.stream)
            recordings.append(self.stream)

        def __exit__(self, *_):
            raise RuntimeError("CUDA error: operation failed due to a previous error")

    @contextlib.contextmanager
    def leaving(stream):
        before = list(current)
        current.append(stream)
        try:
            yield
        finally:
            current[:] = before

    def release(index, pool):
        assert pool not in allocating
        released.append(pool)

    cuda = torch.cuda
    monkeypatch.setattr(
        cuda,
        "Stream",
        lambda _, priority: SimpleNamespace(
            wait_stream=lambda _: None, priority=priority
        ),
    )
    monkeypatch.setattr(cuda, "current_device", lambda: 0)
    monkeypatch.setattr(cuda, "graph_pool_handle", lambda: (0, 1))
    monkeypatch.setattr(
        torch._C, "_cuda_endAllocateToPool", lambda _, pool: allocating.remove(pool)
    )
    monkeypatch.setattr(torch._C, "_cuda_releasePool", release)
    monkeypatch.setattr(cuda, "current_stream", lambda *_: current[-1])
    monkeypatch.setattr(cuda, "stream", leaving)
    monkeypatch.setattr(cuda, "device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(cuda, "synchronize", lambda *_: None)
    monkeypatch.setattr(cuda, "CUDAGraph", SimpleNamespace)
    monkeypatch.setattr(cuda, "graph", Recording)
    return current, recordings, released


def test_a_recording_that_fails_leaves_torch_as_it_was(pack, streams, monkeypatch):
    """Otherwise the next steps would run in a stream that nothing waits for.

    And torch would refuse to give memory back, and to record again.
    """
    monkeypatch.setattr(graph_module, "_failed", [])
    current, recordings, released = streams
    before = current[-1]
    graph = FrameGraph(FoldedFista(pack.deblurring), SHAPE, FAMILY, 2, CPU)
    kernels = FAMILY.kernels(STILL[None])
    frame = trial_frame(SHAPE), kernels, NoiseModel.white(0.01)
    wanted = graph.run(*frame).clone()
    graph.parts._to_record = True
    result = graph.run(*frame)
    (recording,) = recordings
    assert recording.priority == RECORDING
    assert current == [before]
    assert released == [(0, 1)]
    # Torch's allocators still ask it what it records.
    assert len(graph_module._failed) == 1
    assert "previous error" in graph.parts.why_not
    assert not graph.parts.graphs
    assert torch.equal(result, wanted)


@pytest.mark.parametrize("exact", [False, True])
def test_a_recording_keeps_the_precision_of_convolutions(monkeypatch, streams, exact):
    """Torch's own context would allow TF32 again."""
    found = []
    monkeypatch.setattr(graph_module, "_failed", [])
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=not exact):
        with pytest.raises(RuntimeError, match="previous error"):
            graph_module.record(
                CPU, lambda: found.append(torch.backends.cudnn.allow_tf32)
            )
    assert set(found) == {not exact}


def test_nothing_is_recorded_while_the_precision_of_all_threads_is_another():
    with exactly():
        assert graph_module._RECORDING.locked()
        assert not torch.backends.cudnn.allow_tf32
    assert not graph_module._RECORDING.locked()


def test_memory_is_not_given_back_while_another_thread_records(monkeypatch):
    """Torch refuses, and the recording fails."""
    emptied = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    with graph_module.no_recording():
        graph_module.return_memory(torch.device("cuda"))
    assert emptied == []
    graph_module.return_memory(torch.device("cuda"))
    assert emptied == [1]


def test_a_blur_for_which_there_was_no_memory_is_prepared_again(pack, monkeypatch):
    """The next frame of this blur would take the last one's operator."""
    graph = FrameGraph(FoldedFista(pack.deblurring), SHAPE, FAMILY, 2, CPU)
    first, second = (FAMILY.kernels(STILL[None] + shift) for shift in (0.0, 0.1))
    image, noise = trial_frame(SHAPE), NoiseModel.white(0.01)
    wanted = graph.run(image, second, noise).clone()
    graph.run(image, first, noise)

    def full():
        raise FULL

    with monkeypatch.context() as now:
        now.setattr(graph, "_make_operator", full)
        with pytest.raises(torch.OutOfMemoryError):
            graph.run(image, second, noise)
    assert torch.equal(graph.run(image, second, noise), wanted)


# --------------------------------------------------------------- what a lost card is


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (torch.AcceleratorError("CUDA error: an illegal memory access was e"), True),
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), True),
        (torch.AcceleratorError("CUDA error: unknown error"), True),
        (torch.AcceleratorError("CUDA error: out of memory"), False),
        (FULL, False),
        (RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"), False),
        (
            torch.AcceleratorError(
                "CUDA error: operation not permitted when stream is capturing"
            ),
            False,
        ),
        (RuntimeError("shape '[2]' is invalid for input of size 3"), False),
    ],
)
def test_a_card_is_lost_only_after_errors_that_stay(monkeypatch, error, lost):
    asked = SimpleNamespace(synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: asked)
    assert has_lost_card(error) is lost


def test_an_unknown_error_that_comes_again_is_one_that_stays(monkeypatch):
    error = torch.AcceleratorError("CUDA error: something new")

    def again(*_):
        raise error

    asked = SimpleNamespace(synchronize=again)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: asked)
    assert has_lost_card(error)


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: no kernel image is available for execution on the device",
        "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
    ],
)
def test_a_card_that_torch_lists_but_cannot_use_leaves_the_processor(monkeypatch, text):
    """Too old for this torch, or kept by another program."""

    def refuse(*_, **__):
        raise torch.AcceleratorError(f"{text}\nCUDA kernel errors might be …")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Old Card")
    monkeypatch.setattr(torch, "ones", refuse)
    choice = choose_device()
    assert choice.device == CPU
    assert choice.why == f"torch cannot use the Old Card: {text}"
    with pytest.raises(ValueError, match=r"model\.device 'cuda': torch cannot use"):
        choose_device("cuda")


# ----------------------------------------------------------- executors that must agree


class Played(PreparedExecutor):
    """Torch's own iterations in place of another kernel's."""

    @property
    def name(self):
        return "played"

    def _make_fista(self, shape, progress):
        progress("building")
        return FoldedFista(self._deblurring)


@pytest.fixture
def played(pack):
    return Played(pack, FAMILY, CPU)


@pytest.fixture
def best(pack, played):
    reference = TorchExecutor(pack, FAMILY, CPU, half=False)
    executor = BestExecutor(reference, [played])
    yield executor
    executor.close()


def served(best, shape=SHAPE):
    """Send frames until nothing is being prepared; return the last result."""
    for _ in range(4):
        result = best.deblur(trial_frame(shape), *INPUTS)
        if best._preparation is not None:
            best._preparation.join(60)
    return result


def test_frames_do_not_wait_for_a_comparison_with_torch(best, played, monkeypatch):
    """It takes seconds for a large frame."""
    begun, go_on = threading.Event(), threading.Event()
    comparing = played._compare

    def slowly(shape):
        begun.set()
        assert go_on.wait(60)
        return comparing(shape)

    monkeypatch.setattr(played, "_compare", slowly)
    best.deblur(trial_frame(SHAPE), *INPUTS)
    assert begun.wait(60)
    for _ in range(3):
        best.deblur(trial_frame(SHAPE), *INPUTS)
        assert best.backend is best.reference
    go_on.set()
    served(best)
    assert best.backend is played
    assert played._graphs[SHAPE].parts._to_record is False


def test_what_is_rejected_gives_its_memory_back(best, played, monkeypatch):
    served(best)
    graph = weakref.ref(played._graphs[SHAPE])
    fista = weakref.ref(played._fistas[SHAPE])
    best.distrust(played, "it failed its check of total light")
    gc.collect()
    assert graph() is None
    assert fista() is None
    assert best.take_notes()[-1].startswith("played is not used: it failed its check")


def test_a_frame_does_not_wait_to_give_memory_back(best, played):
    """While another size is compiled the card cannot be waited for: later, then."""
    served(best)
    graph = weakref.ref(played._graphs[SHAPE])
    asking = threading.Thread(target=played.release_size, args=(SHAPE,), daemon=True)
    with graph_module.no_recording():
        asking.start()
        asking.join(10)
        assert not asking.is_alive()
        gc.collect()
        assert graph() is not None
    played.release()
    gc.collect()
    assert graph() is None


def test_rejected_engines_give_their_memory_back(
    pack, fake_tensorrt, card, tmp_path, builds, monkeypatch
):
    """Those of the identification too, and those that differ from torch."""
    source = EngineSource(pack, fake_tensorrt, card, EngineCache(tmp_path), "float32")
    engines = EngineExecutor(pack, FAMILY, source)
    reference = TorchExecutor(pack, FAMILY, CPU, half=False)
    best = BestExecutor(reference, [engines])
    made, make = [], engines._make_fista

    def watched(shape, progress):
        fista = make(shape, progress)
        made.extend(map(weakref.ref, (fista._engine, engines._identifier)))
        return fista

    monkeypatch.setattr(engines, "_make_fista", watched)
    monkeypatch.setenv("FAKE_TENSORRT_FAULT", "wrong")
    served(best)
    best._preparation = None
    gc.collect()
    assert len(made) == 2
    assert [engine() for engine in made] == [None, None]
    assert any("differs from torch" in note for note in best.take_notes())


def test_a_preparation_that_ends_after_a_rejection_keeps_nothing(best, played):
    go_on = threading.Event()
    comparing = played._compare

    def slowly(shape):
        assert go_on.wait(60)
        return comparing(shape)

    played._compare = slowly
    best.deblur(trial_frame(SHAPE), *INPUTS)
    best.distrust(played, "of another size it was wrong")
    go_on.set()
    served(best)
    assert best.backend is best.reference
    assert not played._fistas
    assert not played._graphs


def test_a_full_card_costs_an_executor_one_size_alone(best, played, monkeypatch):
    wanted = served(best)
    other = (66, 64)
    served(best, other)

    def full(*_):
        raise FULL

    with monkeypatch.context() as now:
        now.setattr(played, "deblur", full)
        result = best.deblur(trial_frame(SHAPE), *INPUTS)
    assert compare("", result, wanted).error < 1e-5
    assert best.backend is best.reference
    (note,) = (note for note in best.take_notes() if "memory" in note)
    assert note == "played is not used for frames of 64 × 70: the card's memory is full"
    assert SHAPE not in played._graphs
    served(best, other)
    assert best.backend is played


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("_make_fista", FULL),
        (
            "_make_fista",
            EngineError("not ready: Error Code 1: Cuda Runtime (out of memory)"),
        ),
        ("_compare", FULL),
    ],
)
def test_a_card_that_fills_up_in_preparation_costs_one_size_alone(
    best, played, monkeypatch, step, error
):
    """Also the first size; nothing of it stays in the memory that is full."""

    def full(*_):
        raise error

    with monkeypatch.context() as now:
        now.setattr(played, step, full)
        served(best)
    assert best.backend is best.reference
    (note,) = (note for note in best.take_notes() if "memory" in note)
    assert note == "played is not used for frames of 64 × 70: the card's memory is full"
    assert not played._fistas
    served(best, (66, 64))
    assert best.backend is played


def test_executors_are_notified_of_the_end_of_the_program(best, played, monkeypatch):
    called = []
    monkeypatch.setattr(played, "program_ends", lambda: called.append(1))
    best.close()
    assert called == [1]


def test_a_full_card_costs_no_executor_that_only_identifies(best, played, monkeypatch):
    served(best)
    best.take_notes()

    def full(*_):
        raise FULL

    spectra = trial_spectra((1, 2, *INPUT_SHAPE))
    monkeypatch.setattr(played, "identify", full)
    assert best.identify(spectra)[0].isfinite().all()
    served(best)
    assert best.backend is played
    assert best.take_notes() == []


def test_a_lost_card_is_not_mistaken_for_a_wrong_engine(best, played, monkeypatch):
    served(best)
    blamed = []
    monkeypatch.setattr(played, "card_failed", lambda: blamed.append("played"))
    idle = Played(played._pack, FAMILY, CPU)
    monkeypatch.setattr(idle, "card_failed", lambda: blamed.append("idle"))
    best._prepared.append(idle)
    best.take_notes()

    def lost(*_):
        raise torch.AcceleratorError("CUDA error: an illegal memory access was e")

    monkeypatch.setattr(played, "deblur", lost)
    with pytest.raises(torch.AcceleratorError):
        best.deblur(trial_frame(SHAPE), *INPUTS)
    assert best.take_notes() == []
    best.card_failed()
    # An executor that did not run is not to blame.
    assert blamed == ["played"]


# ------------------------------------------------------------------------- the order


@pytest.mark.parametrize("installed", [True, False])
def test_on_a_card_torch_is_compiled_where_it_can_be(pack, monkeypatch, installed):
    found = object() if installed else None
    monkeypatch.setattr(
        compiled_executor.importlib.util, "find_spec", lambda name: found
    )
    monkeypatch.setattr(
        order, "choose_device", lambda _: Choice(torch.device("cuda"), "a card")
    )
    monkeypatch.setattr(
        order, "choose_precision", lambda _: (torch.bfloat16, "the card computes")
    )
    attempts = {attempt.name: attempt for attempt in executor_order()}
    compiled = attempts["compiled torch in a CUDA graph"]
    assert compiled.usable is installed
    assert compiled.must_be_prepared is installed
    assert list(attempts).index(compiled.name) == 4
    if installed:
        assert isinstance(compiled.make(pack, FAMILY, CPU), CompiledExecutor)
    else:
        assert "pip install triton" in compiled.why
    assert attempts["torch in a CUDA graph"].usable


def test_a_compiler_that_fails_leaves_torch_with_the_reason(pack, monkeypatch):
    monkeypatch.setattr(compiled_executor, "CompiledFista", lambda *_: 1 / 0)
    compiled = CompiledExecutor(pack, FAMILY, CPU)
    reference = TorchExecutor(pack, FAMILY, CPU, half=False)
    best = BestExecutor(reference, [compiled])
    served(best)
    assert best.backend is reference
    note = best.take_notes()[-1]
    assert "compiled is not used: it could not be compiled: division" in note
    best.close()


def test_compiled_torch_passes_the_gate(pack, monkeypatch):
    """`tests/deblurring/test_folded.py` compiles it."""
    held = []

    class Fista(FoldedFista):
        def proximal(self, z, iteration):
            held.append(graph_module._RECORDING.locked())
            return super().proximal(z, iteration)

    monkeypatch.setattr(compiled_executor, "CompiledFista", Fista)
    compiled = CompiledExecutor(pack, FAMILY, CPU)
    texts = []
    (verdict,) = compiled.admit(SHAPE, texts.append)
    assert verdict.passed
    assert compiled.is_admitted(SHAPE)
    # At the first run, which compiles, no frame is recorded.
    assert held[0]
    assert not any(held[1:])
    assert texts == ["torch's compiler, for 80 × 90"]
    assert compiled.name.endswith("compiled")
