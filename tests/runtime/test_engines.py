"""Engines from the cache, built or rebuilt, and the executor that prefers them.

With the fake TensorRT of `fakes/tensorrt.py`, which runs the exported models on the
CPU: no engine has run on a card here.
"""

import dataclasses
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from time import sleep

import pytest
import torch

from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.deblurring import FoldedFista, UnrolledFista
from deepblur_live.optics import NoiseModel
from deepblur_live.runtime import best as best_module
from deepblur_live.runtime import engines as engines_module
from deepblur_live.runtime import graph, order
from deepblur_live.runtime.best import BestExecutor, build_executor
from deepblur_live.runtime.device import Choice
from deepblur_live.runtime.engine_cache import EngineCache
from deepblur_live.runtime.engines import EngineFista, EngineSource
from deepblur_live.runtime.executor import TorchExecutor, extended_shape
from deepblur_live.runtime.graph_executor import EngineExecutor
from deepblur_live.runtime.order import executor_order
from deepblur_live.runtime.parity import compare, trial_frame, trial_noise
from deepblur_live.runtime.tensorrt import Card, EngineError

FAMILY = ZernikeFamily()
SHAPE = (64, 70)
STILL = torch.zeros(FAMILY.n_coefficients)
# What an executor is given besides the frame.
INPUTS = STILL, torch.zeros(len(STILL), len(STILL)), NoiseModel.white(0.01)


def small_network(**options):
    """A deblurring network with few channels: the fake is slow."""
    torch.manual_seed(0)
    small = UnrolledFista(iterations=3, channels=8, **options).eval()
    torch.nn.init.normal_(small.proximal.layers[-1].weight, std=0.05)
    return small


@pytest.fixture
def pack(pack):
    """The shipped model with a small deblurring network."""
    return dataclasses.replace(pack, deblurring=small_network())


@pytest.fixture
def source(pack, fake_tensorrt, card, tmp_path, builds):
    return EngineSource(pack, fake_tensorrt, card, EngineCache(tmp_path), "float32")


def proximal(source, shape=(96, 100)):
    return source.proximal(shape, lambda _: None)


def test_an_engine_is_built_once_and_then_found(source, builds):
    proximal(source)
    proximal(source)
    assert len(builds) == 1
    proximal(source, (100, 96))
    assert len(builds) == 2


def test_every_part_of_the_key_is_what_an_engine_depends_on(
    pack, fake_tensorrt, card, tmp_path, builds, source, monkeypatch
):
    """`test_engine_cache` has one field of the key after the other changed."""
    proximal(source)
    newer = dataclasses.replace(fake_tensorrt, version="11.4.1")
    others = [
        dataclasses.replace(source, card=dataclasses.replace(card, name="another")),
        dataclasses.replace(source, card=dataclasses.replace(card, capability=(8, 9))),
        dataclasses.replace(source, card=dataclasses.replace(card, driver="999.1")),
        dataclasses.replace(source, precision="float16"),
        dataclasses.replace(source, library=newer),
    ]
    for count, other in enumerate(others, start=2):
        for _ in range(2):
            proximal(other)
        assert len(builds) == count
    with torch.no_grad():
        pack.deblurring.proximal.layers[0].bias[0] += 1e-3
    proximal(source)
    assert len(builds) == 7
    monkeypatch.setattr(engines_module, "WORKSPACE_MIB", 512)
    proximal(source)
    assert len(builds) == 8


@pytest.mark.parametrize(("library", "busy"), [("tensorrt", 1), ("tensorrt-rtx", 0)])
def test_engines_timed_while_frames_run_are_known(source, fake_tensorrt, library, busy):
    """TensorRT for RTX times nothing."""
    library = dataclasses.replace(fake_tensorrt, name=library)
    proximal(dataclasses.replace(source, library=library, card_busy=True))
    (kept,) = source.cache.contents()
    assert kept.timed_busy == busy


