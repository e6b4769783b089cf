"""The worker's loop: takes frames from a pipe, runs the pipeline, sends the outcomes.

The pixels stay in shared memory: the raw ones are read where they lie, the deblurred
ones are written to their slot. Only small messages go through the pipes.
"""

from __future__ import annotations

import contextlib
import pickle
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from deepblur_live.drift import Gaussian
from deepblur_live.runtime.frame import (
    DeviceLost,
    Frame,
    FrameFuture,
    FrameInfo,
    FramePipeline,
    FrameState,
    Outcome,
)

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from numpy.typing import NDArray

    from deepblur_live.acquisition.block import SlotAddress

__all__ = [
    "MAX_AT_WORKER",
    "Failed",
    "PipelineFactory",
    "Ready",
    "Reply",
    "Task",
    "WorkerState",
    "serve",
]

_DEVICE_LOST = "the device has failed; this process can compute nothing more"

MAX_AT_WORKER = 3
"""Frames at a worker: one in computation, one being uploaded, one that waits."""


class WorkerState(StrEnum):
    """Whether frames are deblurred now."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    RAW_ONLY = "raw-only"
    """The worker is down: frames are passed on raw."""


PipelineFactory = Callable[[], FramePipeline]
"""Builds the pipeline inside the worker; picklable unless it runs in process."""


class Task(NamedTuple):
    """One frame for the worker, and where its pixels are."""

    info: FrameInfo
    address: SlotAddress


@dataclass(frozen=True)
class Ready:
    """The pipeline is ready for frames."""


@dataclass(frozen=True)
class Failed:
    """The pipeline could not be built."""

    text: str
    details: str


@dataclass(frozen=True)
class Reply:
    """The outcome of a frame, and where its deblurred pixels are.

    Parameters
    ----------
    outcome
        State, estimate, track and timings of the frame.
    deblurred
        Shape of the float32 pixels in the result slot; or the pixels themselves if
        they do not fit into it; or None.
    error
        The traceback if the pipeline raised, else empty.
    busy_ms
        Time spent on the frame.
    overlapped
        Whether the pipeline could have taken another frame in the meantime.
    """

    outcome: Outcome
    deblurred: tuple[int, ...] | NDArray[np.float32] | None = None
    error: str = ""
    busy_ms: float = 0.0
    overlapped: bool = False


def serve(
    tasks: Connection,
    replies: Connection,
    factory: PipelineFactory,
    open_block: Callable[[str], memoryview],
) -> None:
    """Build the pipeline and process tasks until None comes or the owner is gone.

    Parameters
    ----------
    tasks, replies
        Receiving and sending ends; messages are `Task`, None or a `Gaussian` for the
        pipeline's ``start_from``, and `Ready`, `Failed` or `Reply`. Both are closed at
        the end.
    factory
        Called once; an exception is reported as `Failed`.
    open_block
        Returns a shared-memory block by its name, and may close the one before.
    """
    with contextlib.suppress(EOFError, OSError), tasks, replies:
        try:
            pipeline = factory()
        except Exception as error:
            replies.send(Failed(_summary(error), traceback.format_exc()))
            return
        try:
            replies.send(Ready())
            _process_all(tasks, replies, pipeline, open_block)
        finally:
            pipeline.close()


def _process_all(
    tasks: Connection,
    replies: Connection,
    pipeline: FramePipeline,
    open_block: Callable[[str], memoryview],
) -> None:
    """Process tasks in order; the next one is submitted before the last is collected.

    A frame's result is collected at once while no other frame waits.
    """
    pending: _Submitted | None = None

    def collect() -> None:
        nonlocal pending
        if pending is not None:
            replies.send_bytes(pending.collect())
            lost, pending = pending.device_lost, None
            if lost:
                raise SystemExit(_DEVICE_LOST)

    while True:
        if pending is not None and (pending.done() or not tasks.poll()):
            collect()
        task: Task | Gaussian | None = tasks.recv()
        if isinstance(task, Gaussian):
            pipeline.start_from(task)
            continue
        # Opening another block closes the one that the pending result goes to.
        if pending is not None and (
            task is None or task.address.block != pending.block
        ):
            collect()
        if task is None:
            return
        submitted = _Submitted(task, pipeline, open_block)
        collect()
        pending = submitted


class _Submitted:
    """A task that was submitted to the pipeline; errors become part of its reply."""

    def __init__(
        self,
        task: Task,
        pipeline: FramePipeline,
        open_block: Callable[[str], memoryview],
    ) -> None:
        began = time.perf_counter()
        self._info, self._address = task
        self.block = self._address.block
        self.device_lost = False
        self._future: FrameFuture | None = None
        self._failure: Reply | None = None
        try:
            self._buffer = open_block(self.block)
            self._future = pipeline.submit(self._frame())
        except Exception as error:
            self._failure = self._failed(error)
        self._overlapped = not self.done()
        self._busy_ms = _ms_since(began)

    def _frame(self) -> Frame:
        info = self._info
        pixels: NDArray[Any] = np.ndarray(
            info.shape, np.dtype(info.dtype), self._buffer, self._address.frame
        )
        return Frame(pixels, info.number, info.time, info.source, info.metadata)

    def done(self) -> bool:
        """Return whether `collect` does not have to wait."""
        try:
            return self._future is None or self._future.done()
        except Exception:  # `collect` raises and reports it
            return True

    def collect(self) -> bytes:
        """Return the pickled reply; the deblurred pixels are in their slot."""
        began = time.perf_counter()

        def pickled(reply: Reply) -> bytes:
            busy_ms = self._busy_ms + _ms_since(began)
            return pickle.dumps(
                replace(reply, busy_ms=busy_ms, overlapped=self._overlapped)
            )

        try:
            return pickled(self._failure or self._collected())
        except Exception as error:  # also if the outcome cannot be pickled
            return pickled(self._failed(error))
        finally:
            # A block cannot be closed while an array over it exists.
            self._future = None

    def _collected(self) -> Reply:
        assert self._future is not None
        result = self._future.result()
        return Reply(result.outcome, self._place(result.deblurred))

    def _place(
        self, deblurred: NDArray[Any] | None
    ) -> tuple[int, ...] | NDArray[np.float32] | None:
        """Put deblurred pixels into the result slot and return their shape."""
        if deblurred is None:
            return None
        if 4 * deblurred.size > self._address.result_bytes:
            return np.asarray(deblurred, np.float32)
        slot: NDArray[np.float32] = np.ndarray(
            deblurred.shape, np.float32, self._buffer, self._address.result
        )
        np.copyto(slot, deblurred, casting="unsafe")
        return deblurred.shape

    def _failed(self, error: Exception) -> Reply:
        """Return the reply of a frame that raised; formatted while it is handled."""
        self.device_lost |= isinstance(error, DeviceLost)
        outcome = Outcome(self._info, FrameState.RAW_ONLY, _summary(error))
        return Reply(outcome, error=traceback.format_exc())


def _summary(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _ms_since(began: float) -> float:
    return (time.perf_counter() - began) * 1e3
