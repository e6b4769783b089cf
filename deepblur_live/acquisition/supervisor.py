"""Keeps a worker alive, feeds it frames, and delivers the results one by one.

Two threads: the feeder passes frames from the ring to the worker; the collector starts
and ends the worker, and delivers the results. While there is no worker the collector
delivers the newest frames raw, so that the window keeps up; where every frame counts
they wait for the worker's restart instead.
"""

from __future__ import annotations

import pickle
import threading
import time
from collections import deque
from dataclasses import replace
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from deepblur_live.acquisition.restarts import RestartPlan
from deepblur_live.acquisition.worker import (
    MAX_AT_WORKER,
    Failed,
    Ready,
    Reply,
    Task,
    WorkerState,
)
from deepblur_live.drift import Gaussian
from deepblur_live.runtime.frame import FrameInfo, FrameResult, FrameState, Outcome
from deepblur_live.runtime.series_key import SeriesKey, series_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from deepblur_live.acquisition.block import SlotLease
    from deepblur_live.acquisition.launch import Worker
    from deepblur_live.acquisition.ring import FrameRing

__all__ = ["Supervisor"]

_FAST_MS = 20.0
"""A worker faster than this always has one more frame waiting, which ages less than
that; a slower one gets its next frame, the newest, only when it can start on it."""
_TICK_S = 0.1
_MAX_REASONS = 64
_WITHOUT_OVERLAP = MAX_AT_WORKER - 1


