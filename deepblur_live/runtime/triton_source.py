"""Triton's kernels for the proximal network: where they run, and made ready."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch

from deepblur_live.runtime.graph import no_recording
from deepblur_live.runtime.tensorrt import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.deblurring import FoldedFista
    from deepblur_live.runtime.pack import ModelPack
    from deepblur_live.runtime.tensorrt import Card

__all__ = ["TRITON", "TritonSource", "require_triton", "triton_sources"]

TRITON = "Triton kernels in a CUDA graph"
"""Their name in the order of executors."""

# In order of preference: float16 is closer to float32, bfloat16 does not overflow.
_DTYPES = (torch.float16, torch.bfloat16)
# What Triton still compiles for: Ampere and later.
_CAPABILITY_FROM = (8, 0)
_SIGMA = 0.01


def require_triton(card: Card) -> str:
    """Return Triton's version.

    Raises
    ------
    EngineError
        When it is not installed, does not load, or does not support the card.
    """
    if card.capability < _CAPABILITY_FROM:
        major, minor = card.capability
        raise EngineError(
            f"{card.name} has compute capability {major}.{minor}; Triton needs 8.0"
        )
    try:
        import triton
    except Exception as error:  # a broken installation may raise anything
        remedy = "it comes with torch for CUDA on Linux"
        if sys.platform == "win32":
            remedy = (
                "its wheels are for Linux; on Windows, `pip install triton-windows`, "
                "of the version that torch's notes name, may provide it"
            )
        raise EngineError(f"Triton does not load ({error}): {remedy}") from error
    return f"Triton {triton.__version__}"


class TritonSource:
    """Provides a model's iterations with the proximal network in Triton's kernels.

    Parameters
    ----------
    pack
        The model.
    card
        The card to compile for.
    dtype
        Of the products.
    """

    def __init__(self, pack: ModelPack, card: Card, dtype: torch.dtype) -> None:
        self.network, self.card, self._dtype = pack.deblurring, card, dtype

    @property
    def name(self) -> str:
        """Compiler, precision and card."""
        precision = str(self._dtype).removeprefix("torch.")
        return f"Triton kernels in {precision} on {self.card.name}"

    def fista(
        self, shape: tuple[int, int], progress: Callable[[str], None]
    ) -> FoldedFista:
        """Return the iterations for frames of `extended_shape` (H, W), compiled.

        Parameters
        ----------
        shape
            (H, W).
        progress
            Called before the kernels are compiled.

        Raises
        ------
        EngineError
            When the network is not supported, or the kernels do not compile or run.
        """
        progress("compiling the proximal network")
        try:
            from deepblur_live.deblurring.triton_fista import TritonFista

            fista = TritonFista(self.network, self._dtype)
            image = torch.zeros((1, *shape), device=self.card.device)
            # Loading a kernel may synchronize with the card.
            with no_recording():
                fista.prepare(image, torch.full_like(image, _SIGMA))
                fista.proximal(image, 0)
        except Exception as error:  # a compiler that is missing fails in many ways
            lines = str(error).strip().splitlines() or [repr(error)]
            raise EngineError(f"{self.name}: {lines[-1]}") from error
        return fista

    def identification(self, progress: Callable[[str], None]) -> Any:
        """Return None: torch identifies."""
        del progress

    def card_failed(self) -> None:
        """Do nothing: compiled kernels are not kept."""


def triton_sources(pack: ModelPack, card: Card) -> list[TritonSource]:
    """Return the sources worth trying on a card, best first."""
    return [TritonSource(pack, card, dtype) for dtype in _DTYPES]
