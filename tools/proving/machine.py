"""The machine: what is installed, what the card is, and how fast its parts are."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from proving import floor
from proving.runner import COPY, PRODUCT
from proving.stage import Context, Figure, NotHere
from proving.timer import milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["environment", "kernels", "transforms"]

# What the stages need, and what they can do without.
_NEEDED = (
    "numpy",
    "scipy",
    "pydantic",
    "safetensors",
    "platformdirs",
    "filelock",
    "PIL",
)
_OPTIONAL = ("triton", "onnx", "tensorrt", "tensorrt_rtx", "pytest", "pymmcore_plus")
_SMI = "name,driver_version,memory.total,pcie.link.gen.current,pcie.link.width.current"
_SMI_TIMEOUT_S, _COMPILE_TIMEOUT_S = 20.0, 600.0
_DRY_BYTES, _BYTES = 1 << 20, 1 << 30
_DRY_SIDE, _SIDE = 128, 8192
# 7-smooth sides near those of extended frames.
_SIDES = (512, 540, 2048, 2100, 2160, 2240, 2304)


def environment(context: Context) -> Iterator[Figure]:
    """Say what there is, and measure what the floor is counted by."""
    yield Figure("python", platform.python_version())
    yield Figure("system", f"{platform.system()} {platform.release()}")
    yield Figure("processor cores", os.cpu_count() or 1)
    yield Figure("torch", f"{torch.__version__}, CUDA {torch.version.cuda}")
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    yield Figure("packages that lack", ", ".join(missing) or "none", passed=not missing)
    for name in _OPTIONAL:
        yield Figure(name, _version(name))
    yield Figure("C compiler, for Triton", shutil.which("cc") or "none")
    if context.dry:
        yield Figure("card", "none: a dry run, whose times mean nothing")
    else:
        properties = torch.cuda.get_device_properties(0)
        yield Figure("card", properties.name)
        yield Figure("compute capability", f"{properties.major}.{properties.minor}")
        yield Figure("multiprocessors", properties.multi_processor_count)
        yield Figure("memory", properties.total_memory / 2**30, "GiB")
        cache = getattr(properties, "L2_cache_size", 0)
        yield Figure("second-level cache", cache / 2**20, "MiB")
        yield Figure("cuDNN", torch.backends.cudnn.version() or 0)
        yield Figure("nvidia-smi", _smi())
    yield from _peaks(context)


def _version(name: str) -> str:
    if importlib.util.find_spec(name) is None:
        return "not installed"
    try:
        return metadata.version(name.replace("_", "-"))
    except metadata.PackageNotFoundError:
        return "installed"


def _smi() -> str:
    command = ["nvidia-smi", f"--query-gpu={_SMI}", "--format=csv,noheader"]
    try:
        said = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_SMI_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return said.stdout.strip() or said.stderr.strip()


def _peaks(context: Context) -> Iterator[Figure]:
    """Measure a large copy and a large matrix product, on random numbers."""
    device, dry = context.device, context.dry
    size, side = (_DRY_BYTES, _DRY_SIDE) if dry else (_BYTES, _SIDE)
    data = torch.randint(0, 255, (2, size), dtype=torch.uint8, device=device)
    took = milliseconds(lambda: data[0].copy_(data[1]), device)
    # Bytes read and written.
    yield Figure(COPY, 2 * size / took / 1e9, "TB/s")
    matrix = torch.randn(side, side, device=device).to(torch.bfloat16)
    product = torch.empty_like(matrix)
    took = milliseconds(lambda: torch.mm(matrix, matrix, out=product), device)
    yield Figure(PRODUCT, 2 * side**3 / took / 1e9, "TFLOP/s")
    if dry:
        return
    pinned = torch.empty(2048 * 2048, dtype=torch.int16).pin_memory()
    there = torch.empty(2048 * 2048, dtype=torch.int16, device=device)
    for what, work in (
        ("upload of 2048² uint16", lambda: there.copy_(pinned, non_blocking=True)),
        ("its download", lambda: pinned.copy_(there, non_blocking=True)),
    ):
        yield Figure(what, milliseconds(work, device, graph=False), "ms")


def transforms(context: Context) -> Iterator[Figure]:
    """Time real FFTs and their inverses in float32."""
    for side in (32, 36) if context.dry else _SIDES:
        image = torch.randn(1, side, side, device=context.device)
        spectrum = torch.fft.rfft2(image)
        least = floor.milliseconds(floor.transform(side, side), context)
        both = (
            ("rfft2", lambda x=image: torch.fft.rfft2(x)),
            (
                "irfft2",
                lambda x=spectrum, n=side: torch.fft.irfft2(x, s=(n, n)),
            ),
            (
                "irfft2, not normalised",
                lambda x=spectrum, n=side: torch.fft.irfft2(
                    x, s=(n, n), norm="forward"
                ),
            ),
        )
        for name, work in both:
            took = milliseconds(work, context.device)
            yield Figure(f"{name} of {side}²", took, "ms", least)


def kernels(context: Context) -> Iterator[Figure]:
    """Compile the Triton kernels for cards that are not there; list what they use."""
    if importlib.util.find_spec("triton") is None:
        raise NotHere("Triton is not installed")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    arguments = ["90", "16", "hidden"] if context.dry else []
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("targets.py")), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=_COMPILE_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-500:])
    for found in json.loads(done.stdout):
        text = (
            f"{found['registers']} registers, {found['spilled_bytes']} bytes spilled, "
            f"{found['shared_bytes'] / 1024:.0f} KiB shared"
        )
        name = f"{found['kernel']} layer, {found['channels']} channels"
        yield Figure(f"{name}, {found['target']}", text)
