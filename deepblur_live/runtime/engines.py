"""A model's engines for one card: exported, found in the cache or built, opened."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from deepblur_live.deblurring import FoldedFista
from deepblur_live.identification import INPUT_SHAPE
from deepblur_live.runtime.engine import ALIGNMENT, Engine
from deepblur_live.runtime.engine_build import build_in_child
from deepblur_live.runtime.engine_cache import EngineCache, EngineSpec
from deepblur_live.runtime.export import (
    export_identification,
    export_proximal,
    modulation,
)
from deepblur_live.runtime.graph import no_recording
from deepblur_live.runtime.tensorrt import WORKSPACE_MIB, Precision

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.deblurring import UnrolledFista
    from deepblur_live.runtime.pack import ModelPack
    from deepblur_live.runtime.tensorrt import Card, Library

__all__ = ["EngineFista", "EngineSource", "engine_sources"]

# In order of preference: float16 is closer to float32, bfloat16 does not overflow.
_PRECISIONS: tuple[Precision, ...] = ("float16", "bfloat16")
_BFLOAT16_FROM = (8, 0)


@dataclass
class EngineSource:
    """Provides a model's engines, from the cache or newly built.

    Parameters
    ----------
    pack
        The model.
    library, card
        The TensorRT library, and the card to build for.
    cache
        Where engines are stored.
    precision
        Data type of the convolutions.
    card_busy
        Whether the card processes frames at the same time, see `EngineCache.plan`.
    """

    pack: ModelPack
    library: Library
    card: Card
    cache: EngineCache
    precision: Precision = "float16"
    card_busy: bool = False
    _opened: list[EngineSpec] = field(default_factory=list, init=False)

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
        onnx = export_proximal(self.pack.deblurring.proximal, shape, self.precision)
        return self._obtain("proximal", (1, 1, *shape), onnx, progress)

    def identification(self, progress: Callable[[str], None]) -> Engine:
        """Return the identification network's engine; as `proximal`."""
        onnx = export_identification(self.pack.identification, self.precision)
        return self._obtain("identification", (1, 2, *INPUT_SHAPE), onnx, progress)

    def _obtain(
        self,
        network: str,
        shape: tuple[int, ...],
        onnx: bytes,
        progress: Callable[[str], None],
    ) -> Engine:
        library, card, cache = self.library, self.card, self.cache
        spec = EngineSpec(
            network,
            shape,
            self.precision,
            hashlib.sha256(onnx).hexdigest(),
            library.name,
            library.version,
            f"workspace of {WORKSPACE_MIB} MiB",
            card.name,
            card.capability,
            card.driver,
        )

        def report(text: str) -> None:
            sides = " × ".join(map(str, shape[-2:]))
            progress(f"{network} network for {sides}: {text}")

        def build() -> bytes:
            return build_in_child(
                library.name, onnx, self.precision, card.capability, report
            )

        # TensorRT for RTX builds without the card, and compiles at the first run.
        busy = self.card_busy and library.name == "tensorrt"
        with cache.plan(spec, build, report, card_busy=busy) as plan:
            kernels = cache.kernels(spec)
            with no_recording():
                engine = Engine(library, plan, card, kernels)
            if (compiled := engine.kernels()) not in (b"", kernels):
                cache.keep_kernels(spec, compiled)
        self._opened.append(spec)
        return engine

    def card_failed(self) -> None:
        """Count a failure of the card against every engine that was opened here."""
        for spec in self._opened:
            self.cache.card_failed(spec)


def engine_sources(
    pack: ModelPack, library: Library, card: Card, card_busy: bool = False
) -> list[EngineSource]:
    """Return the sources worth trying on a card, best first; as `EngineSource`."""
    return [
        EngineSource(pack, library, card, EngineCache(), precision, card_busy)
        for precision in _PRECISIONS
        if precision != "bfloat16" or card.capability >= _BFLOAT16_FROM
    ]


class EngineFista(FoldedFista):
    """`FoldedFista` whose proximal network is an engine, called once per iteration.

    Parameters
    ----------
    network
        The trained network.
    engine
        The engine of its proximal network, for frames of one shape.
    """

    @torch.no_grad()
    def __init__(self, network: UnrolledFista, engine: Engine) -> None:
        super().__init__(network)
        self._engine = engine
        # Written in place: a CUDA graph that was recorded with it stays valid. Each
        # row begins where an engine may be bound.
        row = engine.bound["modulation"]
        apart = -(-row.nbytes // ALIGNMENT) * ALIGNMENT // row.itemsize
        rows = row.new_zeros(network.iterations, apart)
        self._modulation = rows[:, : row.numel()].view(-1, *row.shape[1:])

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
