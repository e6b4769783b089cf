"""Frames through the whole pipeline: how many a second, how late, what waits."""

from __future__ import annotations

import itertools
import time
import warnings
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import torch
from benchmarking.executors import candidates
from torch.utils._python_dispatch import TorchDispatchMode

from deepblur_live.drift import Gaussian, Tracker
from deepblur_live.identification import Identifier
from deepblur_live.profile import Profile
from deepblur_live.runtime.best import BestExecutor
from deepblur_live.runtime.frame import Frame, FrameState
from deepblur_live.runtime.pipeline import DeblurPipeline
from proving.stage import Context, Figure, NotHere
from proving.workload import Workload, default_family

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarking.executors import Candidate

    from deepblur_live.runtime.frame import FrameFuture

__all__ = ["alone", "beside", "synchronisations"]

_PROFILE = Profile()
# Made beforehand: noise for a large frame takes longer than deblurring it on a card.
_STREAMED, _WARM_UP, _FEWEST, _DRY = 16, 10, 50, 2
# Small against the coefficients of any blur that matters.
_KNOWN = 1e-4
_COUNTED = 20
# Operations that wait for the device.
_WAITING = ("_local_scalar_dense", "nonzero", "item", "equal")


def alone(context: Context) -> Iterator[Figure]:
    """Stream frames as fast as possible, the blur known."""
    yield from _streamed(context, identified=False)


def beside(context: Context) -> Iterator[Figure]:
    """Stream frames while the blur is identified, as often as by default."""
    yield from _streamed(context, identified=True)


def _streamed(context: Context, *, identified: bool) -> Iterator[Figure]:
    for side in context.sides:
        for candidate in _fastest(context, side):
            frames = _Frames(context, side, candidate, identified=identified)
            try:
                yield from frames.streamed()
            finally:
                frames.close()


def _fastest(context: Context, side: int) -> Iterator[Candidate]:
    """Yield the executors worth streaming: the first engines, Triton, torch's graph."""
    found, _ = candidates(context.model, default_family(), context.device)
    kinds: set[str] = set()
    for candidate in found:
        kind = candidate.name.split(" ")[0].split(",")[0]
        compiled = "compiled" in candidate.name
        if kind in kinds or compiled:
            continue
        try:
            candidate.prepare((side, side))
        except RuntimeError:
            continue  # reported by the stage that compares executors
        kinds.add(kind)
        yield candidate
        if context.dry:
            return
    if not kinds:
        raise NotHere("no executor serves this size")


class _Idle:
    """Stands in for a pipeline's estimator: always busy, never done."""

    busy = True

    def begin_frame(self) -> None:
        pass

    def end_frame(self) -> None:
        pass

    def take(self, wait: bool) -> None:
        del wait

    def cancel(self) -> None:
        pass

    def close(self) -> None:
        pass


