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

from benchmarking.clock import Clock, Timing
from benchmarking.workload import SIGMA
from deepblur_live.drift import Tracker
from deepblur_live.identification import INPUT_SHAPE, Identifier
from deepblur_live.optics import NoiseModel, extend, margin, otf
from deepblur_live.profile import Profile
from deepblur_live.runtime.best import BestExecutor
from deepblur_live.runtime.calibration import scale
from deepblur_live.runtime.frame import Frame, FrameResult, FrameState
from deepblur_live.runtime.pipeline import DeblurPipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from benchmarking.executors import Candidate
    from benchmarking.workload import Workload
    from deepblur_live.blur import BlurFamily
    from deepblur_live.runtime.frame import FrameFuture

__all__ = [
    "DEBLUR",
    "HOST",
    "LATENCY",
    "LIVE",
    "PEERS",
    "STREAM",
    "Row",
    "executor_rows",
    "shared_rows",
    "stream_rows",
]

LIVE = "frame, live: scaled, identified when due, deblurred"
STREAM = "frames, live, overlapping: interval"
LATENCY = "frames, live, overlapping: latency"
HOST = "frames, live, overlapping: host, until a frame is queued"
DEBLUR = "deblurring: all iterations"
PEERS = tuple(
    f"Richardson–Lucy, 20 iterations, {how}"
    for how in (
        "double precision",
        "single precision",
        "double precision, FFTs on all threads",
        "single precision, by torch on all threads",
    )
)
# The tracker may need more than one estimate before it deblurs.
_FIRST_FRAMES = 6
_WARM_UP, _FEWEST = 10, 50
# Keeps the ratio of Richardson–Lucy finite where the estimate is dark.
_DARK = 1e-6
# Made beforehand: noise for a large frame takes longer than deblurring it on a card.
_STREAMED = 16
_PROFILE = Profile()


@dataclass(frozen=True)
class Row:
    """One stage's times.

    Parameters
    ----------
    stage, side, executor
        What was timed, on frames of which side in pixels, and what ran it.
    timing
        Of one frame.
    """

    stage: str
    side: int
    executor: str
    timing: Timing


def _identifier(family: BlurFamily, candidate: Candidate) -> Identifier:
    pack = candidate.pack
    return Identifier(
        family,
        pack.manifest.error_model,
        candidate.executor.identify,
        _PROFILE.model.average_s,
        pack.specimen,
    )


def shared_rows(
    work: Workload, family: BlurFamily, candidate: Candidate, clock: Clock, long: Clock
) -> Iterator[Row]:
    """Time what every executor has in common: the spectrum, transfers to a card."""
    identifier = _identifier(family, candidate)
    start = work.coefficients.double().numpy()
    seconds = itertools.count()
    image = work.image

    def fresh() -> None:
        nonlocal image
        image = scale(work.fresh(), cutoff=family.cutoff).image

    def identify() -> None:
        identifier.observe(image, float(next(seconds)))
        identifier.estimate(image, start)

    name = "identification: spectrum and fit, warm-started"
    yield Row(name, work.side, "the CPU", long.time(identify, fresh))
    if clock.device.type == "cuda":
        pinned = torch.from_numpy(work.fresh()).pin_memory()
        on_card = pinned.to(clock.device)
        # Deblurred frames are float32.
        sharp = on_card.float()
        result = torch.empty(sharp.shape).pin_memory()
        up = clock.time(lambda: on_card.copy_(pinned, non_blocking=True))
        down = clock.time(lambda: result.copy_(sharp, non_blocking=True))
        yield Row("transfer: upload, uint16", work.side, "pinned memory", up)
        yield Row("transfer: download, float32", work.side, "pinned memory", down)


def executor_rows(
    work: Workload, family: BlurFamily, candidate: Candidate, clock: Clock, long: Clock
) -> Iterator[Row]:
    """Time one executor: each of its stages, then the frame.

    On a machine without a card, peer and deblurring are timed in turn.
    """
    executor, gamma = candidate.executor, work.coefficients
    white = NoiseModel.white(SIGMA)

    def row(stage: str, run: Callable[[], object]) -> Row:
        return Row(stage, work.side, candidate.name, clock.time(run))

    inputs = torch.randn(1, 2, *INPUT_SHAPE)
    yield row(
        "identification: network, one spectrum", lambda: executor.identify(inputs)
    )
    if candidate.stages is not None:
        fold = candidate.pack.deblurring.proximal.shrink
        image = work.image.to(executor.device)[None]
        extended = extend(image, margin(family.window), fold)
        shape = (extended.shape[-2], extended.shape[-1])
        operator = family.operator(gamma.to(executor.device)[None], shape)
        prepared = operator.prepare(extended)
        folded = candidate.stages(shape)
        noise = white.to(executor.device)
        folded.prepare(extended, noise.map(extended))
        yield row(
            "deblurring: one gradient step",
            torch.no_grad()(lambda: operator.gradient_step(extended, prepared, 1.0)),
        )
        yield row(
            "deblurring: proximal network, once", lambda: folded.proximal(extended, 0)
        )
    known = torch.zeros(len(gamma), len(gamma))
    works = {DEBLUR: lambda: executor.deblur(work.image, gamma, known, white)}
    if executor.device.type == "cpu":
        works |= _peers(work)
    for stage, timing in clock.interleaved(works).items():
        by = candidate.name if stage == DEBLUR else "given the PSF"
        yield Row(stage, work.side, by, timing)
    live = _LiveFrames(work, family, candidate)
    try:
        timing = long.time(live.process, live.expose)
    finally:
        live.close()
    yield Row(LIVE, work.side, candidate.name, timing)


