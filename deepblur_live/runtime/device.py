"""Choose the device and the precision of the networks, and tune the process."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from dataclasses import dataclass

import torch

__all__ = [
    "Choice",
    "choose_device",
    "choose_precision",
    "has_lost_card",
    "tune_process",
    "why_no_card",
]


@dataclass(frozen=True)
class Choice:
    """Which device was chosen, and why."""

    device: torch.device
    why: str


def choose_device(wanted: str = "auto") -> Choice:
    """Choose where the networks run.

    Raises
    ------
    ValueError
        When ``"cuda"`` is wanted and there is none.
    """
    if wanted == "cpu":
        return Choice(torch.device("cpu"), "asked for")
    if torch.cuda.is_available():
        return Choice(torch.device("cuda"), torch.cuda.get_device_name())
    missing = f"torch finds no CUDA card ({why_no_card()})"
    if wanted == "cuda":
        raise ValueError(f"model.device 'cuda': {missing}")
    return Choice(torch.device("cpu"), missing)


def why_no_card() -> str:
    """Return why torch finds no CUDA card here, in a few words."""
    if torch.version.cuda is None:
        return "this torch is built without CUDA"
    return "no driver or no card was found"


def has_lost_card(error: BaseException) -> bool:
    """Return whether CUDA is unusable in this process after an error.

    An illegal access or a launch that hangs is reported late, by the next call and by
    every call after it. Running out of memory is not such an error.
    """
    kind = getattr(torch, "AcceleratorError", None)
    is_one = kind is not None and isinstance(error, kind)
    return is_one or "CUDA error" in str(error)


def tune_process(threads: int | None = None) -> int:
    """Tune this process for inference on the CPU; return its number of threads.

    One core is left to the camera and the window. Large buffers are not returned to
    the system after each layer, which makes convolutions three times faster with glibc.
    """
    count = threads or max(1, (os.cpu_count() or 2) - 1)
    torch.set_num_threads(count)
    if sys.platform == "linux":
        # M_TRIM_THRESHOLD = -1, M_MMAP_MAX = -4 (malloc.h); other C libraries lack it.
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(-4, 0)
            mallopt(-1, 2**30)
    return count


def choose_precision(device: torch.device) -> tuple[torch.dtype, str]:
    """Choose the data type of convolutions; return it, and why.

    bfloat16 where the hardware supports it. Others emulate it: a processor with only
    AVX-512 then takes five times as long as in float32.
    """
    if device.type == "cuda":
        native, which = torch.cuda.is_bf16_supported(including_emulation=False), "card"
    else:
        native, which = _processor_has_bfloat16(), "processor"
    if native:
        return torch.bfloat16, f"the {which} computes in bfloat16"
    return torch.float32, f"the {which} does not compute in bfloat16"


def _processor_has_bfloat16() -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if platform.machine().lower() in ("x86_64", "amd64"):
        # The function below returns true from AVX-512 on.
        return (
            torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        )
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
