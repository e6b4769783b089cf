"""Every result of TensorRT is checked, and a refusal says what, where and why."""

import dataclasses
import enum

import pytest
import torch

from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.deblurring import ProximalNet, UnrolledFista
from deepblur_live.identification import INPUT_SHAPE
from deepblur_live.optics import NoiseModel
from deepblur_live.runtime import tensorrt
from deepblur_live.runtime.engine import Engine
from deepblur_live.runtime.engine_cache import EngineCache
from deepblur_live.runtime.engines import EngineFista, EngineSource
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.export import export_identification, export_proximal
from deepblur_live.runtime.graph_executor import EngineExecutor
from deepblur_live.runtime.pack import load_pack
from deepblur_live.runtime.parity import compare, trial_frame
from deepblur_live.runtime.tensorrt import (
    EngineError,
    build_plan,
    find_card,
    find_library,
)

SHAPE = (32, 48)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return export_proximal(ProximalNet(8, depth=3), SHAPE, "float32")


def build(library, model, precision="float32", capability=(8, 9)):
    return build_plan(library, model, precision, capability)


def test_the_driver_version_is_found_without_nvidia_smi(monkeypatch, tmp_path):
    """An engine is built again when the driver changes."""

    def missing(*_, **__):
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(tensorrt.subprocess, "check_output", missing)
    module = tmp_path / "version"
    monkeypatch.setattr(tensorrt, "_LINUX_DRIVER", module)
    with pytest.raises(EngineError, match=r"is unknown \(nvidia-smi\).*put nvidia-smi"):
        tensorrt._driver.__wrapped__()
    module.write_text("580.65.06\n", "ascii")
    assert tensorrt._driver.__wrapped__() == "580.65.06"


# ------------------------------------------- the real TensorRT for RTX, without a card


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32"])
def test_both_networks_build_strongly_typed_without_a_card(
    tensorrt_rtx, pack, precision
):
    for onnx in (
        export_proximal(pack.deblurring.proximal, (560, 560), precision),
        export_identification(pack.identification, precision),
    ):
        plan = build(tensorrt_rtx, onnx, precision)
        # Weights are in it, in the precision that was asked for.
        assert len(plan) > 0.9 * len(onnx)


def test_a_layer_is_one_kernel_with_its_modulation_and_rectifier(
    tensorrt_rtx, pack, monkeypatch
):
    """Whether the builder fuses them depends on the form of the graph: from its log."""
    trt, lines = tensorrt_rtx.module, []
    make = trt.Builder.create_builder_config

    def detailed(builder):
        config = make(builder)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        return config

    monkeypatch.setattr(trt.Builder, "create_builder_config", detailed)
    monkeypatch.setattr(tensorrt_rtx.log, "log", lambda _, line: lines.append(line))
    network = pack.deblurring.proximal
    build(tensorrt_rtx, export_proximal(network, (560, 560), "float16"), "float16")
    kernels = [
        line.split(",")[0]
        for line in "\n".join(lines).splitlines()
        if line.startswith("Name: ")
    ]
    fused = [name for name in kernels if "CorrMulAddMulMax" in name]
    assert len(fused) == len(network.layers) - 1
    # The others: the last convolution, pixels folded and unfolded, the modulation's
    # parts.
    assert len(kernels) <= len(fused) + 3 + 1 + 2 * len(fused)


def test_a_card_that_rtx_does_not_know_is_refused_before_a_build(tensorrt_rtx, model):
    """An H100: of `CURRENT` it says that it is supported even without a card."""
    with pytest.raises(EngineError, match=r"not support compute capability 9\.0"):
        build(tensorrt_rtx, model, capability=(9, 0))
    assert len(build(tensorrt_rtx, model, capability=(8, 9))) > 1000


def test_what_is_not_a_model_is_refused_with_the_parsers_error(tensorrt_rtx):
    with pytest.raises(EngineError, match=r"tensorrt-rtx 1\..* not understood: .*ONNX"):
        build(tensorrt_rtx, b"no model at all")


