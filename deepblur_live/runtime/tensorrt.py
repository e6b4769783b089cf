"""TensorRT 10.13 to 11 and TensorRT for RTX, by one path: what there is, ONNX → plan.

TensorRT seldom raises: it answers None or False and tells its logger why. Every answer
is checked here, and the logger's text is in the error.
"""

from __future__ import annotations

import importlib
import subprocess
from collections import deque
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from deepblur_live.runtime.device import why_no_card

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Progress = Callable[[str], bool]

__all__ = [
    "BACKENDS",
    "Backend",
    "BuilderOptions",
    "Card",
    "EngineError",
    "Precision",
    "build_plan",
    "find_backend",
    "find_card",
]

Precision = Literal["float16", "bfloat16", "float32"]
"""Of an engine's convolutions."""

# Name → module, versions it works with (from, below), and what installs it.
BACKENDS: Mapping[str, tuple[str, tuple[int, int], tuple[int, int], str]] = {
    "tensorrt": ("tensorrt", (10, 13), (12, 0), "deepblur-live[trt]"),
    "tensorrt-rtx": ("tensorrt_rtx", (1, 4), (2, 0), "deepblur-live[trt-rtx]"),
}
_KEPT_LINES, _QUOTED_LINES = 50, 3
_SMI_TIMEOUT_S = 20.0
_LINUX_DRIVER = Path("/sys/module/nvidia/version")


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
        """Return an error with the logger's last words, and what may help."""
        text = f"{self.name} {self.version}: {what}"
        extra = BACKENDS[self.name][3]
        cure = cure or (
            "torch serves meanwhile; a newer driver or another version may do better: "
            f"pip install '{extra}', then `deepblur-live engines clear`"
        )
        return EngineError("; ".join(filter(None, (text, self.log.last(), cure))))

    def make(self, kind: str, *arguments: Any) -> Any:
        """Return a new object of one of the module's classes.

        Raises
        ------
        EngineError
            When the library gives none, as with a driver that is too old.
        """
        try:
            return getattr(self.module, kind)(*arguments)
        except (TypeError, RuntimeError) as error:
            # The binding's own words say nothing: the logger has the reason.
            cure = "a newer driver for the card may be needed"
            raise self.failed(f"no {kind} could be made", cure) from error


def find_card() -> Card:
    """Return the current CUDA card.

    Raises
    ------
    EngineError
        When torch finds none. Without one an engine must not even be opened: some
        versions of TensorRT crash the process. And when its driver is not known.
    """
    if not torch.cuda.is_available():
        raise EngineError(
            f"torch finds no CUDA card ({why_no_card()}): `deepblur-live doctor` says "
            "what to do"
        )
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
        pass
    try:
        # Containers often lack the program.
        return _LINUX_DRIVER.read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise EngineError(
            "the version of the card's driver cannot be told (nvidia-smi is not "
            "found), and an engine must not outlive a change of driver: put nvidia-smi "
            "on the PATH"
        ) from error


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
        text = (
            f"{name} does not load: {type(error).__name__}: {error}; install it anew: "
            f"pip install --force-reinstall '{extra}'"
        )
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
    builder = backend.make("Builder", backend.log)
    flags = trt.NetworkDefinitionCreationFlag
    # TensorRT 11 is always strongly typed, and may drop the flag.
    typed = getattr(flags, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    if network is None:
        raise backend.failed("no network could be made")
    parser = backend.make("OnnxParser", network, backend.log)
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
