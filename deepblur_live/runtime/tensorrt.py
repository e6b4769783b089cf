"""TensorRT 10.13 to 11 and TensorRT for RTX, by one path: ONNX → plan → engine.

TensorRT seldom raises: it answers None or False and tells its logger why. Every answer
is checked here, and the logger's text is in the error.
"""

from __future__ import annotations

import importlib
import subprocess
from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from deepblur_live.runtime.export import Precision

    Progress = Callable[[str], bool]

__all__ = [
    "BACKENDS",
    "Backend",
    "BuilderOptions",
    "Card",
    "Engine",
    "EngineError",
    "build_plan",
    "find_backend",
    "find_card",
]

# Name → module, versions it works with (from, below), and what installs it.
BACKENDS: Mapping[str, tuple[str, tuple[int, int], tuple[int, int], str]] = {
    "tensorrt": ("tensorrt", (10, 13), (12, 0), "deepblur-live[trt]"),
    "tensorrt-rtx": ("tensorrt_rtx", (1, 4), (2, 0), "deepblur-live[trt-rtx]"),
}
_DTYPES = {"FLOAT": torch.float32, "HALF": torch.float16, "BF16": torch.bfloat16}
_KEPT_LINES, _QUOTED_LINES = 50, 3
_SMI_TIMEOUT_S = 20.0


class EngineError(RuntimeError):
    """An engine that cannot be had; the text says what failed, where and why."""


@dataclass(frozen=True)
class Card:
    """The graphics card that engines are built for and run on.

    Parameters
    ----------
    device
        As torch knows it.
    name, capability, driver
        Of the card: its product name, compute capability and driver's version. An
        engine serves these alone.
    """

    device: torch.device
    name: str
    capability: tuple[int, int]
    driver: str


@dataclass(frozen=True)
class BuilderOptions:
    """What the builder is told.

    Parameters
    ----------
    level
        Optimisation level, 0 to 5: how long it searches for quick kernels. 3 is
        TensorRT's own default.
    workspace_mib
        Scratch memory that a layer may take.
    """

    level: int = 3
    workspace_mib: int = 1024


@dataclass(frozen=True)
class Backend:
    """One TensorRT that is installed.

    Parameters
    ----------
    name, version
        Of the package.
    module, log
        The Python module, and the logger that all its objects share.
    """

    name: str
    version: str
    module: Any
    log: Any

    def failed(self, what: str, cure: str = "") -> EngineError:
        """Return an error with the logger's last words."""
        said = self.log.last()
        text = f"{self.name} {self.version}: {what}"
        return EngineError("; ".join(part for part in (text, said, cure) if part))


def find_card() -> Card:
    """Return the current CUDA card.

    Raises
    ------
    EngineError
        When torch finds none. Without one an engine must not even be opened: some
        versions of TensorRT crash the process.
    """
    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = "this torch is built without CUDA" if built is None else "none answers"
        raise EngineError(f"torch finds no CUDA card ({why})")
    index = torch.cuda.current_device()
    device = torch.device("cuda", index)
    name = torch.cuda.get_device_name(index)
    capability = torch.cuda.get_device_capability(index)
    return Card(device, name, capability, _driver())


@cache
def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(
            query, capture_output=True, text=True, timeout=_SMI_TIMEOUT_S, check=True
        )
        return answer.stdout.splitlines()[0].strip()
    except (OSError, subprocess.SubprocessError, IndexError):
        # Without it the CUDA version is the closest that can be told.
        return f"unknown, CUDA {torch.version.cuda}"


@cache
def find_backend(name: str) -> Backend:
    """Import one of `BACKENDS`.

    Raises
    ------
    EngineError
        When it is not installed, does not load, or is of another version.
    """
    module_name, low, high, extra = BACKENDS[name]
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        cure = f"pip install '{extra}'"
        raise EngineError(f"{name} is not installed: {cure}") from error
    except Exception as error:  # a broken installation breaks in any way it likes
        text = f"{name} does not load: {type(error).__name__}: {error}"
        raise EngineError(text) from error
    version = str(getattr(module, "__version__", "0"))
    parts = tuple(int(p) if p.isdigit() else 0 for p in version.split(".")[:2])
    if not low <= parts < high:
        wanted = ".".join(map(str, low))
        below = ".".join(map(str, high))
        raise EngineError(
            f"{name} {version}: versions from {wanted} to below {below} are known to "
            f"work: pip install '{extra}'"
        )
    return Backend(name, version, module, _logger(module))


