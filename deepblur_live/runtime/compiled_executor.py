"""The proximal network compiled by torch, in the frame's CUDA graph."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from deepblur_live.deblurring import CompiledFista
from deepblur_live.runtime.graph_executor import PreparedExecutor

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.deblurring import FoldedFista

__all__ = ["CompiledExecutor", "why_no_compiler"]


def why_no_compiler() -> str:
    """Return why torch cannot compile for a card here, or ""."""
    if importlib.util.find_spec("triton") is not None:
        return ""
    return (
        "torch's compiler needs Triton, which is not installed: pip install triton "
        "(on Windows: triton-windows)"
    )


class CompiledExecutor(PreparedExecutor):
    """Torch's own compiler, which fuses bias and rectifier with the convolutions.

    Compiling takes up to a minute for each frame size, in `admit`.
    """

    @property
    def name(self) -> str:
        """Name of the executor and its device."""
        return f"{super().name}, compiled"

    def _make_fista(
        self, shape: tuple[int, int], progress: Callable[[str], None]
    ) -> FoldedFista:
        progress(f"torch's compiler, for {shape[0]} × {shape[1]}")
        fista = CompiledFista(self._deblurring, self.dtype)
        self._run_once(fista, shape)
        return fista
