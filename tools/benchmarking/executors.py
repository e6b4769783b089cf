"""Which executors this machine has, each with networks of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from deepblur_live.deblurring import FoldedFista
from deepblur_live.runtime.device import choose_device
from deepblur_live.runtime.engine_cache import EngineCache
from deepblur_live.runtime.engines import engine_sources
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.graph_executor import EngineExecutor, GraphExecutor
from deepblur_live.runtime.order import executor_order
from deepblur_live.runtime.pack import load_pack, preferred_weights
from deepblur_live.runtime.parity import trial_frame, trial_noise
from deepblur_live.runtime.tensorrt import EngineError
from deepblur_live.runtime.triton_source import triton_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deepblur_live.blur import BlurFamily
    from deepblur_live.runtime.engines import EngineSource
    from deepblur_live.runtime.pack import ModelPack
    from deepblur_live.runtime.triton_source import TritonSource

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
        elif attempt.card is not None:
            pack = load_pack(model, weights)
            sources: list[EngineSource | TritonSource] = []
            if attempt.library is None:
                sources += triton_sources(pack, attempt.card)
            else:
                library, cache = attempt.library, EngineCache()
                sources += engine_sources(pack, library, attempt.card, cache)
            found += [_engine(pack, family, source) for source in sources]
    if chosen.type == "cuda":
        found += [_graph(model, family, chosen, compiled) for compiled in (True, False)]
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


def _graph(
    model: str, family: BlurFamily, device: torch.device, compiled: bool
) -> Candidate:
    """Return torch in a CUDA graph; a compiled one is not used live."""
    pack = load_pack(model, preferred_weights("auto", device))
    executor = GraphExecutor(pack, family, device, compiled=compiled)

    def prepare(shape: tuple[int, int]) -> None:
        count = family.n_coefficients
        still, known = torch.zeros(count), torch.zeros(count, count)
        try:
            executor.deblur(trial_frame(shape), still, known, trial_noise())
        except Exception as error:  # a compiler that is missing fails in many ways
            lines = str(error).strip().splitlines() or [repr(error)]
            text = f"torch could not compile the network: {lines[0]}"
            raise EngineError(text) from error

    if compiled:
        return Candidate("torch, compiled, CUDA graph", executor, pack, prepare)
    return Candidate("torch, CUDA graph", executor, pack)


def _engine(
    pack: ModelPack, family: BlurFamily, source: EngineSource | TritonSource
) -> Candidate:
    """Return Triton's kernels, or one TensorRT's engines, built or from the cache."""
    executor = EngineExecutor(pack, family, source)

    def prepare(shape: tuple[int, int]) -> None:
        executor.prepare(shape, print)
        executor.check(shape)

    def stages(shape: tuple[int, int]) -> FoldedFista:
        return source.fista(shape, print)

    return Candidate(source.name, executor, pack, prepare, stages)


def _always(folded: FoldedFista) -> Callable[[tuple[int, int]], FoldedFista]:
    """Return a function that gives the same iterations for every shape."""
    return lambda _: folded