def test_what_is_not_a_plan_does_not_open(tensorrt_rtx, model, card):
    """A flipped bit goes unnoticed here: the cache's sha256 is checked before."""
    whole = build(tensorrt_rtx, model)
    for error, content in {
        "blobSize failed": whole[: len(whole) // 2],
        "an empty memory buffer": b"",
        "kEXPECTED_MAGIC_TAG failed": b"foreign " * 1000,
    }.items():
        with pytest.raises(EngineError, match=rf"does not open on .*{error}.*pip inst"):
            Engine(tensorrt_rtx, content, card)


# ---------------------------- the fake of `fakes/tensorrt.py`, for what needs a card


def test_an_engine_computes_what_its_model_does(fake_tensorrt, model, card):
    """With a fake that runs the model on the CPU: no card was asked."""
    engine = Engine(fake_tensorrt, build(fake_tensorrt, model), card)
    assert list(engine.bound) == ["image", "modulation", "sharp"]
    bound = {name: torch.rand_like(zeros) for name, zeros in engine.bound.items()}
    for name, tensor in bound.items():
        engine.bind(name, tensor)
    engine.enqueue()
    # Untrained, the network is the identity.
    torch.testing.assert_close(engine.bound["sharp"], bound["image"])


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            "builder",
            "cannot create Builder; CUDA initialization failure: 35; the card may",
        ),
        ("parser", "cannot create OnnxParser; CUDA initialization failure"),
        ("runtime", "cannot create Runtime; CUDA initialization failure"),
        ("network", "cannot create a network; out of memory"),
        ("parse", "not understood: In node 3: unsupported operator FFT; ModelImporter"),
        ("config", "cannot create a builder configuration; out of memory"),
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
        Engine(fake_tensorrt, build(fake_tensorrt, model), card)
    assert said in str(caught.value)
    assert "tensorrt 11.4.0.1" in str(caught.value)
    assert "nothing of interest" not in str(caught.value)


