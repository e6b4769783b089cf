"""What is timed: each stage by itself, the whole frame, transfers, and the peer."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.fft import set_workers
from skimage.restoration import richardson_lucy

from benchmarking.floor import (
    floor_ms,
    frame_costs,
    gradient_costs,
    network_costs,
    proximal_costs,
)
from benchmarking.workload import SIGMA
from deepblur_live.deblurring import UnrolledFista
from deepblur_live.drift import Tracker
from deepblur_live.identification import INPUT_SHAPE, Identifier
from deepblur_live.optics import Convolution, extend, margin
from deepblur_live.profile import Camera, Model
from deepblur_live.runtime import DeblurPipeline, Frame, FrameResult, FrameState
from deepblur_live.runtime.calibration import scale
from deepblur_live.runtime.engines import whole_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from benchmarking.clock import Clock, Timing
    from benchmarking.executors import Candidate
    from benchmarking.floor import Cost, Peaks
    from benchmarking.workload import Workload
    from deepblur_live.optics import ZernikeFamily
    from deepblur_live.runtime.frame import UnderWay

__all__ = [
    "DEBLUR",
    "LIVE",
    "PEER",
    "PEER_SINGLE",
    "PEER_THREADS",
    "Clocks",
    "LiveFrames",
    "Row",
    "deblurring_floor_ms",
    "executor_rows",
    "shared_rows",
]

LIVE = "frame, live: scaled, identified when due, deblurred"
DEBLUR = "deblurring: all iterations"
PEER = "Richardson–Lucy, 20 iterations, double precision"
PEER_SINGLE = "Richardson–Lucy, 20 iterations, single precision"
PEER_THREADS = "Richardson–Lucy, 20 iterations, double precision, FFTs on all threads"
# The tracker may want more than one estimate before it deblurs.
_FIRST_FRAMES = 6


@dataclass(frozen=True)
class Clocks:
    """A clock for what takes the same time whenever it runs, and a patient one.

    Every ten seconds an identification looks among other blurs again, and takes five
    times as long; the first of all takes longest.
    """

    short: Clock
    long: Clock


@dataclass(frozen=True)
class Row:
    """One stage's times.

    Parameters
    ----------
    stage, side, executor
        What, on frames of which side in pixels, run by what.
    timing
        Of one frame.
    floor_ms
        The counted floor, where there is one.
    """

    stage: str
    side: int
    executor: str
    timing: Timing
    floor_ms: float | None = None


def shared_rows(
    work: Workload, family: ZernikeFamily, candidate: Candidate, clocks: Clocks
) -> Iterator[Row]:
    """Time what every executor has in common: the spectrum, transfers to a card."""
    identifier = Identifier(
        family, candidate.executor.identify, specimen=candidate.pack.specimen
    )
    start = work.coefficients.double().numpy()
    seconds = itertools.count()
    image = work.image

    def fresh() -> None:
        nonlocal image
        image = scale(work.fresh()).image

    def identify() -> None:
        identifier.observe(image, float(next(seconds)))
        identifier.estimate(image, start)

    name = "identification: spectrum and fit, warm-started"
    timing = clocks.long.time(identify, fresh)
    yield Row(name, work.side, "the processor", timing)
    clock = clocks.short
    if clock.device.type == "cuda":
        there = torch.from_numpy(work.fresh()).pin_memory()
        card = there.to(clock.device)
        # Deblurred frames are float32.
        sharp = card.float()
        back = torch.empty(sharp.shape).pin_memory()
        up = clock.time(lambda: card.copy_(there, non_blocking=True))
        down = clock.time(lambda: back.copy_(sharp, non_blocking=True))
        yield Row("transfer: upload, uint16", work.side, "pinned memory", up)
        yield Row("transfer: download, float32", work.side, "pinned memory", down)


def executor_rows(
    work: Workload,
    family: ZernikeFamily,
    candidate: Candidate,
    clocks: Clocks,
    peaks: Peaks,
) -> Iterator[Row]:
    """Time one executor: its stages one by one where it has them, then the frame.

    On a machine without a card the peer takes turns with the deblurring.
    """
    executor, network = candidate.executor, candidate.pack.deblurring
    clock = clocks.short

    def row(stage: str, run: Callable[[], object], costs: list[Cost] | None) -> Row:
        floor = None if costs is None else floor_ms(costs, peaks)
        return Row(stage, work.side, candidate.name, clock.time(run), floor)

    inputs = torch.randn(1, 2, *INPUT_SHAPE)
    yield row(
        "identification: network, one spectrum",
        lambda: executor.identify(inputs),
        network_costs(candidate.pack.identification, inputs.shape, candidate.answers),
    )
    if isinstance(network, UnrolledFista) and candidate.stages is not None:
        whole, operator = _continued(work, candidate)
        folded = candidate.stages(operator.shape)
        folded.fold(SIGMA)
        right_side = operator.right_side(whole)
        yield row(
            "deblurring: one gradient step",
            torch.no_grad()(lambda: operator.gradient_step(whole, right_side, 1.0)),
            gradient_costs(operator.shape),
        )
        yield row(
            "deblurring: proximal network, once",
            lambda: folded.proximal(whole, 0),
            proximal_costs(network.proximal, operator.shape, candidate.dtype),
        )
    works: dict[str, Callable[[], object]] = {
        DEBLUR: lambda: executor.deblur(work.image, work.coefficients, SIGMA)
    }
    if executor.device.type == "cpu":
        image, psf = work.image.clamp(min=0).numpy(), work.psf.numpy()
        double = image.astype(np.float64), psf.astype(np.float64)
        # As a user calls it: of uint16 frames in double precision, FFTs on one thread.
        works[PEER] = _peer(*double)
        works[PEER_SINGLE] = _peer(image, psf)
        if torch.get_num_threads() > 1:
            works[PEER_THREADS] = _peer(*double, torch.get_num_threads())
    for stage, timing in clock.together(works).items():
        if stage == DEBLUR:
            floor = deblurring_floor_ms(work, candidate, peaks)
            yield Row(stage, work.side, candidate.name, timing, floor)
        else:
            yield Row(stage, work.side, "scikit-image, told the PSF", timing)
    live = LiveFrames(work, family, candidate)
    try:
        one_by_one = _OneByOne(live, work)
        timing = clocks.long.time(one_by_one.process, one_by_one.expose)
    finally:
        live.close()
    yield Row(LIVE, work.side, candidate.name, timing)


def deblurring_floor_ms(
    work: Workload, candidate: Candidate, peaks: Peaks
) -> float | None:
    """Return the counted floor of deblurring a frame; None of an uncounted network."""
    network = candidate.pack.deblurring
    if not isinstance(network, UnrolledFista):
        return None
    side, window = work.side, work.psf.shape[-1]
    shape = whole_shape((side, side), window, network.proximal.shrink)
    return floor_ms(frame_costs(network, shape, candidate.dtype), peaks)


def _continued(
    work: Workload, candidate: Candidate
) -> tuple[torch.Tensor, Convolution]:
    """Return the image (1, H, W) continued over its border, and its operator."""
    device = candidate.executor.device
    fold = candidate.pack.deblurring.proximal.shrink
    psf = work.psf.to(device)[None]
    whole = extend(work.image.to(device)[None], margin(psf.shape[-1]), fold)
    return whole, Convolution(psf, (whole.shape[-2], whole.shape[-1]))


def _peer(
    image: NDArray[np.floating], psf: NDArray[np.floating], workers: int = 1
) -> Callable[[], object]:
    def run() -> None:
        with set_workers(workers):
            richardson_lucy(image, psf, 20, clip=False)

    return run


class LiveFrames:
    """A pipeline that has begun; its clock is told with each frame.

    A frame is uint16 in and deblurred grey values out.

    Parameters
    ----------
    work, family, candidate
        What is deblurred, and by what.
    """

    def __init__(
        self, work: Workload, family: ZernikeFamily, candidate: Candidate
    ) -> None:
        executor, settings = candidate.executor, Model()
        self._work, self._number = work, 0
        self._pipeline = DeblurPipeline(
            family,
            Identifier(
                family,
                executor.identify,
                settings.average_s,
                candidate.pack.specimen,
            ),
            Tracker(family, averaging_s=settings.average_s),
            executor,
            Camera(),
            settings.identify_every_s,
        )
        for _ in range(_FIRST_FRAMES):
            self.begin(work.fresh(), 0.0).finish()

    def begin(self, pixels: NDArray[np.uint16], seconds: float) -> UnderWay:
        """Begin with the next frame, of a time."""
        self._number += 1
        return self._pipeline.begin(Frame(pixels, self._number, seconds))

    def check(self, result: FrameResult) -> None:
        """See that a frame has been deblurred.

        Raises
        ------
        RuntimeError
            When it comes back raw: its time would mean nothing.
        """
        if result.state is not FrameState.DEBLURRED:
            raise RuntimeError(
                f"a frame of {self._work.side}² came back raw: {result.reason}"
            )

    def close(self) -> None:
        """End what goes on beside the frames."""
        self._pipeline.close()


class _OneByOne:
    """Live frames, each finished before the next is begun.

    Its clock is that of this work alone, so that a frame is identified as often as in
    `Model.identify_every_s`, whatever goes on between two frames.
    """

    def __init__(self, live: LiveFrames, work: Workload) -> None:
        self._live, self._work, self._spent = live, work, 0.0
        self.expose()

    def expose(self) -> None:
        """Make the next frame."""
        self._pixels = self._work.fresh()

    def process(self) -> None:
        """Put it through."""
        began = time.perf_counter()
        result = self._live.begin(self._pixels, self._spent).finish()
        self._spent += time.perf_counter() - began
        self._live.check(result)