class _Frames:
    """A pipeline that knows the blur, and frames for it.

    Parameters
    ----------
    context
        Of the stage.
    side, candidate
        Of the frames, and what deblurs them.
    identified
        Whether the blur is identified as often as by default, or never.
    """

    def __init__(
        self, context: Context, side: int, candidate: Candidate, *, identified: bool
    ) -> None:
        self._context, self._number = context, 0
        self.name = f"{side}², {candidate.name}"
        work, pack = Workload(side), candidate.pack
        count = _DRY if context.dry else _STREAMED
        self.warm_up = _DRY if context.dry else _WARM_UP
        self._pixels = itertools.cycle([work.fresh() for _ in range(count)])
        model, errors = _PROFILE.model, pack.manifest.error_model
        self._pipeline = DeblurPipeline(
            work.family,
            Identifier(
                work.family,
                errors,
                candidate.executor.identify,
                model.average_s,
                pack.specimen,
            ),
            Tracker(work.family, errors, averaging_s=model.average_s),
            BestExecutor(candidate.executor),
            _PROFILE.camera,
            model.identify_every_s,
        )
        if not identified:
            self._pipeline._identification.estimator = _Idle()
        gamma = work.coefficients.double().numpy()
        self._pipeline.start_from(Gaussian(0.0, gamma, _KNOWN * np.eye(len(gamma))))
        self.close = self._pipeline.close
        self._began = time.perf_counter()

    def submit(self) -> FrameFuture:
        """Start on the next frame."""
        self._number += 1
        now = time.perf_counter() - self._began
        if self._context.dry:
            # As fast as on a card: frames that are slow are identified each.
            now = self._number / 100
        return self._pipeline.submit(
            Frame(next(self._pixels), self._number, now, "live")
        )

    def streamed(self) -> Iterator[Figure]:
        """Submit each frame before the result of the last one is collected."""
        fewest = self.warm_up + (_DRY if self._context.dry else _FEWEST)
        intervals: list[float] = []
        latencies: list[float] = []
        raw: Counter[str] = Counter()
        identified = 0
        pending, submitted = self.submit(), time.perf_counter()
        origin = last = time.perf_counter()
        while len(intervals) < fewest or last - origin < self._context.seconds:
            begun = time.perf_counter()
            following = self.submit()
            result = pending.result()
            now = time.perf_counter()
            intervals.append((now - last) * 1e3)
            latencies.append((now - submitted) * 1e3)
            identified += result.estimate is not None
            if result.state is not FrameState.DEBLURRED:
                raw[result.reason] += 1
            last, pending, submitted = now, following, begun
        pending.result()
        kept, late = intervals[self.warm_up :], latencies[self.warm_up :]
        mean = float(np.mean(kept))
        yield Figure(f"{self.name}: frames per second", 1e3 / mean)
        for what, times in (("interval", kept), ("latency", late)):
            for share in (50, 99):
                value = float(np.percentile(times, share))
                yield Figure(f"{self.name}: {what}, p{share}", value, "ms")
        yield Figure(f"{self.name}: identifications", identified)
        # A raw frame's time means nothing.
        reasons = ", ".join(f"{count} × {why}" for why, count in raw.items())
        text = f"{len(intervals) - raw.total()} of {len(intervals)}"
        yield Figure(
            f"{self.name}: deblurred",
            f"{text}; {reasons}" if reasons else text,
            passed=raw.total() == 0,
        )


def synchronisations(context: Context) -> Iterator[Figure]:
    """Count what waits for the device in the steps of a frame, and say where."""
    side = min(context.sides)
    candidate = next(_fastest(context, side))
    frames = _Frames(context, side, candidate, identified=False)
    try:
        counted = _DRY if context.dry else _COUNTED
        for _ in range(frames.warm_up):
            frames.submit().result()
        calls: Counter[str] = Counter()

        class Counted(TorchDispatchMode):
            def __torch_dispatch__(self, function, types, args=(), kwargs=None):
                calls[function.overloadpacket.__name__] += 1
                return function(*args, **(kwargs or {}))

        with Counted():
            for _ in range(counted):
                frames.submit().result()
        total = sum(calls.values()) / counted
        yield Figure(f"{frames.name}: torch's operations a frame", round(total))
        waits = {name: calls[name] / counted for name in _WAITING if calls[name]}
        text = ", ".join(f"{n:g} × {name}" for name, n in waits.items())
        yield Figure(f"{frames.name}: operations that read back", text or "none")
        if context.dry:
            return
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                for _ in range(counted):
                    frames.submit().result()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        places = Counter(
            f"{warning.filename.rsplit('/', 1)[-1]}:{warning.lineno}"
            for warning in said
            if "synchroniz" in str(warning.message)
        )
        yield Figure(
            f"{frames.name}: synchronisations a frame", places.total() / counted
        )
        for place, count in places.most_common():
            yield Figure(f"synchronises at {place}", count / counted, "a frame")
    finally:
        frames.close()
