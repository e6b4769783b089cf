"""Every answer of TensorRT is checked, and a refusal says what, where and why."""

import enum

import pytest
import torch

from deepblur_live.deblurring import ProximalNet
from deepblur_live.identification import INPUT_SHAPE
from deepblur_live.optics import ZernikeFamily
from deepblur_live.runtime import load_pack, tensorrt
from deepblur_live.runtime.engine import Engine
from deepblur_live.runtime.engine_cache import EngineCache
from deepblur_live.runtime.engines import EngineSource
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.export import export_identification, export_proximal
from deepblur_live.runtime.graph_executor import EngineExecutor
from deepblur_live.runtime.parity import compare, trial_frame
from deepblur_live.runtime.tensorrt import (
    BuilderOptions,
    EngineError,
    build_plan,
    find_backend,
    find_card,
)

SHAPE = (32, 48)
OPTIONS = BuilderOptions()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return export_proximal(ProximalNet(8, depth=3), SHAPE, "float32")


def build(backend, model, progress=lambda _: True, precision="float32"):
    return build_plan(backend, model, precision, OPTIONS, None, progress)


def test_the_driver_is_found_without_its_program(monkeypatch, tmp_path):
    """An engine is built anew when the driver changes."""

    def missing(*_, **__):
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(tensorrt.subprocess, "run", missing)
    module = tmp_path / "version"
    monkeypatch.setattr(tensorrt, "_LINUX_DRIVER", module)
    with pytest.raises(EngineError, match=r"driver cannot be told.*put nvidia-smi on"):
        tensorrt._driver.__wrapped__()
    module.write_text("580.65.06\n", "ascii")
    assert tensorrt._driver.__wrapped__() == "580.65.06"


# ------------------------------------------- the real TensorRT for RTX, without a card


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32"])
def test_both_networks_build_strongly_typed_without_a_card(
    tensorrt_rtx, pack, precision
):
    told = []
    for onnx in (
        export_proximal(pack.deblurring.proximal, (560, 560), precision),
        export_identification(pack.identification, 1, INPUT_SHAPE, precision),
    ):
        plan = build_plan(
            tensorrt_rtx,
            onnx,
            precision,
            OPTIONS,
            None,
            lambda text: told.append(text) or True,
        )
        # Weights are in it, in the precision that was asked for.
        assert len(plan) > 0.9 * len(onnx)
    assert any(" of " in text for text in told)


def test_a_model_that_is_none_is_refused_in_the_parsers_words(tensorrt_rtx):
    with pytest.raises(EngineError, match=r"tensorrt-rtx 1\..* not understood: .*ONNX"):
        build(tensorrt_rtx, b"no model at all")


def test_a_build_ends_when_it_is_told_to(tensorrt_rtx, model):
    with pytest.raises(EngineError, match="the build was stopped"):
        build(tensorrt_rtx, model, lambda _: False)


# ---------------------------- the fake of `fakes/tensorrt.py`, for what needs a card


