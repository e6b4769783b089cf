"""Which executors this machine has, each with networks of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from benchmarking.workload import SIGMA
from deepblur_live.deblurring import FoldedFista, UnrolledFista
from deepblur_live.runtime.device import choose_device
from deepblur_live.runtime.engine_cache import EngineCache
from deepblur_live.runtime.engines import EngineFista, engine_sources
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.graph_executor import EngineExecutor, GraphExecutor
from deepblur_live.runtime.order import executor_order
from deepblur_live.runtime.pack import load_pack
from deepblur_live.runtime.parity import trial_frame
from deepblur_live.runtime.tensorrt import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deepblur_live.optics import ZernikeFamily
    from deepblur_live.runtime.engines import EngineSource
    from deepblur_live.runtime.pack import ModelPack
    from deepblur_live.runtime.tensorrt import Backend, Card

__all__ = ["Candidate", "candidates"]


@dataclass(frozen=True)
class Candidate:
    """An executor to be timed.

    Parameters
    ----------
    name
        As the table calls it.
    executor, pack
        It, and the model it was made of.
    dtype
        Of its convolutions.
    prepare
        To be called before frames of a shape come; raises `EngineError`.
    stages
        The iterations for images of a shape, to be timed one by one, or None where
        another candidate has the same.
    """

    name: str
    executor: TorchExecutor
    pack: ModelPack
    dtype: torch.dtype
    prepare: Callable[[tuple[int, int]], None] = lambda _: None
    stages: Callable[[tuple[int, int]], FoldedFista] | None = None

    @property
    def answers(self) -> torch.dtype:
        """Of the identification network: torch runs it in float32."""
        engines = isinstance(self.executor, EngineExecutor)
        return self.dtype if engines else torch.float32


def candidates(
    model: str, family: ZernikeFamily, device: str
) -> tuple[list[Candidate], list[str]]:
    """Return the executors of a device, and of those it lacks the reason."""
    chosen = choose_device(device).device
    found: list[Candidate] = []
    lacking: list[str] = []
    for attempt in executor_order(device):
        if not attempt.usable:
            lacking.append(f"{attempt.name}: {attempt.why}")
        elif attempt.backend is not None and attempt.card is not None:
            try:
                found += _engines(model, family, attempt.backend, attempt.card)
            except EngineError as error:
                lacking.append(str(error))
    if chosen.type == "cuda":
        found += [_graph(model, family, chosen, compiled) for compiled in (True, False)]
    return found + list(_torch(model, family, chosen)), lacking


def _torch(
    model: str, family: ZernikeFamily, device: torch.device
) -> Iterator[Candidate]:
    """Yield torch as it chooses its precision, then in float32 if that is another."""
    seen = set()
    for half in (None, False):
        pack = load_pack(model)
        pack.check(family)
        executor = TorchExecutor(pack, family, device, half=half)
        dtype = executor.dtype
        if dtype in seen:
            continue
        seen.add(dtype)
        network, stages = pack.deblurring, None
        if isinstance(network, UnrolledFista):
            folded = FoldedFista(network, dtype)
            stages = _always(folded)
        name = f"torch, {str(dtype).removeprefix('torch.')}"
        yield Candidate(name, executor, pack, dtype, stages=stages)


def _graph(
    model: str, family: ZernikeFamily, device: torch.device, compiled: bool
) -> Candidate:
    """Return torch in a CUDA graph; live frames are not given to a compiled one."""
    pack = load_pack(model)
    executor = GraphExecutor(pack, family, device, compiled=compiled)

    def prepare(shape: tuple[int, int]) -> None:
        still = torch.zeros(family.n_coefficients)
        try:
            executor.deblur(trial_frame(shape), still, SIGMA)
        except Exception as error:  # a compiler that is missing fails in many ways
            said = str(error).strip().splitlines() or [repr(error)]
            text = f"torch could not compile the network: {said[0]}"
            raise EngineError(text) from error

    name = "torch, compiled, CUDA graph" if compiled else "torch, CUDA graph"
    if not compiled:
        return Candidate(name, executor, pack, executor.dtype)
    return Candidate(name, executor, pack, executor.dtype, prepare)


def _engines(
    model: str, family: ZernikeFamily, backend: Backend, card: Card
) -> Iterator[Candidate]:
    """Yield engines of one TensorRT, built or from the user's cache."""
    pack = load_pack(model)
    for source in engine_sources(pack, backend, card, EngineCache()):
        yield _engine(model, pack, family, source)


def _engine(
    model: str, pack: ModelPack, family: ZernikeFamily, source: EngineSource
) -> Candidate:
    backend, card = source.backend, source.card
    executor = EngineExecutor(pack, family, source)
    # What they must agree with has networks of its own.
    exact = TorchExecutor(load_pack(model), family, card.device, half=False)

    def prepare(shape: tuple[int, int]) -> None:
        executor.prepare(shape, print, _never)
        for parity in executor.check(shape, exact):
            if not parity.passed:
                raise EngineError(f"{backend.name}: {parity.text}")

    def stages(shape: tuple[int, int]) -> FoldedFista:
        return EngineFista(source.network, source.proximal(shape, print, _never))

    return Candidate(
        f"{backend.name} {backend.version}, {source.precision}",
        executor,
        pack,
        getattr(torch, source.precision),
        prepare,
        stages,
    )


def _always(folded: FoldedFista) -> Callable[[tuple[int, int]], FoldedFista]:
    """Return what gives the one that serves images of every shape."""
    return lambda _: folded


def _never() -> bool:
    return False
