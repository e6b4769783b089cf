"""The listener: every frame of a core on its way through a pipeline, never in the way.

Acquire before analyse: whatever happens to the pipeline, the slots connected to the
core copy a frame and return. They never block, never raise and never grow.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import pickle
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from psygnal import Signal, SignalGroup

from deepblur_live.acquisition.core_source import CoreSource
from deepblur_live.acquisition.launch import ProcessWorker, ThreadWorker, Worker
from deepblur_live.acquisition.metadata import mda_metadata
from deepblur_live.acquisition.ring import FrameRing, Policy
from deepblur_live.acquisition.statistics import Meter, Statistics
from deepblur_live.acquisition.supervisor import Supervisor
from deepblur_live.acquisition.worker import (
    MOST_AT_ONCE,
    PipelineFactory,
    WorkerState,
)
from deepblur_live.runtime.frame import FrameResult, FrameState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from pymmcore_plus import CMMCorePlus

__all__ = ["DeblurListener", "ListenerEvents"]

_MOST_ERRORS = 64


class ListenerEvents(SignalGroup):
    """What a listener tells; emitted on its collector thread."""

    resultReady = Signal(FrameResult)
    workerStateChanged = Signal(WorkerState)
    errorRaised = Signal(str)


class DeblurListener:
    """Takes a core's frames and answers each with what a pipeline made of it.

    Start it, attach it to a core (MDA, live and snapped frames then come by
    themselves), or pass it as ``core.mda.run(..., output=listener)``, or `submit`
    frames of another source. ``captured == processed + dropped + in_flight`` holds at
    all times.

    Parameters
    ----------
    factory
        Makes the pipeline, inside the worker: a module-level function, or a
        `functools.partial` of one, so that it can be pickled.
    policy
        ``"newest"``: the worker gets the newest frame, those it was too slow for are
        dropped. ``"all"``: every frame in order; they wait for a worker that starts,
        or starts anew. Those that a worker died with are dropped, and the oldest when
        the budget is full, or the frames' size grows twice while they wait:
        `events.errorRaised` says so.
    memory_bytes
        Budget of the shared memory that frames wait in; twice as much may be held
        for the moment in which the frames' size grows.
    in_process
        Run the worker on a thread of this process, for debugging.
    poll_interval_s, stale_after_s
        Of the live tap, see `deepblur_live.acquisition.live.LiveTap`.
    restart_delays_s
        Seconds before each restart of a worker that died; their number is the most
        restarts in a row. Then frames stay raw.
    frame_timeout_s
        A worker process that has not answered a frame for so long hangs, and is
        killed.
    clock
        Monotonic seconds; times of frames count from the making of the listener.

    Raises
    ------
    TypeError
        When the factory cannot be pickled and is to run in a process.
    """

    def __init__(
        self,
        factory: PipelineFactory,
        *,
        policy: Policy = "newest",
        memory_bytes: int = 256 << 20,
        in_process: bool = False,
        poll_interval_s: float = 0.001,
        stale_after_s: float = 10.0,
        restart_delays_s: Sequence[float] = (0.5, 2.0, 8.0),
        frame_timeout_s: float = 60.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.events = ListenerEvents()
        self._clock = clock
        self._poll_interval = poll_interval_s
        self._stale_after = stale_after_s
        self._errors: deque[str] = deque(maxlen=_MOST_ERRORS)
        self._untold: deque[str] = deque(maxlen=_MOST_ERRORS)
        self._latest: FrameResult | None = None
        self._meter = Meter(clock)
        self._ring = FrameRing(
            memory_bytes,
            policy,
            max_taken=MOST_AT_ONCE,
            report=self._report,
            clock=clock,
        )
        self._supervisor = Supervisor(
            _launcher(factory, self._ring, in_process=in_process),
            self._ring,
            keep_all=policy == "all",
            deliver=self._deliver,
            report=self._report,
            on_state=lambda state: self._emit("workerStateChanged", state),
            on_tick=self._tell_errors,
            restart_delays_s=restart_delays_s,
            frame_timeout_s=frame_timeout_s,
        )
        self._started = self._closed = False
        self._source: CoreSource | None = None
        self._relay_is_double = False

    # ------------------------------------------------------------- the worker's life

    def start(self, timeout: float = 60.0) -> bool:
        """Start the worker and wait until its pipeline is made.

        Returns
        -------
        bool
            False when it could not be made (`background_errors` says why) or was not
            within `timeout` seconds; frames are then passed on raw, or wait for it
            where every frame counts.

        Raises
        ------
        RuntimeError
            When it was closed (a listener lives once), or when a script without a main
            guard starts it, which its own worker would run again.
        """
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            # The worker imports the script that started it: without a guard it would
            # run the whole acquisition a second time.
            raise RuntimeError(
                "the listener is being started while a script is imported by a worker "
                "process: put the script's code under if __name__ == '__main__':"
            )
        if self._closed:
            raise RuntimeError("this listener was closed; make a new one")
        if self._started:
            return self._supervisor.state is WorkerState.RUNNING
        self._started = True
        # A worker left running at exit would keep the interpreter waiting.
        atexit.register(self.close)
        return self._supervisor.start(timeout)

    def close(self, timeout: float = 15.0) -> None:
        """Detach, end the worker and free the memory; frames in flight are dropped."""
        if self._closed:
            return
        self._closed = True
        self.detach()
        self._supervisor.close(timeout)
        self._tell_errors()
        atexit.unregister(self.close)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def worker_pid(self) -> int | None:
        """Process id of the worker; None without one, or in process."""
        return self._supervisor.pid

    # ------------------------------------------------------------- frames in

    def submit(
        self,
        pixels: NDArray[Any],
        metadata: Mapping[str, Any] | None = None,
        source: str = "submitted",
        *,
        time: float | None = None,
        block: bool = False,
    ) -> bool:
        """Put one frame in.

        Parameters
        ----------
        pixels
            Copied before this returns.
        metadata, source
            Travel with the frame.
        time
            Seconds since the session began, of the capture; now, when not given.
        block
            Wait until there is room, so that no other frame is dropped for this one.

        Returns
        -------
        bool
            False when the frame was dropped, or the listener was closed meanwhile.

        Raises
        ------
        RuntimeError
            When asked to wait by a listener that was not started.
        """
        if block:
            if not self._started:
                raise RuntimeError("start() the listener before submit(block=True)")
            while not self._ring.wait_room(0.5, pixels):
                if self._closed:
                    return False
        return self._accept(pixels, dict(metadata or {}), source, time)

    def drain(self, timeout: float) -> bool:
        """Wait until every frame is answered and told; False after `timeout` seconds.

        Raises
        ------
        RuntimeError
            When called by a callback: it would wait for itself.
        """
        if self._supervisor.on_collector:
            raise RuntimeError("drain() was called by a callback of this listener")
        return self._ring.wait_idle(timeout)

    def _accept(
        self,
        pixels: NDArray[Any],
        metadata: Mapping[str, Any],
        source: str,
        time: float | None = None,
    ) -> bool:
        self._meter.captured()
        return self._ring.put(pixels, source=source, metadata=metadata, time=time)

    # ------------------------------------------------------------- results out

    @property
    def latest(self) -> FrameResult | None:
        """The newest result, or None before the first."""
        return self._latest

    @property
    def statistics(self) -> Statistics:
        """How things are now; the frame counts are of one moment."""
        # Reasons first: they are noted before the frame is counted as processed.
        fps_captured, fps_processed = self._meter.rates()
        median, tail = self._meter.latencies_ms()
        counts = self._ring.counts()
        return Statistics(
            counts.captured,
            counts.processed,
            counts.dropped,
            counts.in_flight,
            self._meter.camera_gaps,
            self._meter.raw_only,
            fps_captured,
            fps_processed,
            median,
            tail,
            self._supervisor.state,
        )

    @property
    def shared_bytes(self) -> int:
        """Shared memory held now."""
        return self._ring.shared_bytes

    @property
    def background_errors(self) -> list[str]:
        """What went wrong out of sight, oldest first; the last 64."""
        return list(self._errors)

    def _deliver(self, result: FrameResult, captured_at: float) -> None:
        latency_ms = (self._clock() - captured_at) * 1e3
        raw = result.state is FrameState.RAW_ONLY
        self._meter.answered(latency_ms, result.reason if raw else None)
        self._latest = result
        self._emit("resultReady", result)

    def _report(self, text: str) -> None:
        """Keep an error, from any thread; the collector tells it."""
        self._errors.append(text)
        self._untold.append(text)

    def _tell_errors(self) -> None:
        while self._untold:
            self._emit("errorRaised", self._untold.popleft())

    def _emit(self, signal: str, *args: object) -> None:
        try:
            getattr(self.events, signal).emit(*args)
        except Exception as error:
            # Not by `_report`: a callback of errorRaised that raises would be told
            # of itself for ever.
            text = f"a callback of {signal} failed: {error}"
            # One that fails at every frame must not push out what came before.
            if text not in self._errors:
                self._errors.append(text)

    # ------------------------------------------------------------- the core

    def attach(self, core: CMMCorePlus) -> None:
        """Take every frame of `core` from now on: MDA, live and snapped.

        Attaching again to the same core does nothing, to another one detaches first.
        The core is kept alive meanwhile.
        """
        if self._source is not None and self._source.core is core:
            return
        self.detach()
        self._source = CoreSource(
            core,
            self._accept,
            on_gap=self._meter.missed,
            report=self._report,
            poll_interval_s=self._poll_interval,
            stale_after_s=self._stale_after,
        )

    def detach(self) -> None:
        """Let go of the core; does nothing without one."""
        source, self._source = self._source, None
        if source is not None:
            source.close()

    @contextlib.contextmanager
    def attached(self, core: CMMCorePlus) -> Iterator[Self]:
        """Attach for the time of a ``with`` block."""
        self.attach(core)
        try:
            yield self
        finally:
            self.detach()

    # ------------------------------------------------------------- as an MDA output

    def sequenceStarted(self, sequence: object = None, *_: object) -> None:
        """Slot of that name, for ``mda.run(output=listener)``."""
        source = self._source
        self._relay_is_double = source is not None and source.sequence is sequence

    def frameReady(
        self, image: Any, event: object = None, metadata: object = None
    ) -> None:
        """Slot of that name; a run that the attached core tells of counts once."""
        if self._relay_is_double:
            return
        try:
            self._accept(image, mda_metadata(event, metadata), "mda")
        except Exception as error:
            self._report(f"a frame of the MDA was lost: {error!r}")

    def sequenceCanceled(self, *_: object) -> None:
        """Slot of that name; nothing is left to do, frames in flight are answered."""

    def sequenceFinished(self, *_: object) -> None:
        """Slot of that name."""
        self._relay_is_double = False


def _launcher(
    factory: PipelineFactory, ring: FrameRing, *, in_process: bool
) -> Callable[[], Worker]:
    if in_process:
        return lambda: ThreadWorker(factory, ring.buffer)
    try:
        pickled = pickle.dumps(factory)
    except Exception as error:
        raise TypeError(
            f"{factory!r} cannot be sent to the worker process ({error}); give a "
            "module-level function or a functools.partial of one, or in_process=True"
        ) from error
    return lambda: ProcessWorker(pickled)