def test_an_engine_says_what_its_model_says(fake_tensorrt, model, card):
    """With a fake that runs the model on the CPU: no card was asked."""
    engine = Engine(fake_tensorrt, build(fake_tensorrt, model), card)
    assert engine.inputs == ["image", "modulation"]
    bound = {n: torch.rand(shape) for n, (shape, _) in engine.tensors.items()}
    for name, tensor in bound.items():
        engine.bind(name, tensor)
    engine.enqueue()
    # Untrained, the network is the identity.
    torch.testing.assert_close(engine.bound("sharp"), bound["image"])


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            "builder",
            "no Builder could be made; CUDA initialization failure: 35; a newer",
        ),
        ("parser", "no OnnxParser could be made; CUDA initialization failure"),
        ("runtime", "no Runtime could be made; CUDA initialization failure"),
        ("network", "no network could be made; out of memory"),
        ("parse", "not understood: In node 3: unsupported operator FFT; ModelImporter"),
        ("config", "no builder configuration could be made; out of memory"),
        ("build", "no engine could be built; no kernel for node Conv_7; another"),
        ("open", "does not open on test card; header.magicTag differs"),
        ("context", "cannot be made ready on test card; cudaMalloc failed"),
        ("address", "'image': its address was refused; misaligned address"),
        ("run", "the engine did not run; an illegal memory access"),
    ],
)
def test_each_refusal_is_an_error_with_the_loggers_words(
    fake_tensorrt, model, card, monkeypatch, fault, said
):
    monkeypatch.setenv("FAKE_TENSORRT_FAULT", fault)
    with pytest.raises(EngineError) as caught:
        engine = Engine(fake_tensorrt, build(fake_tensorrt, model), card)
        for name, (shape, _) in engine.tensors.items():
            engine.bind(name, torch.zeros(shape))
        engine.enqueue()
    assert said in str(caught.value)
    assert "tensorrt 11.4.0.1" in str(caught.value)
    assert "nothing of interest" not in str(caught.value)


def test_a_tensorrt_that_knows_no_weak_typing_is_not_asked_for_the_strong(
    fake_tensorrt, model, monkeypatch
):
    """As TensorRT 11 may be, which is always strongly typed."""
    trt, asked = fake_tensorrt.module, []

    def create_network(self, flags):
        asked.append(flags)
        return trt.Network()

    monkeypatch.setattr(trt.Builder, "create_network", create_network)
    build(fake_tensorrt, model)
    monkeypatch.setattr(trt, "NetworkDefinitionCreationFlag", object)
    build(fake_tensorrt, model)
    assert asked == [1 << 1, 0]


class LikeRtx(enum.Enum):
    """What TensorRT for RTX has beside TensorRT's own."""

    TF32 = 0
    REQUIRE_USER_ALLOCATION = 1
    CURRENT = 2


@pytest.mark.parametrize("accepted", [True, False])
def test_for_rtx_an_engine_is_for_this_card_and_for_cuda_graphs(
    fake_tensorrt, model, card, monkeypatch, accepted
):
    trt, made = fake_tensorrt.module, []

    class Config(trt.Config):
        def __init__(self):
            super().__init__()
            made.append(self)

        def set_flag(self, flag):
            self.flags.add(flag)

        def set_compute_capability(self, capability, index):
            assert self.num_compute_capabilities == 1
            assert (capability, index) == (LikeRtx.CURRENT, 0)
            return accepted

    monkeypatch.setattr(trt, "Config", Config)
    monkeypatch.setattr(trt, "BuilderFlag", LikeRtx)
    monkeypatch.setattr(trt, "ComputeCapability", LikeRtx, raising=False)
    for precision in ("float32", "float16"):
        if accepted:
            build_plan(fake_tensorrt, model, precision, OPTIONS, card, lambda _: True)
        else:
            with pytest.raises(EngineError, match="cannot build for test card"):
                build_plan(
                    fake_tensorrt, model, precision, OPTIONS, card, lambda _: True
                )
    exact, half = (config.flags for config in made)
    assert LikeRtx.REQUIRE_USER_ALLOCATION in exact & half
    # Single precision is exact: no TF32.
    assert LikeRtx.TF32 in half - exact


def test_an_engine_takes_no_tensor_that_does_not_fit(fake_tensorrt, model, card):
    engine = Engine(fake_tensorrt, build(fake_tensorrt, model), card)
    right = torch.zeros(1, 1, *SHAPE)
    for wrong in (right[0], right.half(), right.transpose(2, 3).contiguous()):
        with pytest.raises(EngineError, match=r"'image': must be a contiguous"):
            engine.bind("image", wrong)
    apart = torch.zeros(1, 1, SHAPE[0], 2 * SHAPE[1])[..., ::2]
    with pytest.raises(EngineError, match="contiguous"):
        engine.bind("image", apart)
    with pytest.raises(EngineError, match=r"no tensor 'picture': .* image, modulation"):
        engine.bind("picture", right)
    engine.bind("image", right)
    with pytest.raises(EngineError, match="not bound: modulation, sharp"):
        engine.enqueue()