def test_without_the_flag_for_strong_typing_none_is_set(
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
    """What TensorRT for RTX has in addition to TensorRT's own."""

    TF32 = 0
    REQUIRE_USER_ALLOCATION = 1
    SM90 = 2


@pytest.mark.parametrize("accepted", [True, False])
def test_for_rtx_an_engine_is_for_this_card_and_for_cuda_graphs(
    fake_tensorrt, model, monkeypatch, accepted
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
            assert (capability, index) == (LikeRtx.SM90, 0)
            return accepted

    monkeypatch.setattr(trt, "Config", Config)
    monkeypatch.setattr(trt, "BuilderFlag", LikeRtx)
    monkeypatch.setattr(trt, "ComputeCapability", LikeRtx, raising=False)
    for precision in ("float32", "float16"):
        if accepted:
            build(fake_tensorrt, model, precision, (9, 0))
        else:
            with pytest.raises(EngineError, match=r"not support compute cap.* 9\.0"):
                build(fake_tensorrt, model, precision, (9, 0))
    exact, half = (config.flags for config in made)
    assert LikeRtx.REQUIRE_USER_ALLOCATION in exact & half
    # Single precision is exact: no TF32.
    assert LikeRtx.TF32 in half - exact


def test_a_tensor_that_does_not_fit_is_refused(fake_tensorrt, model, card):
    engine = Engine(fake_tensorrt, build(fake_tensorrt, model), card)
    right = torch.zeros(1, 1, *SHAPE)
    for wrong in (right[0], right.half(), right.transpose(2, 3).contiguous()):
        with pytest.raises(EngineError, match=r"'image': must be a contiguous"):
            engine.bind("image", wrong)
    apart = torch.zeros(1, 1, SHAPE[0], 2 * SHAPE[1])[..., ::2]
    with pytest.raises(EngineError, match="contiguous"):
        engine.bind("image", apart)
    engine.bind("image", right)


def test_a_tensor_that_begins_within_256_bytes_is_refused(fake_tensorrt, model, card):
    """As TensorRT may read past what it was given, or give wrong numbers."""
    engine = Engine(fake_tensorrt, build(fake_tensorrt, model), card)
    several = torch.zeros(3, *engine.bound["modulation"].shape[1:])
    assert several[0].numel() * 4 % 256
    engine.bind("modulation", several[:1])
    with pytest.raises(EngineError, match=r"'modulation': must .* multiple of 256"):
        engine.bind("modulation", several[1:2])


@pytest.mark.parametrize("channels", [8, 16, 32])
def test_all_iterations_are_given_to_an_engine_where_it_may_be_bound(
    fake_tensorrt, card, channels
):
    network = UnrolledFista(iterations=3, channels=channels, depth=3).eval()
    model = export_proximal(network.proximal, SHAPE, "float32")
    fista = EngineFista(
        network, Engine(fake_tensorrt, build(fake_tensorrt, model), card)
    )
    fista.fold(torch.tensor([0.01]))
    for k in range(3):
        fista.proximal(torch.rand(1, *SHAPE), k)


class Memory:
    """What TensorRT for RTX keeps its kernels in."""

    def __init__(self, log):
        self.content, self.log = b"", log

    def deserialize(self, content):
        self.log.append(content)
        self.content = content
        return content.startswith(b"kernels")

    def serialize(self):
        return self.content or b"kernels of this card"


@pytest.fixture
def with_kernels(fake_tensorrt, monkeypatch):
    """TensorRT for RTX's calls; returns the kernels that engines were given."""
    trt, given = fake_tensorrt.module, []

    class Settings:
        def create_runtime_cache(self):
            return Memory(given)

        def set_runtime_cache(self, cache):
            self.cache = cache

        def set_execution_context_allocation_strategy(self, strategy):
            assert strategy is trt.ExecutionContextAllocationStrategy.USER_MANAGED

    def create_execution_context(self, settings):
        assert isinstance(settings.cache, Memory)
        return trt.Context(self)

    engine = trt.Engine
    monkeypatch.setattr(trt, "IRuntimeCache", Memory, raising=False)
    monkeypatch.setattr(
        engine, "create_runtime_config", lambda _: Settings(), raising=False
    )
    monkeypatch.setattr(engine, "create_execution_context", create_execution_context)
    return given


def test_kernels_that_rtx_compiled_are_kept(
    with_kernels, builds, pack, fake_tensorrt, card, tmp_path
):
    small = UnrolledFista(iterations=2, channels=8, depth=3).eval()
    pack = dataclasses.replace(pack, deblurring=small)
    cache = EngineCache(tmp_path)
    for count in range(2):
        source = EngineSource(pack, fake_tensorrt, card, cache, "float32")
        source.proximal(SHAPE, lambda _: None)
        # Compiled at the first start, and found at the second.
        assert with_kernels == [b"kernels of this card"] * count


# ------------------------------------------------------------------ what is installed


@pytest.mark.parametrize("version", ["10.12.9", "12.0.0", "8.6", "unknown"])
def test_other_versions_are_refused_with_what_would_be_right(
    fake_tensorrt, monkeypatch, version
):
    monkeypatch.setattr(fake_tensorrt.module, "__version__", version)
    find_library.cache_clear()
    with pytest.raises(
        EngineError, match=rf"tensorrt {version} is not supp.* 10\.13 .* 12\.0"
    ):
        find_library("tensorrt")


def test_a_missing_tensorrt_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(
        tensorrt.LIBRARIES, "none", ("nosuchrt", (1, 0), (2, 0), "x[y]")
    )
    with pytest.raises(
        EngineError, match=r"none is not installed: pip install 'x\[y\]'"
    ):
        find_library("none")


def test_a_tensorrt_that_does_not_load_says_why(monkeypatch, tmp_path):
    (tmp_path / "brokenrt.py").write_text("raise OSError('libnvinfer.so.11: no file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(tensorrt.LIBRARIES, "broken", ("brokenrt", (1, 0), (2, 0), "x"))
    with pytest.raises(
        EngineError, match=r"broken does not load: OSError: libnvinfer.*pip install"
    ):
        find_library("broken")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_no_engine_is_opened():
    with pytest.raises(EngineError, match="torch finds no CUDA card"):
        find_card()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
@pytest.mark.parametrize("name", list(tensorrt.LIBRARIES))
def test_an_engine_on_the_card_agrees_with_torch(name, pack):
    """Runs only where there is a card and this TensorRT."""
    try:
        library, card = find_library(name), find_card()
    except EngineError as error:
        pytest.skip(str(error))
    spectra = torch.randn(1, 2, *INPUT_SHAPE)
    onnx = export_identification(pack.identification, "float16")
    engine = Engine(library, build(library, onnx, "float16", card.capability), card)
    engine.bound["spectra"].copy_(spectra)
    engine.enqueue()
    output = engine.bound["output"]
    with torch.no_grad():
        expected = pack.identification(spectra)
    assert (output.cpu() - expected).norm() < 5e-3 * expected.norm()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", list(tensorrt.LIBRARIES))
def test_engines_serve_frames_on_the_card(name, precision, tmp_path):
    """Runs only where there is a card and this TensorRT: built, and then found."""
    try:
        library, card = find_library(name), find_card()
    except EngineError as error:
        pytest.skip(str(error))
    family, shape = ZernikeFamily(), (256, 300)
    exact = TorchExecutor(load_pack("zernike7"), family, card.device, half=False)
    gamma = family.sample(1, torch.Generator().manual_seed(0))[0]
    known = torch.zeros(len(gamma), len(gamma))
    for _ in range(2):
        pack, texts = load_pack("zernike7"), []
        source = EngineSource(pack, library, card, EngineCache(tmp_path), precision)
        executor = EngineExecutor(pack, family, source)
        executor.admit(shape, texts.append)
        # Blur and noise change under the recorded graph.
        for blur, sigma in ((gamma, 0.01), (-gamma, 0.05), (gamma, 0.01)):
            frame = trial_frame(shape), blur, known, NoiseModel.white(sigma)
            sharp, wanted = executor.deblur(*frame), exact.deblur(*frame)
            assert compare("", sharp, wanted).error < 1e-2
        assert "one CUDA graph" in executor.description
        assert executor.notes == []
    # The second time nothing was built.
    assert texts == []
