"""Keeps a worker alive, hands it frames, and gives the results back, one by one.

Two threads: the dispatcher feeds the worker from the ring; the collector owns the
worker's life, rebuilds the results and delivers them. While there is no worker the
collector answers the newest frames raw, so that the window never stands still; where
every frame counts they wait instead for the worker's restart.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from deepblur_live.acquisition.handover import rebuild, task_bytes
from deepblur_live.acquisition.restarts import RestartPlan
from deepblur_live.acquisition.worker import (
    MOST_AT_ONCE,
    Failed,
    Ready,
    Reply,
    WorkerState,
)
from deepblur_live.runtime.frame import FrameState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deepblur_live.acquisition.block import Ticket
    from deepblur_live.acquisition.launch import Worker
    from deepblur_live.acquisition.ring import FrameRing
    from deepblur_live.runtime.frame import FrameResult

__all__ = ["Supervisor"]

_FAST_MS = 20.0
"""A worker faster than this is kept busy by a frame that waits, which ages less than
that; a slower one gets its next frame, the newest, only when it has a use for it."""
_TICK_S = 0.1
_MOST_REASONS = 64


class Supervisor:
    """Owns the worker and the two threads around it.

    Parameters
    ----------
    launch
        Starts a worker; may raise.
    ring
        Where frames come from.
    keep_all
        Whether every frame counts: the worker is then always kept busy.
    deliver
        Called on the collector thread with each result and the time of its capture.
        What it raises is reported.
    report
        Called from any thread with what went wrong.
    on_state
        Called on the collector thread when the worker's state changed.
    on_tick
        Called on the collector thread, at least every 0.1 s when nothing else goes on.
    restart_delays_s
        As in `deepblur_live.acquisition.restarts.RestartPlan`.
    frame_timeout_s
        A frame at the worker for longer means that it hangs: its process is killed.
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
        self._keep_all = keep_all
        self._deliver = deliver
        self._report = report
        self._on_state = on_state
        self._on_tick = on_tick
        self._plan = RestartPlan(restart_delays_s)
        # Whether a worker runs, starts, or will.
        self._awaited = True
        self._frame_timeout = frame_timeout_s

        # Guards the worker, its state and the frames at it; held for microseconds.
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._state = WorkerState.STOPPED
        self._at_worker: deque[tuple[Ticket, float]] = deque()
        # Taken for a worker that died meanwhile; the collector answers them.
        self._stranded: deque[Ticket] = deque()

        self._running = threading.Event()
        self._settled = threading.Event()
        self._stopping = threading.Event()
        self._busy_ms, self._at_once = 0.0, Ready.at_once
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

    def start(self, timeout: float) -> bool:
        """Start the threads and the worker; True once the worker is ready."""
        for name, target in (("collector", self._collect), ("feeder", self._dispatch)):
            thread = threading.Thread(
                target=target, name=f"deepblur-live {name}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        if not self._settled.wait(timeout):
            self._report(
                f"the worker is not ready after {timeout:g} s; frames are "
                f"{'kept' if self._keep_all else 'passed on raw'} until it is"
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

    # ------------------------------------------------------------- dispatcher

    def _dispatch(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._running.wait(_TICK_S):
                    self._feed()
            except Exception as error:
                self._report(f"handing a frame to the worker failed: {error!r}")

    def _feed(self) -> None:
        fast = self._keep_all or self._busy_ms < _FAST_MS
        most = self._at_once if fast else self._at_once - 1
        ticket = self._ring.take(most, _TICK_S)
        if ticket is None:
            return
        task = task_bytes(ticket, self._report)
        worker = self._hand_over(ticket)
        while worker is None and self._waits and not self._stopping.is_set():
            self._running.wait(_TICK_S)
            worker = self._hand_over(ticket)
        if worker is None:
            self._stranded.append(ticket)
            return
        try:
            worker.send(task)
        except (OSError, ValueError):
            pass  # it died: the collector sees that, and counts the frame

    def _hand_over(self, ticket: Ticket) -> Worker | None:
        """Note that a frame goes to the worker that runs, and return it."""
        with self._lock:
            worker = self._worker if self._state is WorkerState.RUNNING else None
            if worker is not None:
                self._at_worker.append((ticket, time.monotonic()))
            return worker

    @property
    def _waits(self) -> bool:
        """Whether frames wait for a worker that is to come: where every one counts."""
        return self._keep_all and self._awaited

    # ------------------------------------------------------------- collector

    def _collect(self) -> None:
        self._launch(WorkerState.STARTING)
        while not self._stopping.is_set():
            try:
                self._step()
            except Exception as error:
                self._report(f"collecting a result failed: {error!r}")
                self._stopping.wait(_TICK_S)
        self._lay_down()
        self._set_state(WorkerState.STOPPED)

    def _step(self) -> None:
        self._on_tick()
        worker = self._worker
        if worker is None:
            if self._plan.due:
                self._launch(WorkerState.RAW_ONLY)
            self._answer_raw()
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
            self._watch_for_a_hang(worker)
        if self._stranded or not self._running.is_set():
            self._answer_raw()

    def _launch(self, state: WorkerState) -> None:
        self._awaited = True
        self._plan.started()
        self._set_state(state)
        try:
            worker = self._launch_worker()
        except Exception as error:
            self._set_state(WorkerState.RAW_ONLY)
            self._tell_the_end(f"the worker could not be started: {error!r}")
            return
        with self._lock:
            self._worker = worker

    def _handle(self, message: object, worker: Worker) -> None:
        if isinstance(message, Reply):
            self._finish(message)
        elif isinstance(message, Ready):
            self._at_once = message.at_once
            self._plan.came_up()
            self._set_state(WorkerState.RUNNING)
            self._settled.set()
        elif isinstance(message, Failed):
            self._end(worker)
            self._tell_the_end(
                f"the worker could not make its pipeline: {message.text}",
                message.details,
            )
        else:
            raise TypeError(f"a worker does not send {type(message).__name__}")

    def _lost(self, worker: Worker, cause: str = "") -> None:
        text = f"the worker died ({cause or worker.ending()})"
        if not self._settled.is_set():
            text += (
                " before it was ready (a script must start it under `if __name__ == "
                '"__main__":`, because the worker imports the script too)'
            )
        self._end(worker)
        self._tell_the_end(text)

    def _end(self, worker: Worker) -> None:
        """Forget a worker; the frames at it count as dropped."""
        self._running.clear()
        with self._lock:
            self._worker = None
            self._state = WorkerState.RAW_ONLY
            lost = [ticket for ticket, _ in self._at_worker]
            self._at_worker.clear()
        self._on_state(WorkerState.RAW_ONLY)
        # First its end, then its slots: it must not write to another frame's.
        worker.kill()
        worker.stop(1)
        for ticket in lost:
            self._ring.drop(ticket)

    def _tell_the_end(self, text: str, details: str = "") -> None:
        plan = self._plan.went_down()
        self._awaited = self._plan.planned
        frames = f"frames are {'kept' if self._waits else 'passed on raw'}"
        self._report(f"{text}; {frames}; {plan}\n{details}".rstrip())
        self._settled.set()

    def _watch_for_a_hang(self, worker: Worker) -> None:
        if worker.pid is None:
            return  # a thread cannot be killed, and would write to slots later
        with self._lock:
            since = self._at_worker[0][1] if self._at_worker else None
        if since is not None and time.monotonic() - since > self._frame_timeout:
            self._lost(worker, f"no answer for {self._frame_timeout:g} s")

    def _finish(self, reply: Reply) -> None:
        with self._lock:
            ticket, _ = self._at_worker.popleft()
        if ticket.header.number != reply.number:
            self._ring.drop(ticket)
            raise RuntimeError(
                f"frame {reply.number} was answered, {ticket.header.number} was due"
            )
        self._busy_ms += 0.2 * (reply.busy_ms - self._busy_ms)
        if reply.error and reply.reason not in self._reasons:
            if len(self._reasons) < _MOST_REASONS:
                self._reasons.add(reply.reason)
            self._report(
                f"the pipeline failed at frame {reply.number}, which is passed on "
                f"raw: {reply.reason}\n{reply.error}"
            )
        for note in reply.notes:
            self._report(note)
        self._answer(ticket, reply)

    def _answer_raw(self) -> None:
        reason = (
            "worker is starting"
            if self._state is WorkerState.STARTING
            else "worker is down"
        )
        if self._stranded:
            ticket: Ticket | None = self._stranded.popleft()
        elif self._waits:
            self._stopping.wait(_TICK_S / 2)
            return
        else:
            ticket = self._ring.take(MOST_AT_ONCE, _TICK_S / 2)
        if ticket is not None:
            number = ticket.header.number
            self._answer(ticket, Reply(number, FrameState.RAW_ONLY, reason))

    def _answer(self, ticket: Ticket, reply: Reply) -> None:
        try:
            result = rebuild(ticket, reply)
        except Exception:
            self._ring.drop(ticket)
            raise
        self._ring.release(ticket)
        try:
            self._deliver(result, ticket.header.captured_at)
        except Exception as error:
            self._report(f"delivering frame {reply.number} failed: {error!r}")
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

    def _lay_down(self) -> None:
        self._running.clear()
        with self._lock:
            worker, self._worker = self._worker, None
            self._state = WorkerState.RAW_ONLY
        if worker is not None and not worker.stop(5):
            self._report("the worker did not end; it is left behind")
        with self._lock:
            lost = [ticket for ticket, _ in self._at_worker]
            self._at_worker.clear()
        for ticket in lost:
            self._ring.drop(ticket)
