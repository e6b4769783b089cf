"""A whole frame by each executor: right, reproducible, and where its time goes."""

from __future__ import annotations

import copy
import itertools
from typing import TYPE_CHECKING, Any

import torch
from benchmarking.executors import candidates
from torch.autograd import DeviceType

from deepblur_live.blur import expected_kernels
from deepblur_live.deblurring import FoldedFista
from deepblur_live.runtime.executor import (
    TorchExecutor,
    deblur_frame,
    extended_shape,
    frame_operator,
)
from deepblur_live.runtime.graph_executor import GraphExecutor
from deepblur_live.runtime.pack import load_pack
from deepblur_live.runtime.parity import trial_frame, trial_noise
from proving import floor
from proving.stage import Context, Figure, NotHere
from proving.timer import milliseconds
from proving.workload import default_family

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarking.executors import Candidate

    from deepblur_live.blur import BlurFamily
    from deepblur_live.optics import NoiseModel

__all__ = ["exactness", "failed_capture", "profile"]

Frame = tuple[torch.Tensor, torch.Tensor, torch.Tensor, "NoiseModel"]

# Of a frame, against float64: convolutions in half precision, and in float32.
_HALF, _SINGLE = 5e-3, 1e-4
_KERNELS = 15
# Images that fill the memory which a recorded graph has freed.
_POISONED = 64


def _frame(side: int, family: BlurFamily, seed: int) -> Frame:
    generator = torch.Generator().manual_seed(seed)
    gamma = 0.5 * family.sample(1, generator)[0]
    covariance = 1e-4 * torch.eye(len(gamma))
    return trial_frame((side, side)), gamma, covariance, trial_noise()


def _exact(context: Context, family: BlurFamily, weights: str, frame: Frame) -> Any:
    """Return the frame that the trained network gives in float64."""
    image, gamma, covariance, noise = (
        part.to(context.device) if isinstance(part, torch.Tensor) else part
        for part in frame
    )
    network = load_pack(context.model, (weights,)).deblurring.to(context.device)
    network = copy.deepcopy(network).double().eval()
    kernels = expected_kernels(family, gamma, covariance.cpu())
    fold = network.proximal.shrink
    with torch.no_grad():
        operator = frame_operator(
            family,
            tuple(kernel.double() for kernel in kernels),
            (image.shape[0], image.shape[1]),
            fold,
        )
        return deblur_frame(
            network,
            image.double(),
            operator,
            noise.to(image.device),
            family.window,
            fold,
        )


def _error(result: torch.Tensor, exact: torch.Tensor) -> float:
    """Return the relative error, in L2 norm; NaN where the result is not finite."""
    off = (result.double() - exact.double().to(result.device)).norm()
    return float(off / exact.double().norm())


def _ready(
    context: Context, family: BlurFamily, side: int
) -> Iterator[tuple[str, Candidate | None, str]]:
    """Yield the executors that serve frames of a side; of others the reason."""
    found, _ = candidates(context.model, family, context.device)
    if context.dry:
        del found[1:]
    while found:
        # One after another: a small card lacks the memory for all of them.
        candidate = found.pop(0)
        try:
            candidate.prepare((side, side))
        except RuntimeError as error:  # out of memory, too
            yield candidate.name, None, str(error)[:200]
        else:
            yield candidate.name, candidate, ""


def exactness(context: Context) -> Iterator[Figure]:
    """Compare each executor's frame with float64, and its replays with one another.

    Static buffers and the memory that a graph uses between its kernels are filled with
    NaN first: what is read before it is written then shows.
    """
    side = min(context.sides)
    family = default_family()
    first, second = (_frame(side, family, seed) for seed in (0, 1))
    for name, candidate, why_not in _ready(context, family, side):
        if candidate is None:
            yield Figure(f"{side}², {name}", f"not here: {why_not}")
            continue
        executor, weights = candidate.executor, candidate.pack.weights
        single = executor.dtype == torch.float32
        half = not single or "float16" in name
        where, limit = f"{side}², {name}", _HALF if half else _SINGLE
        exact = [_exact(context, family, weights, frame) for frame in (first, second)]
        # By default torch computes float32 convolutions in TF32 on a card.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            executor.deblur(*first)
            poisoned = _poison(executor, (side, side))
            wanted = executor.deblur(*first)
            error = _error(wanted, exact[0])
            # Another frame, blur and noise through the same graph.
            other = _error(executor.deblur(*second), exact[1])
            differing = torch.zeros((), dtype=torch.int64, device=context.device)
            for _ in range(context.replays):
                differing += (executor.deblur(*first) != wanted).any()
        text = f"{error:.1e} ({poisoned})"
        yield Figure(f"{where}: error against float64", text, passed=error < limit)
        yield Figure(
            f"{where}: error of another frame", f"{other:.1e}", passed=other < limit
        )
        count = int(differing)
        yield Figure(
            f"{where}: replays that differ in a bit",
            f"{count} of {context.replays}",
            passed=count == 0,
        )


def _poison(executor: TorchExecutor, shape: tuple[int, int]) -> str:
    """Fill an executor's memory with NaN; return what was filled."""
    graph = getattr(executor, "_graphs", {}).get(shape)
    if graph is None:
        return "nothing kept between frames"
    filled = "static result filled with NaN"
    graph._sharp.fill_(torch.nan)
    if not graph.parts.graphs:
        return filled
    try:
        _fill_pool(graph.parts.graphs[-1], graph._sharp)
    except RuntimeError as error:
        return f"{filled}; its graph's memory could not be: {error}"[:200]
    return f"{filled}, and what its graph frees"


