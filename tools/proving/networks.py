"""The proximal network by every executor that this machine has, next to its floor."""

from __future__ import annotations

import copy
import importlib.util
from typing import TYPE_CHECKING

import torch

from deepblur_live.deblurring import CompiledFista, FoldedFista
from deepblur_live.runtime.engines import EngineFista, engine_sources
from deepblur_live.runtime.executor import extended_shape
from deepblur_live.runtime.pack import load_pack
from deepblur_live.runtime.tensorrt import EngineError, find_card, find_library
from proving import floor
from proving.stage import Context, Figure
from proving.timer import milliseconds
from proving.workload import default_family

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deepblur_live.runtime.pack import ModelPack

__all__ = ["proximal"]

# Relative error of what the network adds; relative to the image it would be hidden.
_LIMIT = 2e-2
# Columns, warps, stages and programs at once of Triton's kernels.
_LAUNCHES = (
    (128, 4, 2, 2),
    (128, 8, 2, 2),
    (64, 4, 2, 4),
    (64, 4, 3, 4),
    (32, 2, 2, 8),
)


def proximal(context: Context) -> Iterator[Figure]:
    """Time each variant, with the first of a model's weights at every size first."""
    family = default_family()
    for side in context.sides:
        for weights in ("quality", "live"):
            pack = load_pack(context.model, (weights,))
            network = pack.deblurring.to(context.device).eval()
            shape = extended_shape((side, side), family.window, network.proximal.shrink)
            layers = floor.proximal(network.proximal, *shape)
            least = floor.milliseconds(layers, context)
            work = _Comparison(pack, shape, context)
            where = f"{side}², {weights} weights"
            for name, make in _variants(pack, shape, context):
                try:
                    took, error = work.of(make())
                except Exception as failure:  # each variant by itself
                    lines = str(failure).strip().splitlines() or [repr(failure)]
                    yield Figure(f"{where}, {name}", f"not here: {lines[-1][:200]}")
                    continue
                yield Figure(f"{where}, {name}", took, "ms", least)
                # NaN fails.
                passed = error < _LIMIT
                yield Figure(f"{where}, {name}: error", f"{error:.1e}", passed=passed)


class _Comparison:
    """The network in float64 on one image of one size."""

    def __init__(
        self, pack: ModelPack, shape: tuple[int, int], context: Context
    ) -> None:
        self._device = context.device
        generator = torch.Generator().manual_seed(0)
        self._image = torch.rand(1, *shape, generator=generator).to(self._device)
        self._sigma = torch.full((1, *shape), 0.01, device=self._device)
        if pack.deblurring.noise_map:
            self._sigma = 0.01 + 0.02 * self._image
        exact = FoldedFista(copy.deepcopy(pack.deblurring).double(), torch.float64)
        exact.prepare(self._image.double(), self._sigma.double())
        self._added = exact.proximal(self._image.double(), 0) - self._image

    @torch.no_grad()
    def of(self, fista: FoldedFista) -> tuple[float, float]:
        """Return a variant's milliseconds and its relative error."""
        fista.prepare(self._image, self._sigma)
        added = fista.proximal(self._image, 0).double() - self._image
        error = float((added - self._added).norm() / self._added.norm())
        return milliseconds(lambda: fista.proximal(self._image, 0), self._device), error


def _variants(
    pack: ModelPack, shape: tuple[int, int], context: Context
) -> Iterator[tuple[str, Callable[[], FoldedFista]]]:
    network = pack.deblurring
    yield "torch, float32", lambda: FoldedFista(network)
    yield "torch, bfloat16", lambda: FoldedFista(network, torch.bfloat16)
    if context.dry:
        return
    half = torch.float16
    yield "torch, float16", lambda: FoldedFista(network, half)
    yield from _triton(pack)
    yield "torch, float16, compiled", lambda: CompiledFista(network, half)
    for name in ("tensorrt", "tensorrt-rtx"):
        try:
            library, card = find_library(name), find_card()
        except EngineError:
            continue  # the first stage says what is not installed
        for source in engine_sources(pack, library, card):
            yield (
                source.name,
                lambda s=source: EngineFista(network, s.proximal(shape, print)),
            )


def _triton(pack: ModelPack) -> Iterator[tuple[str, Callable[[], FoldedFista]]]:
    if importlib.util.find_spec("triton") is None:
        return
    from deepblur_live.deblurring.triton_fista import Launch, TritonFista

    network = pack.deblurring
    for dtype in (torch.float16, torch.bfloat16):
        name = f"Triton, {str(dtype).removeprefix('torch.')}"
        yield name, lambda d=dtype: TritonFista(network, d)
    for numbers in _LAUNCHES:
        launch = Launch(*numbers)
        name = f"Triton, float16, {launch.columns} columns, {launch.warps} warps, "
        yield (
            f"{name}{launch.stages} stages",
            lambda x=launch: TritonFista(network, torch.float16, x),
        )