# ------------------------------------------------------------------ what is installed


@pytest.mark.parametrize("version", ["10.12.9", "12.0.0", "8.6", "unknown"])
def test_other_versions_are_refused_with_what_would_be_right(
    fake_tensorrt, monkeypatch, version
):
    monkeypatch.setattr(fake_tensorrt.module, "__version__", version)
    find_backend.cache_clear()
    with pytest.raises(EngineError, match=rf"tensorrt {version}: .* 10\.13 .* 12\.0"):
        find_backend("tensorrt")


def test_a_tensorrt_that_is_not_there_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(tensorrt.BACKENDS, "none", ("nosuchrt", (1, 0), (2, 0), "x[y]"))
    with pytest.raises(
        EngineError, match=r"none is not installed: pip install 'x\[y\]'"
    ):
        find_backend("none")


def test_a_tensorrt_that_does_not_load_says_why(monkeypatch, tmp_path):
    (tmp_path / "brokenrt.py").write_text("raise OSError('libnvinfer.so.11: no file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(tensorrt.BACKENDS, "broken", ("brokenrt", (1, 0), (2, 0), "x"))
    with pytest.raises(
        EngineError, match=r"broken does not load: OSError: libnvinfer.*pip install"
    ):
        find_backend("broken")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_no_engine_is_opened():
    with pytest.raises(EngineError, match="torch finds no CUDA card"):
        find_card()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
@pytest.mark.parametrize("name", list(tensorrt.BACKENDS))
def test_an_engine_on_the_card_agrees_with_torch(name, pack):
    """Runs only where there is a card and this TensorRT."""
    try:
        backend, card = find_backend(name), find_card()
    except EngineError as error:
        pytest.skip(str(error))
    spectra = torch.randn(1, 2, *INPUT_SHAPE)
    onnx = export_identification(pack.identification, 1, INPUT_SHAPE, "float16")
    plan = build_plan(backend, onnx, "float16", OPTIONS, card, lambda _: True)
    engine = Engine(backend, plan, card)
    shape, dtype = engine.tensors["answer"]
    answer = torch.zeros(shape, dtype=dtype, device=card.device)
    engine.bind("spectra", spectra.to(card.device))
    engine.bind("answer", answer)
    engine.enqueue()
    with torch.no_grad():
        expected = pack.identification(spectra)
    assert (answer.cpu() - expected).norm() < 5e-3 * expected.norm()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", list(tensorrt.BACKENDS))
def test_engines_serve_frames_on_the_card(name, precision, tmp_path):
    """Runs only where there is a card and this TensorRT: built, and then found."""
    try:
        backend, card = find_backend(name), find_card()
    except EngineError as error:
        pytest.skip(str(error))
    family, shape = ZernikeFamily(), (256, 300)
    exact = TorchExecutor(load_pack("zernike7"), family, card.device, half=False)
    gamma = family.sample(1, torch.Generator().manual_seed(0))[0]
    for _ in range(2):
        pack, told = load_pack("zernike7"), []
        source = EngineSource(pack, backend, card, EngineCache(tmp_path), precision)
        executor = EngineExecutor(pack, family, source)
        executor.prepare(shape, told.append, lambda: False)
        for parity in executor.check(shape, exact):
            assert parity.passed, parity.text
        # Blur and noise change under the recorded graph.
        for blur, sigma in ((gamma, 0.01), (-gamma, 0.05), (gamma, 0.01)):
            frame = trial_frame(shape), blur, sigma
            sharp, wanted = executor.deblur(*frame), exact.deblur(*frame)
            assert compare("", sharp, wanted).error < 1e-2
        assert "one CUDA graph" in executor.description
        assert executor.take_notes() == []
    # The second time nothing was built.
    assert told == []
