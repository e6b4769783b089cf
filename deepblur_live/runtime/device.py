"""Choose the device and the precision of the networks, and tune the process."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Choice",
    "choose_device",
    "choose_precision",
    "has_lost_card",
    "is_out_of_memory",
    "may_be_a_kernels_fault",
    "page_locked",
    "tune_process",
    "usable_cores",
    "why_no_card",
]

# Texts of the CUDA errors that every later call of the process returns too (CUDA
# Runtime API, `cudaError_t`): those that a wrong kernel causes, and those of the card,
# its driver, or its use by a display.
_OF_A_KERNEL = (
    "illegal memory access",
    "illegal instruction",
    "misaligned address",
    "invalid program counter",
    "shared address space",
    "unspecified launch failure",
    "hardware stack error",
    "device-side assert",
)
_OF_THE_CARD = (
    "launch timed out",
    "uncorrectable",
    "context is destroyed",
    "unknown error",
    "no CUDA-capable device",
    "busy or unavailable",
    "driver shutting down",
)


@dataclass(frozen=True)
class Choice:
    """The chosen device, and the reason."""

    device: torch.device
    why: str


def choose_device(wanted: str = "auto") -> Choice:
    """Choose where the networks run.

    Raises
    ------
    ValueError
        When ``"cuda"`` is requested and torch can use no card.
    """
    if wanted == "cpu":
        return Choice(torch.device("cpu"), "requested")
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        if not (fault := _try_card()):
            return Choice(torch.device("cuda"), name)
        missing = f"torch cannot use the {name}: {fault}"
    else:
        missing = f"torch finds no CUDA card ({why_no_card()})"
    if wanted == "cuda":
        raise ValueError(f"model.device 'cuda': {missing}")
    return Choice(torch.device("cpu"), missing)


def why_no_card() -> str:
    """Return why torch finds no CUDA card here, in a few words."""
    if torch.version.cuda is None:
        return "this torch is built without CUDA"
    return "no driver or no card was found"


def _try_card() -> str:
    """Return why torch cannot compute on the card, or "".

    Torch also lists cards that are too old for it, and those that another program uses
    exclusively.
    """
    try:
        float(torch.ones(1, device="cuda") + 1)
    except RuntimeError as error:
        return str(error).strip().splitlines()[0]
    return ""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the card, or page-locked memory, has no room left."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    # cuFFT, cuBLAS and cuDNN have statuses of their own; TensorRT writes "Cuda".
    text = str(error).lower()
    return "alloc_failed" in text or ("cuda" in text and "out of memory" in text)


def has_lost_card(error: BaseException) -> bool:
    """Return whether CUDA is unusable in this process after an error.

    An illegal access or a launch that hangs is reported late, by the next call and by
    every call after it. Running out of memory, or a recording that fails, is not such
    an error: the next call succeeds.
    """
    if not _is_of_cuda(error) or is_out_of_memory(error):
        return False
    text = str(error)
    return any(known in text for known in _OF_A_KERNEL + _OF_THE_CARD) or _fails_again()


def may_be_a_kernels_fault(error: BaseException) -> bool:
    """Return whether a wrong kernel, for example of an engine, may have caused it.

    Not an error of memory, of the driver, or of a card that was taken away.
    """
    return any(known in str(error) for known in _OF_A_KERNEL)


def _is_of_cuda(error: BaseException) -> bool:
    kind = getattr(torch, "AcceleratorError", None)
    is_one = kind is not None and isinstance(error, kind)
    return is_one or "CUDA error" in str(error)


def _fails_again() -> bool:
    try:
        # Not the whole device: that fails while another thread records a CUDA graph.
        torch.cuda.current_stream().synchronize()
    except RuntimeError:
        return True
    except AssertionError:  # a torch without CUDA
        pass
    return False


def usable_cores() -> int:
    """Return how many cores this process may use; a container may limit them."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def tune_process(threads: int | None = None) -> int:
    """Tune this process for inference on the CPU; return its number of threads.

    One core is left to the camera and the window. Large buffers are not returned to
    the system after each layer, which makes convolutions three times faster with glibc.
    """
    count = threads or max(1, usable_cores() - 1)
    torch.set_num_threads(count)
    if sys.platform == "linux":
        # M_TRIM_THRESHOLD = -1, M_MMAP_MAX = -4 (malloc.h); other C libraries lack it.
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(-4, 0)
            mallopt(-1, 2**30)
    return count


def page_locked(pixels: NDArray[Any]) -> torch.Tensor:
    """Return a copy of pixels in page-locked memory, which is uploaded asynchronously.

    Raises
    ------
    RuntimeError
        There is no card, or no memory that can be locked.
    """
    if pixels.dtype != np.uint16:
        return torch.from_numpy(pixels).pin_memory()
    # Torch copies uint16 one by one, five times as slowly as int16.
    return torch.from_numpy(pixels.view(np.int16)).pin_memory().view(torch.uint16)


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
