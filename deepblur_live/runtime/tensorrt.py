"""TensorRT 10.13 to 11 and TensorRT for RTX: find library and card, build a plan.

Both are used through the same calls. TensorRT seldom raises: it returns None or False
and logs the reason. Every result is checked here, and the log goes into the error.
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
    from collections.abc import Mapping

__all__ = [
    "LIBRARIES",
    "WORKSPACE_MIB",
    "Card",
    "EngineError",
    "Library",
    "Precision",
    "build_plan",
    "find_card",
    "find_library",
]

Precision = Literal["float16", "bfloat16", "float32"]
"""Data type of an engine's convolutions."""

# Name → module, versions it works with (from, below), and what installs it.
LIBRARIES: Mapping[str, tuple[str, tuple[int, int], tuple[int, int], str]] = {
    "tensorrt": ("tensorrt", (10, 13), (12, 0), "deepblur-live[trt]"),
    "tensorrt-rtx": ("tensorrt_rtx", (1, 4), (2, 0), "deepblur-live[trt-rtx]"),
}
WORKSPACE_MIB = 1024
"""Scratch memory that an engine may use."""
_QUOTED_LINES = 3
_SMI_TIMEOUT_S = 20.0
_LINUX_DRIVER = Path("/sys/module/nvidia/version")


class EngineError(RuntimeError):
    """An engine is not available; the text says what failed, where and why."""


@dataclass(frozen=True)
class Card:
    """The graphics card that engines are built for and run on.

    Parameters
    ----------
    device
        The torch device.
    name, capability, driver
        Product name, compute capability and driver version. An engine is valid only
        for exactly these.
    """

    device: torch.device
    name: str
    capability: tuple[int, int]
    driver: str


@dataclass(frozen=True)
class Library:
    """An installed TensorRT library.

    Parameters
    ----------
    name, version
        Name and version of the package.
    module, log
        The Python module, and the logger shared by all its objects.
    """

    name: str
    version: str
    module: Any
    log: Any

    def failed(self, what: str, remedy: str = "") -> EngineError:
        """Return an error that quotes the log and says what may help."""
        parts = [f"{self.name} {self.version}: {what}", " | ".join(self.log.lines)]
        self.log.lines.clear()
        parts.append(
            remedy
            or "torch is used instead; a newer driver or another version may help: "
            f"pip install '{LIBRARIES[self.name][3]}', then `deepblur-live engines "
            "clear`"
        )
        return EngineError("; ".join(filter(None, parts)))

    def make(self, kind: str, *arguments: Any) -> Any:
        """Return a new object of one of the module's classes.

        Raises
        ------
        EngineError
            When the library cannot make it, for example because the driver is too old.
        """
        try:
            return getattr(self.module, kind)(*arguments)
        except (TypeError, RuntimeError) as error:
            # The binding's own message carries no reason; the log does.
            remedy = "the card may need a newer driver"
            raise self.failed(f"cannot create {kind}", remedy) from error


def find_card() -> Card:
    """Return the current CUDA card.

    Raises
    ------
    EngineError
        When torch finds no card (opening an engine without one crashes the process in
        some versions of TensorRT), or when its driver version is unknown.
    """
    if not torch.cuda.is_available():
        raise EngineError(
            f"torch finds no CUDA card ({why_no_card()}): `deepblur-live doctor` says "
            "what to do"
        )
    index = torch.cuda.current_device()
    name = torch.cuda.get_device_name(index)
    capability = torch.cuda.get_device_capability(index)
    return Card(torch.device("cuda", index), name, capability, _driver())


@cache
def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        if _LINUX_DRIVER.exists():
            # Containers often lack nvidia-smi.
            return _LINUX_DRIVER.read_text("ascii").strip()
        output = subprocess.check_output(query, text=True, timeout=_SMI_TIMEOUT_S)
        return output.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        raise EngineError(
            f"the version of the card's driver is unknown ({error}), and engines are "
            "valid for one driver version only: put nvidia-smi on the PATH"
        ) from error


@cache
def find_library(name: str) -> Library:
    """Import one of `LIBRARIES`.

    Raises
    ------
    EngineError
        When it is not installed, does not load, or has an unsupported version.
    """
    module_name, low, high, extra = LIBRARIES[name]
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise EngineError(f"{name} is not installed: pip install '{extra}'") from error
    except Exception as error:  # a broken installation may raise anything
        raise EngineError(
            f"{name} does not load: {type(error).__name__}: {error}; reinstall it: "
            f"pip install --force-reinstall '{extra}'"
        ) from error
    version = str(getattr(module, "__version__", "0"))
    parts = tuple(int(p) if p.isdigit() else 0 for p in version.split(".")[:2])
    if not low <= parts < high:
        lowest, below = (".".join(map(str, limit)) for limit in (low, high))
        raise EngineError(
            f"{name} {version} is not supported: install a version from {lowest} to "
            f"below {below}: pip install '{extra}'"
        )
    return Library(name, version, module, _logger(module))


def _logger(module: Any) -> Any:
    """Return a logger that keeps the last errors.

    There is one for each process: TensorRT ignores all loggers but the first.
    """
    severity_of = module.ILogger.Severity

    class Log(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.lines: deque[str] = deque(maxlen=_QUOTED_LINES)

        def log(self, severity: Any, message: str) -> None:
            if severity in (severity_of.INTERNAL_ERROR, severity_of.ERROR):
                self.lines.append(message.strip())

    return Log()


def build_plan(
    library: Library, onnx: bytes, precision: Precision, capability: tuple[int, int]
) -> bytes:
    """Build an engine's plan from an ONNX model.

    Parameters
    ----------
    library
        The TensorRT library.
    onnx
        The model; its data types are the engine's precision.
    precision
        Precision of the model. In float32, TF32 is switched off too.
    capability
        Compute capability of the card to build for, by TensorRT for RTX; TensorRT
        builds for the present card.

    Raises
    ------
    EngineError
        When the model is not understood, or the builder gives up.
    """
    trt = library.module
    builder = library.make("Builder", library.log)
    flags = trt.NetworkDefinitionCreationFlag
    # TensorRT 11 is always strongly typed, and may drop the flag.
    typed = getattr(flags, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    if network is None:
        raise library.failed("cannot create a network")
    parser = library.make("OnnxParser", network, library.log)
    if not parser.parse(onnx):
        errors = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise library.failed(f"the ONNX model was not understood: {'; '.join(errors)}")
    config = builder.create_builder_config()
    if config is None:
        raise library.failed("cannot create a builder configuration")
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_MIB << 20)
    if precision == "float32":
        config.clear_flag(trt.BuilderFlag.TF32)
    if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):
        # TensorRT for RTX: needed to capture the engine in a CUDA graph.
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if hasattr(trt, "ComputeCapability"):
        # By number: for "the current card" it returns True even if there is no card.
        major, minor = capability
        known = getattr(trt.ComputeCapability, f"SM{major}{minor}", None)
        config.num_compute_capabilities = 1
        if known is None or not config.set_compute_capability(known, 0):
            what = f"it does not support compute capability {major}.{minor}"
            raise library.failed(what, "torch or another TensorRT is used instead")
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        remedy = "another version or precision may help; torch is used instead"
        raise library.failed("no engine could be built", remedy)
    return bytes(memoryview(plan))
