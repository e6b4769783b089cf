"""A model's engines for one card: exported, found in the cache or built, opened."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from deepblur_live.deblurring import FoldedFista, UnrolledFista
from deepblur_live.identification import INPUT_SHAPE
from deepblur_live.optics import margin, seven_smooth
from deepblur_live.runtime.engine import Engine
from deepblur_live.runtime.engine_child import Job, run_job
from deepblur_live.runtime.engine_files import EngineSpec
from deepblur_live.runtime.export import (
    export_identification,
    export_proximal,
    modulation,
)
from deepblur_live.runtime.graph import apart_from_recordings
from deepblur_live.runtime.tensorrt import BuilderOptions, EngineError, Precision

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.runtime.engine_cache import EngineCache
    from deepblur_live.runtime.pack import ModelPack
    from deepblur_live.runtime.tensorrt import Backend, Card

__all__ = ["EngineFista", "EngineSource", "engine_sources", "whole_shape"]

# Tried in this order: float16 is nearer to float32, and bfloat16 does not overflow.
_PRECISIONS: tuple[Precision, ...] = ("float16", "bfloat16")
_BFLOAT16_FROM = (8, 0)
# The first build for a card may take minutes; more than this is a hang.
_BUILD_TIMEOUT_S = 1800.0


def whole_shape(shape: tuple[int, int], window: int, fold: int) -> tuple[int, int]:
    """Return the sides of a frame continued over its border, as `extend` makes them.

    Parameters
    ----------
    shape
        (H, W) of the frame.
    window
        Side of the PSF.
    fold
        What the proximal network folds.
    """
    rows, columns = (seven_smooth(side + margin(window), fold) for side in shape)
    return rows, columns


class EngineSource:
    """Gives a model's engines, from the cache or built anew.

    Parameters
    ----------
    pack
        The model.
    backend, card
        Which TensorRT, and the card it builds for.
    cache
        Where engines are kept.
    precision
        Of the convolutions.
    options
        For the builder.

    Raises
    ------
    EngineError
        When the model's deblurring network is of a kind that has no engine.
    """

    def __init__(
        self,
        pack: ModelPack,
        backend: Backend,
        card: Card,
        cache: EngineCache,
        precision: Precision = "float16",
        options: BuilderOptions | None = None,
    ) -> None:
        if not isinstance(pack.deblurring, UnrolledFista):
            raise EngineError(
                f"model {pack.manifest.name!r}: its deblurring network "
                f"({type(pack.deblurring).__name__}) runs in torch alone"
            )
        self.network: UnrolledFista = pack.deblurring
        self._identification = pack.identification
        self.backend, self.card, self._cache = backend, card, cache
        self.precision, self._options = precision, options or BuilderOptions()
        self._opened: list[EngineSpec] = []

    @property
    def name(self) -> str:
        """Which TensorRT, in what precision, on what."""
        backend = f"{self.backend.name} {self.backend.version}"
        return f"{backend} in {self.precision} on {self.card.name}"

    def proximal(
        self,
        shape: tuple[int, int],
        progress: Callable[[str], None],
        stopped: Callable[[], bool],
    ) -> Engine:
        """Return the proximal network's engine for frames of `whole_shape` (H, W).

        Parameters
        ----------
        shape
            (H, W).
        progress
            Told what the builder is at; not called when the engine is there.
        stopped
            Asked often; when it says so the build ends.

        Raises
        ------
        EngineError
            When it cannot be had; the text says why.
        """
        onnx = export_proximal(self.network.proximal, shape, self.precision)
        return self._obtain("proximal", (1, 1, *shape), onnx, progress, stopped)

    def identification(
        self,
        progress: Callable[[str], None],
        stopped: Callable[[], bool],
        batch: int = 1,
    ) -> Engine:
        """Return the identification network's engine for `batch` spectra; as above."""
        onnx = export_identification(
            self._identification, batch, INPUT_SHAPE, self.precision
        )
        shape = (batch, 2, *INPUT_SHAPE)
        return self._obtain("identification", shape, onnx, progress, stopped)

    def spec(self, network: str, shape: tuple[int, ...], onnx: bytes) -> EngineSpec:
        """Return all that makes an engine what it is."""
        return EngineSpec(
            network,
            shape,
            self.precision,
            hashlib.sha256(onnx).hexdigest(),
            self.backend.name,
            self.backend.version,
            self.card.name,
            self.card.capability,
            self.card.driver,
            repr(astuple(self._options)),
        )

    def _obtain(
        self,
        network: str,
        shape: tuple[int, ...],
        onnx: bytes,
        progress: Callable[[str], None],
        stopped: Callable[[], bool],
    ) -> Engine:
        spec = self.spec(network, shape, onnx)

        def build() -> bytes:
            sides = " × ".join(map(str, shape[-2:]))

            def tell(text: str) -> None:
                progress(f"{network} network for {sides}: {text}")

            try:
                return self._built(onnx, tell, stopped)
            except OSError as error:
                raise EngineError(
                    f"{tempfile.gettempdir()}: an engine cannot be built there "
                    f"({error.strerror or error}): make room, or set TMPDIR"
                ) from error

        def tell(text: str) -> None:
            progress(f"{network} network: {text}")

        def opened(plan: bytes) -> Engine:
            with self._cache.opening(spec, stopped), apart_from_recordings():
                engine = Engine(self.backend, plan, self.card)
                # Some kernels are only compiled at the first run.
                engine.run_once()
            self._opened.append(spec)
            return engine

        kept = self._cache.find(spec) is not None
        plan = self._cache.get(spec, build, stopped, tell)
        try:
            return opened(plan)
        except EngineError:
            if not kept:
                raise
            # It opened once, in the process that built it. Something has changed that
            # the key does not know: once more from the start.
            return opened(self._cache.get(spec, build, stopped, tell, anew=True))

    def card_failed(self) -> None:
        """Count a failure of the card against all that was opened here."""
        for spec in self._opened:
            self._cache.card_failed(spec)

    def _built(
        self, onnx: bytes, tell: Callable[[str], None], stopped: Callable[[], bool]
    ) -> bytes:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            model, plan = Path(folder, "model.onnx"), Path(folder, "engine.plan")
            model.write_bytes(onnx)
            job = Job(
                self.backend.name,
                plan,
                self.card,
                model,
                self.precision,
                self._options,
            )
            run_job(job, _BUILD_TIMEOUT_S, tell, stopped)
            return plan.read_bytes()