def test_nothing_is_recorded_while_an_engine_opens(source, fake_tensorrt, monkeypatch):
    runtime = fake_tensorrt.module.Runtime
    opening, held = runtime.deserialize_cuda_engine, []

    def open_it(self, plan):
        held.append(graph._RECORDING.locked())
        return opening(self, plan)

    proximal(source)
    monkeypatch.setattr(runtime, "deserialize_cuda_engine", open_it)
    proximal(source)
    assert held == [True]
    assert not graph._RECORDING.locked()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("open", "does not open on test card"),
        ("build", "no engine could be built"),
        ("run", "did not run"),
    ],
)
def test_an_engine_that_fails_is_not_built_a_second_time(
    source, builds, monkeypatch, fault, said
):
    monkeypatch.setenv("FAKE_TENSORRT_FAULT", fault)
    with pytest.raises(EngineError, match=said):
        proximal(source)
    assert len(builds) == 1


def test_a_card_without_room_does_not_cost_the_engine(
    source, builds, fake_tensorrt, monkeypatch
):
    proximal(source)
    monkeypatch.setattr(
        fake_tensorrt.module.Engine, "create_execution_context", lambda *_: None
    )
    with pytest.raises(EngineError, match="cannot be made ready"):
        proximal(source)
    monkeypatch.undo()
    proximal(source)
    assert len(builds) == 1


def test_a_crash_in_the_first_run_counts_too(source, fake_tensorrt, monkeypatch):
    context = fake_tensorrt.module.Context
    run, files = context.execute_async_v3, []

    def watched(self, stream):
        files.append(list(source.cache.folder.glob("*.failure")))
        return run(self, stream)

    monkeypatch.setattr(context, "execute_async_v3", watched)
    proximal(source)
    assert [len(counted) for counted in files] == [1]
    assert not list(source.cache.folder.glob("*.failure"))


def test_engines_in_use_while_the_card_failed_twice_are_not_used(source, builds):
    proximal(source)
    for _ in range(2):
        source.card_failed()
    with pytest.raises(EngineError, match=r"failed the card twice.*engines clear"):
        proximal(source)
    proximal(source, (100, 96))


def test_the_unrolled_network_agrees_at_every_noise_level(source, pack):
    whole = extended_shape(SHAPE, FAMILY.window, pack.deblurring.proximal.shrink)
    fista = EngineFista(pack.deblurring, proximal(source, whole))
    torch_fista = FoldedFista(pack.deblurring)
    y = torch.rand(1, *whole, generator=torch.Generator().manual_seed(0))
    for sigma in (0.01, 0.08):
        fista.fold(torch.tensor([sigma]))
        torch_fista.fold(torch.tensor([sigma]))
        for k in (0, 2):
            result, wanted = fista.proximal(y, k), torch_fista.proximal(y, k)
            assert compare("", result, wanted).error < 1e-6


def test_engines_take_the_noise_map(pack, card, fake_tensorrt, tmp_path, builds):
    network = small_network(exact=1, noise_map=True, plain=1)
    pack = dataclasses.replace(pack, deblurring=network)
    source = EngineSource(pack, fake_tensorrt, card, EngineCache(tmp_path), "float32")
    executor = EngineExecutor(pack, FAMILY, source)
    verdicts = executor.admit(SHAPE, lambda _: None)
    assert all(verdict.error < 1e-5 for verdict in verdicts)
    frame = trial_frame(SHAPE), *INPUTS[:2]
    shot, white = (executor.deblur(*frame, n) for n in (trial_noise(), INPUTS[2]))
    assert compare("", shot, white).error > 1e-3


# ------------------------------------------------------------------ the best executor


@pytest.fixture
def best(pack, source):
    fallback = TorchExecutor(pack, FAMILY, torch.device("cpu"), half=False)
    executor = BestExecutor(fallback, [EngineExecutor(pack, FAMILY, source)])
    yield executor
    executor.close()
    assert not any(t.name == "engine preparation" for t in threading.enumerate())


