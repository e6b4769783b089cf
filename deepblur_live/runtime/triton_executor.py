"""The proximal network in Triton's kernels, in the frame's CUDA graph."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import torch

from deepblur_live.runtime.graph_executor import PreparedExecutor
from deepblur_live.runtime.tensorrt import EngineError, find_card

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.blur import BlurFamily
    from deepblur_live.deblurring import FoldedFista
    from deepblur_live.runtime.pack import ModelPack

__all__ = ["TritonExecutor", "why_no_triton"]

# Oldest compute capability that Triton supports: Ampere.
_CAPABILITY_FROM = (8, 0)


def why_no_triton() -> str:
    """Return why Triton's kernels cannot run here, or ""."""
    try:
        card = find_card()
    except EngineError as error:
        return str(error)
    if card.capability < _CAPABILITY_FROM:
        major, minor = card.capability
        return f"{card.name} has compute capability {major}.{minor}; Triton needs 8.0"
    try:
        import triton  # noqa: F401
    except Exception as error:  # a broken installation may raise anything
        remedy = "it comes with torch for CUDA on Linux"
        if sys.platform == "win32":
            remedy = (
                "its wheels are for Linux; on Windows, `pip install triton-windows`, "
                "in the version that torch's release notes state, may provide it"
            )
        return f"Triton does not load ({error}): {remedy}"
    return ""


class TritonExecutor(PreparedExecutor):
    """The proximal network in four Triton kernels; torch identifies.

    Parameters
    ----------
    pack, family, device
        As `TorchExecutor`.
    dtype
        Data type of the products: float16 is closer to float32, bfloat16 does not
        overflow.
    """

    def __init__(
        self,
        pack: ModelPack,
        family: BlurFamily,
        device: torch.device,
        dtype: torch.dtype = torch.float16,
    ) -> None:
        super().__init__(pack, family, device)
        self.dtype = dtype

    @property
    def name(self) -> str:
        """Version, device, precision and weights, and the kernels."""
        return f"{super().name}, Triton kernels"

    def _make_fista(
        self, shape: tuple[int, int], progress: Callable[[str], None]
    ) -> FoldedFista:
        progress(f"Triton's kernels, for {shape[0]} × {shape[1]}")
        # It imports Triton, which is no dependency.
        from deepblur_live.deblurring.triton_fista import TritonFista

        fista = TritonFista(self._deblurring, self.dtype)
        self._run_once(fista, shape)
        return fista