def engine_sources(
    pack: ModelPack, backend: Backend, card: Card, cache: EngineCache
) -> list[EngineSource]:
    """Return the sources worth trying on a card, best first; as `EngineSource`."""
    return [
        EngineSource(pack, backend, card, cache, precision)
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
        # Written in place: what was recorded with it (a CUDA graph) stays valid.
        rows = (network.iterations, *shape[1:])
        self._modulation = torch.zeros(rows, dtype=dtype, device=engine.device)

    @torch.no_grad()
    def fold(self, sigma: float) -> None:
        """Work out the modulation of one noise level, for all iterations."""
        if sigma == self._sigma:
            return
        super().fold(sigma)
        level = torch.full((1,), sigma, device=self._modulation.device)
        conditions = self._network.conditions(level)[:, 0]
        self._modulation.copy_(modulation(self._network.proximal, conditions))

    @torch.no_grad()
    def proximal(self, z: torch.Tensor, iteration: int) -> torch.Tensor:
        """Return the proximal point of one image (1, H, W), by the engine."""
        sharp = torch.empty_like(z)
        self._engine.bind("image", z[:, None])
        self._engine.bind("modulation", self._modulation[iteration : iteration + 1])
        self._engine.bind("sharp", sharp[:, None])
        self._engine.enqueue()
        return sharp
