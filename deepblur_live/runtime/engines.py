"""A model's engines for one card: exported, found in the cache or built, opened."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import torch

from deepblur_live.deblurring import FoldedFista
from deepblur_live.identification import INPUT_SHAPE
from deepblur_live.runtime.engine import ALIGNMENT, Engine
from deepblur_live.runtime.engine_build import build_in_child
from deepblur_live.runtime.engine_cache import EngineSpec, Kept
from deepblur_live.runtime.export import (
    export_identification,
    export_proximal,
    modulation,
)
from deepblur_live.runtime.graph import no_recording
from deepblur_live.runtime.tensorrt import BUILDER_OPTIONS, EngineError, Precision

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.deblurring import UnrolledFista
    from deepblur_live.runtime.engine_cache import EngineCache
    from deepblur_live.runtime.pack import ModelPack
    from deepblur_live.runtime.tensorrt import Card, Library

__all__ = ["EngineFista", "EngineSource", "engine_sources"]

# In order of preference: float16 is closer to float32, bfloat16 does not overflow.
_PRECISIONS: tuple[Precision, ...] = ("float16", "bfloat16")
_BFLOAT16_FROM = (8, 0)


class EngineSource:
    """Provides a model's engines, from the cache or newly built.

    Parameters
    ----------
    pack
        The model.
    library, card
        The TensorRT library, and the card to build for.
    cache
        Where engines are kept.
    precision
        Of the convolutions.
    beside_frames
        Whether the card processes frames meanwhile. Where it does not, engines are
        built again whose kernels were timed when it did.
    """

    def __init__(
        self,
        pack: ModelPack,
        library: Library,
        card: Card,
        cache: EngineCache,
        precision: Precision = "float16",
        *,
        beside_frames: bool = False,
    ) -> None:
        self.network = pack.deblurring
        self._identification = pack.identification
        self.library, self.card, self._cache = library, card, cache
        self.precision, self._beside_frames = precision, beside_frames
        self._opened: list[EngineSpec] = []

    @property
    def name(self) -> str:
        """Library, precision and card."""
        library = f"{self.library.name} {self.library.version}"
        return f"{library} in {self.precision} on {self.card.name}"

    def proximal(
        self, shape: tuple[int, int], progress: Callable[[str], None]
    ) -> Engine:
        """Return the proximal network's engine for frames of `extended_shape` (H, W).

        Parameters
        ----------
        shape
            (H, W).
        progress
            Called several times a second while the engine is built; an exception raised
            there ends the build.

        Raises
        ------
        EngineError
            When it is not available; the text says why.
        """
        onnx = export_proximal(self.network.proximal, shape, self.precision)
        return self._obtain("proximal", (1, 1, *shape), onnx, progress)

    def identification(self, progress: Callable[[str], None]) -> Engine:
        """Return the identification network's engine; as `proximal`."""
        onnx = export_identification(self._identification, self.precision)
        return self._obtain("identification", (1, 2, *INPUT_SHAPE), onnx, progress)

    def _obtain(
        self,
        network: str,
        shape: tuple[int, ...],
        onnx: bytes,
        progress: Callable[[str], None],
    ) -> Engine:
        spec = EngineSpec(
            network,
            shape,
            self.precision,
            hashlib.sha256(onnx).hexdigest(),
            self.library.name,
            self.library.version,
            self.card.name,
            self.card.capability,
            self.card.driver,
            repr(BUILDER_OPTIONS),
        )

        def report(text: str) -> None:
            sides = " × ".join(map(str, shape[-2:]))
            progress(f"{network} network for {sides}: {text}")

        def build() -> bytes:
            library, capability = self.library.name, self.card.capability
            plan = build_in_child(library, onnx, self.precision, capability, report)
            busy = self._beside_frames and self.library.times_kernels
            self._cache.set_timed_busy(spec, busy)
            return plan

        again = not self._beside_frames and self._cache.was_timed_busy(spec)
        plan, is_new = self._cache.get(spec, build, report, rebuild=again)
        try:
            return self._open(plan, spec, report)
        except EngineError:
            if is_new:
                raise
            # It has opened before: something has changed that is not part of the key.
            plan, _ = self._cache.get(spec, build, report, rebuild=True)
            return self._open(plan, spec, report)

    def _open(
        self, plan: bytes, spec: EngineSpec, progress: Callable[[str], None]
    ) -> Engine:
        kernels = self._cache.find(spec, Kept.KERNELS) or b""
        with self._cache.opening(spec, progress), no_recording():
            engine = Engine(self.library, plan, self.card, kernels)
            # Some kernels are only compiled at the first run.
            engine.run_once()
        if (compiled := engine.kernels()) not in (b"", kernels):
            self._cache.keep(spec, compiled, Kept.KERNELS, progress)
        self._opened.append(spec)
        return engine

    def card_failed(self) -> None:
        """Count a failure of the card against every engine that was opened here."""
        for spec in self._opened:
            self._cache.card_failed(spec)


def engine_sources(
    pack: ModelPack,
    library: Library,
    card: Card,
    cache: EngineCache,
    *,
    beside_frames: bool = False,
) -> list[EngineSource]:
    """Return the sources worth trying on a card, best first; as `EngineSource`."""
    return [
        EngineSource(pack, library, card, cache, precision, beside_frames=beside_frames)
        for precision in _PRECISIONS
        if precision != "bfloat16" or card.capability >= _BFLOAT16_FROM
    ]


class EngineFista(FoldedFista):
    """`FoldedFista` whose proximal network is an engine, called once an iteration.

    Parameters
    ----------
    network
        The trained network.
    engine
        Its proximal network's, for frames of one shape.
    """

    @torch.no_grad()
    def __init__(self, network: UnrolledFista, engine: Engine) -> None:
        super().__init__(network)
        self._engine = engine
        shape, dtype = engine.tensors["modulation"]
        # Written in place: a CUDA graph that was recorded with it stays valid. Each
        # row begins where an engine may be bound.
        width = math.prod(shape)
        apart = -(-width * dtype.itemsize // ALIGNMENT) * ALIGNMENT // dtype.itemsize
        rows = torch.zeros(network.iterations, apart, dtype=dtype, device=engine.device)
        self._modulation = rows[:, :width].view(len(rows), *shape[1:])

    @torch.no_grad()
    def fold(self, level: torch.Tensor) -> None:
        """Compute the modulation for one noise level (1,), for all iterations."""
        self._set_data_weight(level)
        conditions = self._network.conditions(level)[:, 0]
        self._modulation.copy_(modulation(self._network.proximal, conditions))

    @torch.no_grad()
    def proximal(self, z: torch.Tensor, iteration: int) -> torch.Tensor:
        """Return the proximal point of one image (1, H, W), by the engine."""
        sharp = torch.empty_like(z)
        self._engine.bind("image", z[:, None])
        self._engine.bind("modulation", self._modulation[iteration : iteration + 1])
        if self._contrast is not None:
            self._engine.bind("contrast", self._contrast)
        self._engine.bind("sharp", sharp[:, None])
        self._engine.enqueue()
        return sharp