def _fill_pool(recorded: torch.cuda.CUDAGraph, like: torch.Tensor) -> None:
    """Fill the memory that a graph uses between its kernels with NaN.

    By a second graph that allocates from the first one's memory. Torch keeps that of
    each stream apart: it is recorded in the same one.
    """
    pool = recorded.pool()
    streams = {
        segment["stream"]
        for segment in torch.cuda.memory_snapshot()
        if segment["segment_pool_id"] == pool
    }
    if not streams:
        raise RuntimeError("torch does not list it")
    for pointer in streams:
        poison, stream = torch.cuda.CUDAGraph(), torch.cuda.ExternalStream(pointer)
        size = 4 * like.numel()
        with torch.cuda.graph(poison, pool=pool, stream=stream):
            held = [like.new_full((size,), torch.nan) for _ in range(_POISONED)]
        poison.replay()
        torch.cuda.synchronize()
        del held


class _Failing(FoldedFista):
    """Synchronises while it is recorded, which no recording survives."""

    fails = True

    def proximal(self, z: torch.Tensor, iteration: int) -> torch.Tensor:
        recording = z.is_cuda and torch.cuda.is_current_stream_capturing()
        if self.fails and recording and iteration == 1:
            torch.cuda.synchronize()
        return super().proximal(z, iteration)


def failed_capture(context: Context) -> Iterator[Figure]:
    """Let the recording of a graph fail; look at the frames and the stream after it."""
    side, device = min(context.sides), torch.device(context.device)
    pack = load_pack(context.model, ("quality",))
    family = default_family()
    executor = GraphExecutor(pack, family, device, half=False)
    executor._folded = failing = _Failing(executor._deblurring)
    plain = TorchExecutor(pack, family, device, half=False)
    frame = _frame(side, family, 0)
    wanted = plain.deblur(*frame)
    before = torch.cuda.current_stream() if not context.dry else None
    for which in ("the frame whose recording fails", "the frame after it"):
        error = _error(executor.deblur(*frame), wanted)
        # Different kernels may have been chosen, in TF32.
        yield Figure(f"{which}: error", f"{error:.1e}", passed=error < _HALF)
        if before is not None:
            kept = torch.cuda.current_stream() == before
            text = "the same" if kept else "left on another"
            yield Figure(f"torch's current stream after {which}", text, passed=kept)
    graph = executor._graph_for((side, side))
    if before is None:
        yield Figure("recording", "not on a CPU: the same steps run one by one")
        return
    failed = not graph.parts.graphs
    yield Figure("the failure's reason", graph.parts.why_not or "none", passed=failed)
    failing.fails = False
    executor._forget((side, side))
    error = _error(executor.deblur(*frame), wanted)
    recorded = bool(executor._graph_for((side, side)).parts.graphs)
    yield Figure(
        "a recording after it",
        f"{'succeeds' if recorded else 'fails'}, error {error:.1e}",
        passed=recorded and error < _HALF,
    )


def profile(context: Context) -> Iterator[Figure]:
    """Time a frame by each executor next to its floor; of the best one each kernel."""
    family = default_family()
    best: tuple[float, str, Candidate] | None = None
    side = context.sides[0]
    frame = _frame(side, family, 0)
    for name, candidate, why_not in _ready(context, family, side):
        if candidate is None:
            yield Figure(f"{side}², {name}", f"not here: {why_not}")
            continue
        network = candidate.pack.deblurring
        shape = extended_shape((side, side), family.window, network.proximal.shrink)
        least = floor.milliseconds(floor.frame(network, *shape), context)
        inputs = frame[0].to(context.device), *frame[1:]
        # Replays are launched one by one: a graph cannot be recorded in another.
        took = milliseconds(
            lambda e=candidate.executor, i=inputs: e.deblur(*i),
            context.device,
            graph=False,
        )
        yield Figure(f"{side}², {name}: frame", took, "ms", least)
        if best is None or took < best[0]:
            best = took, name, candidate
    if best is None:
        raise NotHere("no executor serves this size")
    yield from _by_kernel(best[1], best[2], inputs, context)


def _by_kernel(
    name: str, candidate: Candidate, inputs: Any, context: Context
) -> Iterator[Figure]:
    """Yield the kernels that take longest, and the sum of all."""
    repeated = 1 if context.dry else 3
    # What `torch.profiler.profile` wraps, which imports torch's compiler for seconds.
    device = None if context.dry else "cuda"
    with torch.autograd.profiler.profile(use_device=device) as profiler:
        for _ in range(repeated):
            candidate.executor.deblur(*inputs)
        if not context.dry:
            torch.cuda.synchronize()
    where = DeviceType.CPU if context.dry else DeviceType.CUDA
    key = f"self_{'cpu' if context.dry else 'device'}_time_total"
    # On a card operations of torch have the time of the kernels that they launched.
    found = [each for each in profiler.key_averages() if each.device_type == where]
    rows = sorted(((getattr(e, key), e) for e in found), key=lambda row: -row[0])
    if not rows:
        yield Figure(f"{name}: kernels of a frame", "the profiler recorded none")
        return
    total = sum(took for took, _ in rows) / repeated / 1e3
    yield Figure(f"{name}: sum of its kernels", total, "ms")
    calls = sum(each.count for _, each in rows) / repeated
    yield Figure(f"{name}: kernels of a frame", round(calls))
    for took, each in itertools.islice(rows, _KERNELS):
        what = f"{each.key[:70]}, {each.count / repeated:.0f} times"
        yield Figure(what, took / repeated / 1e3, "ms")