def settled(best, shape=SHAPE):
    """Send frames until no preparation is running; return the last result."""
    waited = None
    for _ in range(20):
        result = best.deblur(trial_frame(shape), *INPUTS)
        if best._preparation is waited:
            return result
        waited = best._preparation
        if waited is not None:
            waited.join(60)
    raise AssertionError("preparations do not end")


def faults(best):
    """Return the notes but for those of builds."""
    return [
        note
        for note in best.take_notes()
        if "are being built (" not in note and " is now used for " not in note
    ]


def test_torch_serves_first_and_the_engine_when_it_is_ready(best):
    first = best.deblur(trial_frame(SHAPE), *INPUTS)
    assert "torch" in best.backend.description
    result = settled(best)
    assert "tensorrt 11.4.0.1 in float32 on test card" in best.backend.description
    assert compare("", result, first).error < 1e-5
    assert faults(best) == []
    spectra = torch.randn(1, 2, 64, 32)
    for mine, torchs in zip(
        best.identify(spectra), best.reference.identify(spectra), strict=True
    ):
        torch.testing.assert_close(mine, torchs, rtol=1e-3, atol=1e-4)


def test_a_frame_size_that_changes_keeps_frames_coming(best, builds, monkeypatch):
    settled(best)
    held = threading.Event()
    build = engines_module.build_in_child

    def slow(*arguments):
        assert held.wait(30)
        return build(*arguments)

    monkeypatch.setattr(engines_module, "build_in_child", slow)
    other = (66, 64)
    for _ in range(3):
        result = best.deblur(trial_frame(other), *INPUTS)
        assert result.shape == other
        assert "torch" in best.backend.description
    # Back to the first size in the meantime: its engine is still there.
    best.deblur(trial_frame(SHAPE), *INPUTS)
    assert "tensorrt" in best.backend.description
    held.set()
    settled(best, other)
    assert "tensorrt" in best.backend.description
    assert len(builds) == 3  # identification, and one proximal network a size
    assert faults(best) == []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("build", "no engine could be built; no kernel for node Conv_7"),
        ("wrong", "differs from torch"),
        ("black", "differs from torch, relative error 1.0e+00"),
        ("nan", "output is not finite"),
    ],
)
def test_engines_that_fail_or_disagree_are_dropped_with_the_reason(
    best, monkeypatch, fault, said
):
    monkeypatch.setenv("FAKE_TENSORRT_FAULT", fault)
    result = settled(best)
    assert torch.isfinite(result).all()
    assert "torch" in best.backend.description
    (note,) = faults(best)
    assert said in note
    assert "tensorrt 11.4.0.1 in float32 on test card is not used" in note
    assert "instead torch" in note
    monkeypatch.delenv("FAKE_TENSORRT_FAULT")
    settled(best)
    assert best.take_notes() == []
    assert "torch" in best.backend.description


def test_engines_that_fail_for_one_size_serve_the_others(best, monkeypatch):
    settled(best)
    best.take_notes()
    monkeypatch.setenv("FAKE_TENSORRT_FAULT", "build")
    settled(best, (66, 64))
    assert "torch" in best.backend.description
    (note,) = faults(best)
    assert "is not used for frames of 66 × 64: " in note
    settled(best)
    assert "tensorrt" in best.backend.description
    assert best.take_notes() == []


def test_an_output_that_is_not_finite_is_dropped_with_the_reason(best, monkeypatch):
    settled(best)
    best.take_notes()
    engine = best._prepared[0]._identifier
    output = engine.bound["output"]
    monkeypatch.setattr(engine, "enqueue", lambda: output.fill_(torch.nan))
    coefficients, _ = best.identify(torch.randn(1, 2, 64, 32))
    assert torch.isfinite(coefficients).all()
    (note,) = best.take_notes()
    assert "the identification engine's output is not finite" in note