def _logger(module: Any) -> Any:
    """Return a logger that keeps what it is told.

    A process has one: TensorRT ignores every logger after the first.
    """

    class Log(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.lines: deque[str] = deque(maxlen=_KEPT_LINES)

        def log(self, severity: Any, message: str) -> None:
            if severity in (
                module.ILogger.Severity.INTERNAL_ERROR,
                module.ILogger.Severity.ERROR,
            ):
                self.lines.append(message.strip())

        def last(self) -> str:
            said = list(self.lines)[-_QUOTED_LINES:]
            self.lines.clear()
            return " | ".join(said)

    return Log()


def build_plan(
    backend: Backend,
    onnx: bytes,
    precision: Precision,
    options: BuilderOptions,
    card: Card | None,
    progress: Progress,
) -> bytes:
    """Build an engine's plan from an ONNX model.

    Parameters
    ----------
    backend
        Which TensorRT.
    onnx
        The model; its dtypes are the engine's precision.
    precision
        The model's: without half-precision convolutions TF32 is switched off too.
    options
        For the builder.
    card
        The card; with None TensorRT for RTX builds for all it supports, and TensorRT
        refuses.
    progress
        Told what the builder is at; answering False ends the build.

    Raises
    ------
    EngineError
        When the model is not understood, or the builder gives up.
    """
    trt = backend.module
    builder = trt.Builder(backend.log)
    flags = trt.NetworkDefinitionCreationFlag
    # TensorRT 11 is always strongly typed, and may drop the flag.
    typed = getattr(flags, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    if network is None:
        raise backend.failed("no network could be made")
    parser = trt.OnnxParser(network, backend.log)
    if not parser.parse(onnx):
        said = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise backend.failed(f"the ONNX model was not understood: {'; '.join(said)}")
    config = builder.create_builder_config()
    if config is None:
        raise backend.failed("no builder configuration could be made")
    config.set_memory_pool_limit(
        trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20
    )
    config.builder_optimization_level = options.level
    if precision == "float32":
        config.clear_flag(trt.BuilderFlag.TF32)
    if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):
        # TensorRT for RTX: else the engine cannot be part of a CUDA graph.
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if card is not None and hasattr(trt, "ComputeCapability"):
        config.num_compute_capabilities = 1
        if not config.set_compute_capability(trt.ComputeCapability.CURRENT, 0):
            raise backend.failed(f"cannot build for {card.name}")
    monitor = _monitor(trt, progress)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        if monitor.stopped:
            raise EngineError(f"{backend.name}: the build was stopped")
        cure = "another version or precision may do better; torch serves meanwhile"
        raise backend.failed("no engine could be built", cure)
    return bytes(memoryview(plan))


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.stopped = False
            self._steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self._steps[phase] = steps

        def step_complete(self, phase: str, step: int) -> bool:
            whole = self._steps.get(phase, 0)
            self.stopped |= not progress(f"{phase}, {step + 1} of {whole}")
            return not self.stopped

        def phase_finish(self, phase: str) -> None:
            self._steps.pop(phase, None)

    return Monitor()


class Engine:
    """A plan opened on a card, with its scratch memory; not for several threads.

    Parameters
    ----------
    backend
        That built the plan.
    plan
        Its bytes.
    card
        From `find_card`, which has asked torch whether there is one.

    Attributes
    ----------
    tensors
        Name → shape and dtype of its inputs and outputs.

    Raises
    ------
    EngineError
        When the plan does not open here.
    """

    def __init__(self, backend: Backend, plan: bytes, card: Card) -> None:
        trt = backend.module
        self._backend, self.device = backend, card.device
        self._runtime = trt.Runtime(backend.log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise backend.failed(f"the engine does not open on {card.name}")
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._context = self._engine.create_execution_context(strategy)
        if self._context is None:
            raise backend.failed(f"the engine cannot be made ready on {card.name}")
        size = int(self._engine.device_memory_size_v2)
        # Torch's blocks are aligned to more than the 256 bytes that are asked for.
        self._scratch = torch.empty(
            max(size, 256), dtype=torch.uint8, device=self.device
        )
        self._context.set_device_memory(self._scratch.data_ptr(), size)
        self.tensors: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
        self.inputs: list[str] = []
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            kind = self._engine.get_tensor_dtype(name).name
            if kind not in _DTYPES:
                raise EngineError(f"{backend.name}: tensor {name!r} is of type {kind}")
            shape = tuple(int(n) for n in self._engine.get_tensor_shape(name))
            self.tensors[name] = (shape, _DTYPES[kind])
            if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                self.inputs.append(name)
        # What is bound must outlive the engine's use of its address.
        self._bound: dict[str, torch.Tensor] = {}

    def bind(self, name: str, tensor: torch.Tensor) -> None:
        """Let an input or output lie in `tensor` from now on.

        Raises
        ------
        EngineError
            When there is none of that name, or the tensor is of another shape, dtype,
            device or layout.
        """
        if name not in self.tensors:
            raise EngineError(
                f"no tensor {name!r}: there are {', '.join(self.tensors)}"
            )
        shape, dtype = self.tensors[name]
        fits = tuple(tensor.shape) == shape and tensor.dtype == dtype
        if not (fits and tensor.is_contiguous() and tensor.device == self.device):
            raise EngineError(
                f"tensor {name!r}: must be a contiguous {dtype} of {shape} on "
                f"{self.device}, is {tensor.dtype} of {tuple(tensor.shape)} on "
                f"{tensor.device}"
            )
        if not self._context.set_tensor_address(name, tensor.data_ptr()):
            raise self._backend.failed(f"tensor {name!r}: its address was refused")
        self._bound[name] = tensor

    def bound(self, name: str) -> torch.Tensor:
        """Return the tensor that was bound to `name`."""
        return self._bound[name]

    def enqueue(self) -> None:
        """Run on what is bound, in torch's current stream; returns before it is done.

        Raises
        ------
        EngineError
            When something is not bound, or the engine refuses to run.
        """
        if missing := [name for name in self.tensors if name not in self._bound]:
            raise EngineError(f"not bound: {', '.join(missing)}")
        cuda = self.device.type == "cuda"
        stream = torch.cuda.current_stream(self.device).cuda_stream if cuda else 0
        if not self._context.execute_async_v3(stream):
            raise self._backend.failed("the engine did not run")