def _peers(work: Workload) -> dict[str, Callable[[], object]]:
    """Return scikit-image's method, as a user calls it and in other ways, and ours.

    uint16 frames are computed in double precision, with FFTs on one thread. Ours has
    the least work that the method allows: four real FFTs in an iteration.
    """

    def peer(dtype: type[np.floating], workers: int = 1) -> Callable[[], object]:
        image = work.image.clamp(min=0).numpy().astype(dtype)
        psf = work.psf.numpy().astype(dtype)

        def run() -> None:
            with set_workers(workers):
                richardson_lucy(image, psf, 20, clip=False)

        return run

    threads = torch.get_num_threads()
    twice, once, twice_threaded, by_torch = PEERS
    peers = {twice: peer(np.float64), once: peer(np.float32)}
    if threads > 1:
        peers[twice_threaded] = peer(np.float64, threads)
    return peers | {by_torch: lambda: _richardson_lucy(work.image, work.psf)}


@torch.no_grad()
def _richardson_lucy(
    image: torch.Tensor, psf: torch.Tensor, iterations: int = 20
) -> torch.Tensor:
    """Return the estimate (H, W) from a frame, continued as for our network."""
    y = extend(image, margin(psf.shape[-1])).clamp_(min=0)
    shape = (y.shape[0], y.shape[1])
    transfer = otf(psf, shape)
    turned = transfer.conj().resolve_conj()
    x = torch.full_like(y, float(y.mean()))
    for _ in range(iterations):
        blurred = torch.fft.irfft2(torch.fft.rfft2(x).mul_(transfer), s=shape)
        ratio = torch.div(y, blurred.clamp_(min=_DARK), out=blurred)
        factor = torch.fft.irfft2(torch.fft.rfft2(ratio).mul_(turned), s=shape)
        x.mul_(factor.clamp_(min=0))
    return x


def stream_rows(
    work: Workload, family: BlurFamily, candidate: Candidate, seconds: float
) -> Iterator[Row]:
    """Time uint16 frames as fast as possible: scaled, identified when due, deblurred.

    As in the worker, each is submitted before the result of the last one is collected.
    """
    live = _LiveFrames(work, family, candidate)
    pixels = itertools.cycle([work.fresh() for _ in range(_STREAMED)])
    intervals: list[float] = []
    latencies: list[float] = []
    hosts: list[float] = []
    origin = last = began = time.perf_counter()
    pending = None
    try:
        while len(intervals) < _WARM_UP + _FEWEST or last - origin < seconds:
            submitted = time.perf_counter()
            future = live.submit(next(pixels), submitted - origin)
            hosts.append((time.perf_counter() - submitted) * 1e3)
            if pending is not None:
                live.check(pending.result())
                now = time.perf_counter()
                intervals.append((now - last) * 1e3)
                latencies.append((now - began) * 1e3)
                last = now
            pending, began = future, submitted
        live.check(future.result())
    finally:
        live.close()
    stages = ((STREAM, intervals), (LATENCY, latencies), (HOST, hosts))
    for stage, times in stages:
        timing = Timing(tuple(times[_WARM_UP:]))
        yield Row(stage, work.side, candidate.name, timing)


class _LiveFrames:
    """A pipeline that has started, uint16 in and deblurred grey values out.

    Parameters
    ----------
    work, family, candidate
        What is deblurred, and by what.
    """

    def __init__(
        self, work: Workload, family: BlurFamily, candidate: Candidate
    ) -> None:
        model, errors = _PROFILE.model, candidate.pack.manifest.error_model
        self._work, self._number, self._spent = work, 0, 0.0
        self._pipeline = DeblurPipeline(
            family,
            _identifier(family, candidate),
            Tracker(family, errors, averaging_s=model.average_s),
            BestExecutor(candidate.executor),
            _PROFILE.camera,
            model.identify_every_s,
        )
        self.close = self._pipeline.close
        for _ in range(_FIRST_FRAMES):
            self.submit(work.fresh(), 0.0).result()
        self.expose()

    def submit(self, pixels: NDArray[np.uint16], seconds: float) -> FrameFuture:
        """Start on the next frame, taken at a time."""
        self._number += 1
        return self._pipeline.submit(Frame(pixels, self._number, seconds, "live"))

    def check(self, result: FrameResult) -> None:
        """Check that a frame has been deblurred.

        Raises
        ------
        RuntimeError
            When it comes back raw: its time would mean nothing.
        """
        if result.state is not FrameState.DEBLURRED:
            raise RuntimeError(
                f"a frame of {self._work.side}² came back raw: {result.reason}"
            )

    def expose(self) -> None:
        """Make the next frame."""
        self._pixels = self._work.fresh()

    def process(self) -> None:
        """Process one frame to its end.

        The frames' clock counts this time alone, so that they are identified as often
        as in `Model.identify_every_s`, whatever happens between two frames.
        """
        began = time.perf_counter()
        result = self.submit(self._pixels, self._spent).result()
        self._spent += time.perf_counter() - began
        self.check(result)