def test_an_engine_that_fails_in_the_middle_is_replaced_within_the_frame(
    best, monkeypatch
):
    wanted = settled(best)
    best.take_notes()
    monkeypatch.setenv("FAKE_TENSORRT_FAULT", "run")
    result = best.deblur(trial_frame(SHAPE), *INPUTS)
    assert compare("", result, wanted).error < 1e-5
    (note,) = best.take_notes()
    assert "the engine did not run; an illegal memory access" in note
    assert "torch" in best.backend.description


def test_where_the_first_tensorrt_disagrees_the_second_serves(
    best, pack, fake_tensorrt, tmp_path, monkeypatch
):
    other = Card(torch.device("cpu"), "second choice", (9, 0), "570.1")
    second = EngineSource(pack, fake_tensorrt, other, EngineCache(tmp_path), "float32")
    best._prepared.append(EngineExecutor(pack, FAMILY, second))
    nan = torch.full((1, 28), torch.nan)
    monkeypatch.setattr(best._prepared[0], "identification_output", lambda _: nan)
    settled(best)
    settled(best)
    assert "second choice" in best.backend.description
    (note,) = faults(best)
    assert "not finite; instead tensorrt 11.4.0.1 in float32 on second choice" in note


def test_a_build_is_reported_when_it_begins_and_when_it_ends(best):
    settled(best)
    name = "tensorrt 11.4.0.1 in float32 on test card"
    begin, end = best.take_notes()
    assert begin.startswith(
        f"{name}: engines for frames of 64 × 70 are being built (identification network"
    )
    assert end == f"{name} is now used for frames of 64 × 70"


def test_engines_from_the_cache_are_not_reported(best, pack, source):
    settled(best)
    again = BestExecutor(best.reference, [EngineExecutor(pack, FAMILY, source)])
    settled(again)
    assert "tensorrt" in again.backend.description
    assert again.take_notes() == []


def test_closing_ends_a_build_in_progress(pack, source, monkeypatch):
    begun = threading.Event()

    def endless(library, onnx, precision, card, progress):
        begun.set()
        tick = threading.Event()
        while True:
            tick.wait(0.01)
            progress("building")

    monkeypatch.setattr(engines_module, "build_in_child", endless)
    fallback = TorchExecutor(pack, FAMILY, torch.device("cpu"), half=False)
    executor = BestExecutor(fallback, [EngineExecutor(pack, FAMILY, source)])
    executor.deblur(trial_frame(SHAPE), *INPUTS)
    assert begun.wait(30)
    executor.close()
    assert not any(t.name == "engine preparation" for t in threading.enumerate())


# ------------------------------------------------------------------------- the order


def test_the_order_has_reasons():
    attempts = executor_order("cpu")
    names = [attempt.name for attempt in attempts]
    assert names == [
        "tensorrt",
        "tensorrt-rtx",
        "Triton kernels in a CUDA graph",
        "Triton kernels in a CUDA graph, bfloat16",
        "compiled torch in a CUDA graph",
        "torch in a CUDA graph",
        "torch on the card",
        "torch on the CPU",
    ]
    assert [attempt.usable for attempt in attempts] == [False] * 7 + [True]
    assert all(attempt.why for attempt in attempts)
    assert "as the processor" in attempts[-1].why


@pytest.mark.parametrize(
    ("capability", "precisions"),
    [((7, 5), ["float16"]), ((8, 6), ["float16", "bfloat16"])],
)
def test_half_precision_is_tried_in_both_kinds_where_a_card_has_both(
    pack, fake_tensorrt, card, monkeypatch, capability, precisions
):
    that = dataclasses.replace(card, capability=capability)
    attempt = order.Attempt("tensorrt", True, "fake", fake_tensorrt, that)
    monkeypatch.setattr(best_module, "executor_order", lambda _: [attempt])
    executor = build_executor(pack, FAMILY, "cpu")
    names = [engines.name for engines in executor._prepared]
    assert names == [f"tensorrt 11.4.0.1 in {p} on test card" for p in precisions]


