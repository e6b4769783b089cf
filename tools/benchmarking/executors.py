"""Which executors this machine has, each with networks of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepblur_live.deblurring import FoldedFista
from deepblur_live.runtime.device import choose_device
from deepblur_live.runtime.engines import EngineFista, engine_sources
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.graph_executor import EngineExecutor, GraphExecutor
from deepblur_live.runtime.order import executor_order
from deepblur_live.runtime.pack import load_pack, preferred_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

    from deepblur_live.blur import BlurFamily
    from deepblur_live.runtime.engines import EngineSource
    from deepblur_live.runtime.graph_executor import PreparedExecutor
    from deepblur_live.runtime.pack import ModelPack

__all__ = ["Candidate", "candidates"]


@dataclass(frozen=True)
class Candidate:
    """An executor to be timed.

    Parameters
    ----------
    name
        As in the table.
    executor, pack
        It, and the model it was made of.
    prepare
        To be called before frames of a shape come; raises `EngineError`.
    stages
        The iterations for extended frames of a shape, timed stage by stage, or None
        where another candidate has the same.
    """

    name: str
    executor: TorchExecutor
    pack: ModelPack
    prepare: Callable[[tuple[int, int]], object] = lambda _: None
    stages: Callable[[tuple[int, int]], FoldedFista] | None = None


def candidates(
    model: str, family: BlurFamily, device: str
) -> tuple[list[Candidate], list[str]]:
    """Return the executors of a device, and of those it lacks the reason."""
    chosen = choose_device(device).device
    found: list[Candidate] = []
    lacking: list[str] = []
    weights = preferred_weights("auto", chosen)
    for attempt in executor_order(device):
        if not attempt.usable:
            lacking.append(f"{attempt.name}: {attempt.why}")
        elif attempt.library is not None and attempt.card is not None:
            pack = load_pack(model, weights)
            sources = engine_sources(pack, attempt.library, attempt.card)
            found += [_engine(pack, family, source) for source in sources]
        elif attempt.make is not None:
            pack = load_pack(model, weights)
            found.append(_made(attempt.name, attempt.make(pack, family, chosen), pack))
    if chosen.type == "cuda":
        pack = load_pack(model, weights)
        executor = GraphExecutor(pack, family, chosen)
        found.append(Candidate("torch, CUDA graph", executor, pack))
    return found + list(_torch(model, family, chosen)), lacking


def _torch(model: str, family: BlurFamily, device: torch.device) -> Iterator[Candidate]:
    """Yield torch in the precision it chooses, then in float32 if that is another."""
    dtypes = set()
    for half in (None, False):
        pack = load_pack(model, preferred_weights("auto", device))
        executor = TorchExecutor(pack, family, device, half=half)
        if executor.dtype in dtypes:
            continue
        dtypes.add(executor.dtype)
        folded = FoldedFista(pack.deblurring, executor.dtype)
        name = f"torch, {str(executor.dtype).removeprefix('torch.')}"
        yield Candidate(name, executor, pack, stages=_always(folded))


def _made(name: str, executor: PreparedExecutor, pack: ModelPack) -> Candidate:
    """Return what is prepared for a frame size as engines are, without a library."""

    def prepare(shape: tuple[int, int]) -> None:
        executor.admit(shape, print)

    return Candidate(name, executor, pack, prepare)


def _engine(pack: ModelPack, family: BlurFamily, source: EngineSource) -> Candidate:
    """Return the engines of one TensorRT, built or from the user's cache."""
    executor = EngineExecutor(pack, family, source)

    def prepare(shape: tuple[int, int]) -> None:
        executor.admit(shape, print)

    def stages(shape: tuple[int, int]) -> FoldedFista:
        return EngineFista(pack.deblurring, source.proximal(shape, print))

    name = f"{source.library.name} {source.library.version}, {source.precision}"
    return Candidate(name, executor, pack, prepare, stages)


def _always(folded: FoldedFista) -> Callable[[tuple[int, int]], FoldedFista]:
    """Return a function that gives the same iterations for every shape."""
    return lambda _: folded