class Supervisor:
    """Owns the worker and the two threads around it.

    Parameters
    ----------
    launch
        Starts a worker; may raise.
    ring
        Where frames come from.
    keep_all
        Whether every frame counts: the worker then always has a frame waiting. It may
        be set later, too.
    deliver
        Called on the collector thread with each result and the time of its capture.
        Exceptions are reported.
    report
        Called from any thread with a description of what went wrong.
    on_state
        Called on the collector thread when the worker's state changed.
    on_tick
        Called on the collector thread at least every 0.1 s while it is idle.
    restart_delays_s
        As in `deepblur_live.acquisition.restarts.RestartPlan`.
    frame_timeout_s
        A worker process that takes longer for a frame is considered hung and killed.
    """

    def __init__(
        self,
        launch: Callable[[], Worker],
        ring: FrameRing,
        *,
        keep_all: bool,
        deliver: Callable[[FrameResult, float], None],
        report: Callable[[str], None],
        on_state: Callable[[WorkerState], None],
        on_tick: Callable[[], None],
        restart_delays_s: Sequence[float],
        frame_timeout_s: float,
    ) -> None:
        self._launch_worker = launch
        self._ring = ring
        self.keep_all = keep_all
        self._deliver = deliver
        self._report = report
        self._on_state = on_state
        self._on_tick = on_tick
        self._plan = RestartPlan(restart_delays_s)
        # Whether a worker runs, starts, or will be restarted.
        self._awaited = True
        self._frame_timeout = frame_timeout_s

        # Guards the worker, its state and the frames at it; held for microseconds.
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._state = WorkerState.STOPPED
        self._at_worker: deque[tuple[SlotLease, float]] = deque()
        # Leases taken for a worker that has since died; the collector delivers them
        # raw.
        self._stranded: deque[SlotLease] = deque()
        # The blur and its drift per second that workers start from in each series; and
        # the series for which the present worker has it.
        self._known: dict[SeriesKey, tuple[Gaussian, NDArray[np.float64] | None]] = {}
        self._known_sent: set[SeriesKey] = set()

        self._running = threading.Event()
        self._settled = threading.Event()
        self._stopping = threading.Event()
        self._busy_ms, self._max_at_worker = 0.0, _WITHOUT_OVERLAP
        self._reasons: set[str] = set()
        self._threads: list[threading.Thread] = []

    @property
    def state(self) -> WorkerState:
        """The worker's state."""
        with self._lock:
            return self._state

    @property
    def pid(self) -> int | None:
        """Process id of the worker, or None."""
        with self._lock:
            return None if self._worker is None else self._worker.pid

    def start_from(
        self,
        known: Gaussian,
        walk: NDArray[np.float64] | None = None,
        series: SeriesKey | None = None,
    ) -> None:
        """Send coefficients to the worker before the next frame; to later ones, too.

        As in `deepblur_live.acquisition.listener.DeblurListener.start_from`.
        """
        series = series or SeriesKey()
        with self._lock:
            self._known[series] = known, walk
            self._known_sent.discard(series)

    def forget_known(self) -> None:
        """Send no coefficients from now on; a worker that has them keeps them."""
        with self._lock:
            self._known.clear()

    def start(self, timeout: float) -> bool:
        """Start the threads and the worker; True once the worker is ready."""
        for name, target in (("collector", self._collect), ("feeder", self._feed_all)):
            thread = threading.Thread(
                target=target, name=f"deepblur-live {name}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        if not self._settled.wait(timeout):
            self._report(
                f"the worker is not ready after {timeout:g} s; frames are "
                f"{'kept' if self.keep_all else 'passed on raw'} until it is"
            )
        return self.state is WorkerState.RUNNING

    def close(self, timeout: float) -> None:
        """End the worker and the threads; frames still at the worker are dropped."""
        self._stopping.set()
        self._ring.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout)
                if thread.is_alive():
                    self._report(f"{thread.name} did not end within {timeout:g} s")
        while self._stranded:
            self._ring.drop(self._stranded.popleft())

    @property
    def on_collector(self) -> bool:
        """Whether the caller is a callback on the collector thread."""
        return threading.current_thread() in self._threads

    # ------------------------------------------------------------- feeder

    def _feed_all(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._running.wait(_TICK_S):
                    self._feed()
            except Exception as error:
                self._report(f"sending a frame to the worker failed: {error!r}")

    def _feed(self) -> None:
        fast = self.keep_all or self._busy_ms < _FAST_MS
        lease = self._ring.take(self._max_at_worker - (not fast), _TICK_S)
        if lease is None:
            return
        task = self._pickled(lease)
        worker, known = self._assign(lease)
        while worker is None and self._waits and not self._stopping.is_set():
            self._running.wait(_TICK_S)
            worker, known = self._assign(lease)
        if worker is None:
            self._stranded.append(lease)
            return
        try:
            if known is not None:
                worker.send(pickle.dumps(known))
            worker.send(task)
        except (OSError, ValueError):
            pass  # the worker died: the collector notices, and counts the frame

    def _pickled(self, lease: SlotLease) -> bytes:
        """Return a frame's pickled task, without metadata that cannot be pickled."""
        task = Task(lease.info, lease.address)
        try:
            return pickle.dumps(task)
        except Exception as error:
            self._report(
                f"frames from {lease.info.source!r} are processed without their "
                f"metadata, which cannot be pickled: {error}"
            )
            return pickle.dumps(task._replace(info=replace(lease.info, metadata={})))

    def _assign(self, lease: SlotLease) -> tuple[Worker | None, Gaussian | None]:
        """Note that a frame is sent to the running worker.

        Return the worker, and the blur to start from if the worker lacks it.
        """
        with self._lock:
            worker = self._worker if self._state is WorkerState.RUNNING else None
            if worker is None:
                return None, None
            self._at_worker.append((lease, time.monotonic()))
            return worker, self._known_for(lease.info)

    def _known_for(self, frame: FrameInfo) -> Gaussian | None:
        """Return a series' known blur at a frame's time, if the worker lacks it."""
        series, time = series_key(frame.metadata), frame.time
        if series not in self._known or series in self._known_sent:
            return None
        self._known_sent.add(series)
        known, walk = self._known[series]
        if walk is None or time <= known.time:
            return known
        drift = (time - known.time) * walk
        return Gaussian(time, known.coefficients, known.covariance + drift)

    @property
    def _waits(self) -> bool:
        """Whether frames wait for the next worker, as every frame is processed."""
        return self.keep_all and self._awaited

    # ------------------------------------------------------------- collector

    def _collect(self) -> None:
        self._launch(WorkerState.STARTING)
        while not self._stopping.is_set():
            try:
                self._step()
            except Exception as error:
                self._report(f"collecting a result failed: {error!r}")
                self._stopping.wait(_TICK_S)
        self._shut_down()
        self._set_state(WorkerState.STOPPED)

    def _step(self) -> None:
        self._on_tick()
        worker = self._worker
        if worker is None:
            if self._plan.due:
                self._launch(WorkerState.RAW_ONLY)
            self._deliver_raw()
            return
        running = self._running.is_set()
        handles: list[Any] = [worker.replies, *worker.sentinels]
        ready = connection.wait(handles, _TICK_S if running else 0)
        if worker.replies in ready:
            try:
                message = worker.replies.recv()
            except (EOFError, OSError):
                self._lost(worker)
                return
            self._handle(message, worker)
        elif ready:
            self._lost(worker)
            return
        elif running:
            self._end_if_it_hangs(worker)
        if self._stranded or not self._running.is_set():
            self._deliver_raw()

    def _launch(self, state: WorkerState) -> None:
        self._awaited = True
        self._plan.started()
        self._set_state(state)
        try:
            worker = self._launch_worker()
        except Exception as error:
            self._set_state(WorkerState.RAW_ONLY)
            self._report_end(f"the worker could not be started: {error!r}")
            return
        with self._lock:
            self._worker = worker
            self._known_sent.clear()

    def _handle(self, message: object, worker: Worker) -> None:
        if isinstance(message, Reply):
            self._finish(message)
        elif isinstance(message, Ready):
            self._max_at_worker = _WITHOUT_OVERLAP
            self._plan.came_up()
            self._set_state(WorkerState.RUNNING)
            self._settled.set()
        elif isinstance(message, Failed):
            self._end(worker)
            self._report_end(
                f"the worker could not build its pipeline: {message.text}",
                message.details,
            )
        else:
            raise TypeError(f"unexpected {type(message).__name__} from the worker")

    def _lost(self, worker: Worker, cause: str = "") -> None:
        ending = cause or worker.ending()
        text = f"the worker died ({ending})"
        if not self._settled.is_set():
            text += " before it was ready"
            # A script without a guard ends by itself.
            if not ending.startswith("killed"):
                text += (
                    ' (a script must start it under `if __name__ == "__main__":`, '
                    "because the worker imports the script too)"
                )
        self._end(worker)
        self._report_end(text)

    def _end(self, worker: Worker) -> None:
        """Forget a worker; the frames at it count as dropped."""
        self._running.clear()
        with self._lock:
            self._worker = None
            self._state = WorkerState.RAW_ONLY
        self._on_state(WorkerState.RAW_ONLY)
        # Only then free its slots: it must not write into another frame's.
        worker.kill()
        worker.stop(1)
        self._drop_what_is_at_the_worker()

    def _drop_what_is_at_the_worker(self) -> None:
        with self._lock:
            lost = [lease for lease, _ in self._at_worker]
            self._at_worker.clear()
        for lease in lost:
            self._ring.drop(lease)

    def _report_end(self, text: str, details: str = "") -> None:
        plan = self._plan.went_down()
        self._awaited = self._plan.planned
        frames = f"frames are {'kept' if self._waits else 'passed on raw'}"
        self._report(f"{text}; {frames}; {plan}\n{details}".rstrip())
        self._settled.set()

    def _end_if_it_hangs(self, worker: Worker) -> None:
        if worker.pid is None:
            return  # a thread cannot be killed, and would write to slots later
        with self._lock:
            since = self._at_worker[0][1] if self._at_worker else None
        if since is not None and time.monotonic() - since > self._frame_timeout:
            self._lost(worker, f"no reply for {self._frame_timeout:g} s")

    def _finish(self, reply: Reply) -> None:
        with self._lock:
            lease, _ = self._at_worker.popleft()
        outcome, number = reply.outcome, lease.info.number
        if number != outcome.info.number:
            self._ring.drop(lease)
            raise RuntimeError(
                f"the worker replied to frame {outcome.info.number} instead of {number}"
            )
        self._busy_ms += 0.2 * (reply.busy_ms - self._busy_ms)
        self._max_at_worker = MAX_AT_WORKER if reply.overlapped else _WITHOUT_OVERLAP
        if reply.error and outcome.reason not in self._reasons:
            if len(self._reasons) < _MAX_REASONS:
                self._reasons.add(outcome.reason)
            self._report(
                f"the pipeline failed at frame {number}, which is passed on raw: "
                f"{outcome.reason}\n{reply.error}"
            )
        for note in outcome.notes:
            self._report(note)
        self._deliver_result(lease, reply)

    def _deliver_raw(self) -> None:
        if self._stranded:
            lease: SlotLease | None = self._stranded.popleft()
        elif self._waits:
            self._stopping.wait(_TICK_S / 2)
            return
        else:
            lease = self._ring.take(MAX_AT_WORKER, _TICK_S / 2)
        if lease is not None:
            starting = self._state is WorkerState.STARTING
            reason = f"worker is {'starting' if starting else 'down'}"
            outcome = Outcome(lease.info, FrameState.RAW_ONLY, reason)
            self._deliver_result(lease, Reply(outcome))

    def _deliver_result(self, lease: SlotLease, reply: Reply) -> None:
        try:
            deblurred = reply.deblurred
            if isinstance(deblurred, tuple):
                deblurred = lease.deblurred(deblurred)
            # The worker may have received the frame without its metadata.
            fields = {**vars(reply.outcome), "info": lease.info}
            result = FrameResult(**fields, raw=lease.raw(), deblurred=deblurred)
        except Exception:
            self._ring.drop(lease)
            raise
        self._ring.release(lease)
        try:
            self._deliver(result, lease.captured_at)
        except Exception as error:
            self._report(f"delivering frame {lease.info.number} failed: {error!r}")
        finally:
            self._ring.settle(processed=True)

    def _set_state(self, state: WorkerState) -> None:
        with self._lock:
            changed = state is not self._state
            self._state = state
        if state is WorkerState.RUNNING:
            self._running.set()
        else:
            self._running.clear()
        if changed:
            self._on_state(state)

    def _shut_down(self) -> None:
        self._running.clear()
        with self._lock:
            worker, self._worker = self._worker, None
            self._state = WorkerState.RAW_ONLY
        if worker is not None and not worker.stop(5):
            self._report("the worker did not end; it is abandoned")
        self._drop_what_is_at_the_worker()