def test_weights_too_large_for_float16_use_the_next_precision(
    best, pack, fake_tensorrt, card, tmp_path
):
    half = EngineSource(pack, fake_tensorrt, card, EngineCache(tmp_path), "float16")
    best._prepared.insert(0, EngineExecutor(pack, FAMILY, half))
    with torch.no_grad():
        # Beyond 65 504; the next layer takes it back.
        pack.deblurring.proximal.layers[0].weight[0] *= 1e7
        pack.deblurring.proximal.layers[1].weight[:, 0] *= 1e-7
    settled(best)
    settled(best)
    assert "in float32" in best.backend.description
    (note,) = faults(best)
    assert "beyond the range of torch.float16" in note


def test_a_tensorrt_without_onnx_says_what_to_install(fake_tensorrt, card, monkeypatch):
    monkeypatch.setattr(order, "find_card", lambda: card)
    monkeypatch.setattr(
        order, "choose_device", lambda _: Choice(torch.device("cuda"), card.name)
    )
    assert executor_order()[0].usable
    monkeypatch.setitem(sys.modules, "onnx", None)
    attempt = executor_order()[0]
    assert not attempt.usable
    assert "pip install 'deepblur-live[trt]'" in attempt.why


def test_frames_of_a_distrusted_engine_are_deblurred_by_torch_again(best):
    settled(best)
    engine = best.backend
    assert "tensorrt" in engine.description
    best.distrust(engine, "it failed its check of total light")
    frame = trial_frame(SHAPE), *INPUTS
    torchs = best.deblur(*frame)
    assert best.backend is best.reference
    # Submitted to the engine, and checked only now.
    assert torch.equal(best.reference.deblur(*frame), torchs)
    best.distrust(engine, "it failed its check of total light")
    (note,) = faults(best)
    assert "total light" in note


def test_identifications_on_two_threads_do_not_overlap(best, monkeypatch):
    settled(best)
    engines = best.backend
    engine, inside, together = engines._identifier, [], []
    enqueue = engine.enqueue

    def slowly():
        inside.append(None)
        together.append(len(inside))
        sleep(0.02)
        enqueue()
        inside.pop()

    monkeypatch.setattr(engine, "enqueue", slowly)
    spectra = [torch.full((1, 2, 64, 32), value) for value in (0.1, -0.3)]
    alone = [engines.identification_output(s) for s in spectra]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):
            both = list(pool.map(engines.identification_output, spectra))
            assert all(map(torch.equal, both, alone))
    assert max(together) == 1


def test_a_size_that_changes_does_not_take_the_engine_from_an_identification(
    best, monkeypatch
):
    """On another thread, after the identification has read what is in use."""
    settled(best)
    current, reads = best.backend, []

    def changing(_):
        reads.append(None)
        return current if len(reads) == 1 else None

    monkeypatch.setattr(
        type(best), "_current", property(changing, lambda *_: None), raising=False
    )
    best.identify(torch.randn(1, 2, 64, 32))
    assert len(reads) == 1


def test_dropping_engines_that_are_not_in_use_changes_nothing(best, pack, source):
    other = EngineExecutor(pack, FAMILY, source)
    best._prepared.append(other)
    settled(best)
    current = best.backend
    best.distrust(other, "of another frame size it was wrong")
    assert best.backend is current


def test_without_engines_torch_serves(pack):
    executor = build_executor(pack, FAMILY, "cpu")
    sharp = executor.deblur(trial_frame(SHAPE), *INPUTS)
    assert executor.backend is executor.reference
    assert "torch" in executor.reference.description
    assert "cpu" in executor.reference.description
    executor.distrust(executor.backend, "nothing to distrust")
    assert torch.equal(executor.deblur(trial_frame(SHAPE), *INPUTS), sharp)
    assert executor.take_notes() == []
