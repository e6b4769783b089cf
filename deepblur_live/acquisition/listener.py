"""The listener: takes every frame of a core and delivers each with its result.

Acquisition comes first: whatever happens to the pipeline, the slots connected to the
core copy a frame and return. They never block, never raise, and use bounded memory.
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

from deepblur_live.acquisition.backlog import Backlog
from deepblur_live.acquisition.core_source import CoreSource
from deepblur_live.acquisition.launch import ProcessWorker, ThreadWorker, Worker
from deepblur_live.acquisition.metadata import mda_metadata
from deepblur_live.acquisition.ring import FrameRing, Policy
from deepblur_live.acquisition.statistics import Meter, Statistics
from deepblur_live.acquisition.supervisor import Supervisor
from deepblur_live.acquisition.worker import (
    MAX_AT_WORKER,
    PipelineFactory,
    WorkerState,
)
from deepblur_live.runtime.frame import FrameResult, FrameState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from pymmcore_plus import CMMCorePlus

    from deepblur_live.drift import Gaussian
    from deepblur_live.runtime.series_key import SeriesKey

__all__ = ["DeblurListener", "ListenerEvents"]

_MAX_ERRORS = 64


class ListenerEvents(SignalGroup):
    """The signals of a listener; emitted on its collector thread."""

    resultReady = Signal(FrameResult)
    workerStateChanged = Signal(WorkerState)
    errorRaised = Signal(str)


class DeblurListener:
    """Takes a core's frames and delivers each with the result of a pipeline.

    Start it and attach it to a core, whose MDA, live and snapped frames it then
    receives; or pass it as ``core.mda.run(..., output=listener)``; or `submit` frames
    of another source. ``captured == processed + dropped + in_flight`` holds at all
    times.

    Parameters
    ----------
    factory
        Makes the pipeline, inside the worker: a module-level function, or a
        `functools.partial` of one, so that it can be pickled.
    policy
        ``"newest"``: the worker gets the newest frame; frames that it has no time for
        are dropped. ``"all"``: every frame in order; they wait while a worker starts
        or restarts. Frames at a worker that dies are dropped, and so are the oldest
        when the budget is full, or the frames' size grows twice while they wait;
        `events.errorRaised` reports it.
    memory_bytes
        Budget of the shared memory that frames wait in; up to twice as much is used
        for a moment when the frames' size grows.
    in_process
        Whether the worker runs on a thread of this process, for debugging.
    restart_delays_s
        Seconds before each restart of a worker that died; their number is the maximum
        number of restarts in a row. After that, frames stay raw.
    frame_timeout_s
        A worker process that takes longer for a frame is considered hung and killed.
    clock
        Monotonic seconds; times of frames count from the creation of the listener.

    Raises
    ------
    TypeError
        When the factory cannot be pickled, unless `in_process`.
    """

    def __init__(
        self,
        factory: PipelineFactory,
        *,
        policy: Policy = "newest",
        memory_bytes: int = 256 << 20,
        in_process: bool = False,
        restart_delays_s: Sequence[float] = (0.5, 2.0, 8.0),
        frame_timeout_s: float = 60.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.events = ListenerEvents()
        self._clock = clock
        self._errors: deque[str] = deque(maxlen=_MAX_ERRORS)
        self._unreported: deque[str] = deque(maxlen=_MAX_ERRORS)
        self._latest: FrameResult | None = None
        self._meter = Meter(clock)
        self._ring = FrameRing(
            memory_bytes,
            policy,
            max_taken=MAX_AT_WORKER,
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
            on_tick=self._report_errors,
            restart_delays_s=restart_delays_s,
            frame_timeout_s=frame_timeout_s,
        )
        self._started = self._closed = False
        self._source: CoreSource | None = None
        self._keeps_all = policy == "all"
        # One for each period in which every frame was processed; the last may be open.
        self._backlogs: list[Backlog] = []
        self._also_attached = False

    # ------------------------------------------------------------- the worker's life

    def start(self, timeout: float = 60.0) -> bool:
        """Start the worker and wait until its pipeline is ready.

        Returns
        -------
        bool
            False when that failed (`background_errors` says why) or took longer than
            `timeout` seconds; frames are then passed on raw or, if every frame is
            processed, wait.

        Raises
        ------
        RuntimeError
            When it was closed (a listener is started once), or when the worker imports
            a script without a main guard that would start it again.
        """
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            # The worker imports the script that started it: without a main guard, it
            # would run the whole acquisition a second time.
            raise RuntimeError(
                "a worker process imports the script that starts this listener: put "
                "its code under if __name__ == '__main__':"
            )
        if self._closed:
            raise RuntimeError("this listener was closed; make a new one")
        if self._started:
            return self._supervisor.state is WorkerState.RUNNING
        self._started = True
        # The interpreter would wait at exit for a worker that still runs.
        atexit.register(self.close)
        return self._supervisor.start(timeout)

    def close(self, timeout: float = 15.0) -> None:
        """Detach, end the worker and free the memory; frames in flight are dropped."""
        if self._closed:
            return
        self._closed = True
        self.detach()
        for backlog in self._backlogs:
            backlog.close()
        self._supervisor.close(timeout)
        self._report_errors()
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

    @property
    def time(self) -> float:
        """The time of a frame captured now: seconds since the listener was made."""
        return self._ring.time

    def start_from(
        self,
        known: Gaussian,
        walk: NDArray[np.float64] | None = None,
        series: SeriesKey | None = None,
    ) -> None:
        """Have the worker continue from coefficients measured by other means.

        For example by a focus sweep. They hold from the first frame that is captured
        at ``known.time`` or later, and for workers that are started again, until
        `forget_known`.

        Parameters
        ----------
        known
            The coefficients, their covariance and their time.
        walk
            Covariance (P, P) of their drift in one second, by which their uncertainty
            grows until a worker gets them; None for no drift.
        series
            The channel, position and plane that they belong to; None for frames outside
            an MDA.
        """
        self._supervisor.start_from(known, walk, series)

    def forget_known(self) -> None:
        """Send no known coefficients to the worker, if it does not have them yet.

        Nor to one that is started again.
        """
        self._supervisor.forget_known()

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
            Time of the capture, in seconds since the session began; by default now.
        block
            Whether to wait until there is room, so that no other frame is dropped.

        Returns
        -------
        bool
            False when the frame was dropped, or the listener closed meanwhile.

        Raises
        ------
        RuntimeError
            When `block` is given before the listener was started.
        """
        if block:
            if not self._started:
                raise RuntimeError("start() the listener before submit(block=True)")
            while not self._ring.wait_room(0.5, pixels):
                if self._closed:
                    return False
        return self._accept(pixels, dict(metadata or {}), source, time)

    def drain(self, timeout: float) -> bool:
        """Wait until every result is delivered; False after `timeout` seconds.

        Raises
        ------
        RuntimeError
            When called from a callback: it would wait for itself.
        """
        if self._supervisor.on_collector:
            raise RuntimeError("drain() was called from a callback of this listener")
        deadline = self._clock() + timeout
        while (left := deadline - self._clock()) > 0:
            if self.statistics.waiting:
                time.sleep(min(left, 0.01))
            elif self._ring.wait_idle(left):
                return True
        return self.statistics.in_flight == 0

    def process_every_frame(self, on: bool, folder: Path | None = None) -> None:
        """Process every frame from now on, or the newest again.

        While frames come faster than they are processed they wait, in a temporary file
        if necessary; those still waiting when this is switched off are dropped. A
        listener with the policy ``"all"`` does so already, within its memory.

        Parameters
        ----------
        on
            Whether to process every frame.
        folder
            Folder of the temporary file; None for the system's.

        Raises
        ------
        OSError
            The temporary file cannot be created.
        """
        if self._keeps_all or self._closed or on == self.processes_every_frame:
            return
        if on:
            self._backlogs.append(Backlog(self._ring, folder, self._report))
        self._supervisor.keep_all = on
        if not on:
            self._backlogs[-1].close()

    @property
    def processes_every_frame(self) -> bool:
        """Whether every frame is processed, instead of the newest."""
        return self._supervisor.keep_all

    def _accept(
        self,
        pixels: NDArray[Any],
        metadata: Mapping[str, Any],
        source: str,
        time: float | None = None,
    ) -> bool:
        self._meter.captured()
        if self.processes_every_frame and not self._keeps_all:
            if time is None:
                time = self._ring.time
            return self._backlogs[-1].put(
                pixels,
                source=source,
                metadata=metadata,
                time=time,
                captured_at=self._clock(),
            )
        return self._ring.put(pixels, source=source, metadata=metadata, time=time)

    # ------------------------------------------------------------- results out

    @property
    def latest(self) -> FrameResult | None:
        """The newest result, or None before the first."""
        return self._latest

    @property
    def statistics(self) -> Statistics:
        """Counts, rates and latencies now."""
        before = [backlog.counts for backlog in self._backlogs]
        waiting = sum(counts[0] for counts in before)
        lost = sum(counts[1] for counts in before)
        return self._meter.statistics(self._ring, self._supervisor.state, waiting, lost)

    @property
    def shared_bytes(self) -> int:
        """Shared memory in use, in bytes."""
        return self._ring.shared_bytes

    @property
    def background_errors(self) -> list[str]:
        """The last 64 errors of the background threads, oldest first."""
        return list(self._errors)

    def _deliver(self, result: FrameResult, captured_at: float) -> None:
        latency_ms = (self._clock() - captured_at) * 1e3
        raw = result.state is FrameState.RAW_ONLY
        self._meter.delivered(latency_ms, result.reason if raw else None)
        self._latest = result
        self._emit("resultReady", result)

    def _report(self, text: str) -> None:
        """Keep an error, from any thread; the collector emits it."""
        self._errors.append(text)
        self._unreported.append(text)

    def _report_errors(self) -> None:
        while self._unreported:
            self._emit("errorRaised", self._unreported.popleft())

    def _emit(self, signal: str, *args: object) -> None:
        try:
            getattr(self.events, signal).emit(*args)
        except Exception as error:
            # Not by `_report`: a callback of errorRaised that raises would be called
            # again and again.
            text = f"a callback of {signal} failed: {error}"
            # A callback that fails at every frame must not displace other errors.
            if text not in self._errors:
                self._errors.append(text)

    # ------------------------------------------------------------- the core

    def attach(self, core: CMMCorePlus) -> None:
        """Receive every frame of `core` from now on: MDA, live and snapped.

        Attaching again to the same core does nothing, to another one detaches first.
        The core is held weakly: keep it, as pymmcore-plus itself does not. Does nothing
        after `close`.
        """
        if self._closed:
            return
        if self._source is not None and self._source.core is core:
            return
        self.detach()
        self._source = CoreSource(
            core,
            self._accept,
            on_missed=self._meter.missed,
            every=lambda: self.processes_every_frame,
            report=self._report,
        )

    @property
    def live_mode(self) -> bool:
        """Whether the attached core was last started in live mode.

        Not in a sequence with a number of images. False without a core, and for what
        was started before it was attached.
        """
        source = self._source
        return source is not None and source.live_mode

    def detach(self) -> None:
        """Stop receiving frames of the core; does nothing without one."""
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
        self._also_attached = source is not None and source.sequence is sequence

    def frameReady(
        self, image: Any, event: object = None, metadata: object = None
    ) -> None:
        """Slot of that name; ignored while the attached core sends the same frames."""
        if self._also_attached:
            return
        try:
            self._accept(image, mda_metadata(event, metadata), "mda")
        except Exception as error:
            self._report(f"a frame of the MDA was lost: {error!r}")

    def sequenceFinished(self, *_: object) -> None:
        """Slot of that name."""
        self._also_attached = False


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
