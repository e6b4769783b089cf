"""What runs beside the microscope: a loop that answers frames with the pipeline.

It takes one task at a time from a pipe, reads the frame from shared memory, writes
the deblurred pixels back there, and answers with a small message.
"""

from __future__ import annotations

import contextlib
import pickle
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np

from deepblur_live.runtime.frame import Frame, FrameResult, FrameState, UnderWay

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from numpy.typing import NDArray

    from deepblur_live.drift.tracker import TrackState
    from deepblur_live.optics.estimate import Estimate

__all__ = [
    "MOST_AT_ONCE",
    "Failed",
    "Pipeline",
    "PipelineFactory",
    "Ready",
    "Reply",
    "Task",
    "WorkerState",
    "serve",
]


_LOST = "the card has failed; nothing more can be run by this process"

MOST_AT_ONCE = 3
"""Frames at a worker: one on its card, one on its way there, one that waits."""


class WorkerState(StrEnum):
    """Whether frames are deblurred now."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    RAW_ONLY = "raw-only"
    """The worker is down: frames are passed on raw."""


class Pipeline(Protocol):
    """What a worker runs: `deepblur_live.runtime.pipeline.FramePipeline` and alike.

    One that has a `begin` too, as that has, may be given a frame before the last is
    finished; one whose `overlaps` is true makes use of that. One that is `lost`, as its
    card is, ends the worker, in whose place another comes.
    """

    def process(self, frame: Frame) -> FrameResult:
        """Return what became of a frame."""
        ...


PipelineFactory = Callable[[], Pipeline]
"""Makes the pipeline inside the worker; picklable unless it runs in process."""


@dataclass(frozen=True)
class Task:
    """One frame for the worker: its header, and where its bytes lie."""

    number: int
    time: float
    source: str
    metadata: Mapping[str, Any]
    dtype: str
    shape: tuple[int, ...]
    block: str
    offset: int
    result_offset: int
    result_bytes: int


@dataclass(frozen=True)
class Ready:
    """The pipeline is made; frames may come.

    Parameters
    ----------
    at_once
        Frames to be had before the first of them is answered: one in work and one that
        waits; where frames overlap, one more.
    """

    at_once: int = 2


@dataclass(frozen=True)
class Failed:
    """The pipeline could not be made."""

    text: str
    details: str


@dataclass(frozen=True)
class Reply:
    """What became of a frame, but for the large arrays.

    Parameters
    ----------
    deblurred
        Shape of the float32 pixels in the result slot; or the pixels themselves where
        they did not fit there; or None.
    error
        The traceback when the pipeline raised, else empty.
    notes
        What the user should know beside the frame.
    executor
        What ran the networks.
    busy_ms
        Time spent with the frame.
    """

    number: int
    state: FrameState
    reason: str = ""
    deblurred: tuple[int, ...] | NDArray[np.float32] | None = None
    estimate: Estimate | None = None
    track: TrackState | None = None
    psf: NDArray[np.float32] | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    executor: str = ""
    error: str = ""
    busy_ms: float = 0.0


def serve(
    tasks: Connection,
    replies: Connection,
    factory: PipelineFactory,
    open_block: Callable[[str], memoryview],
) -> None:
    """Make the pipeline and answer tasks until None comes or the other side is gone.

    Parameters
    ----------
    tasks, replies
        Receiving and sending ends; messages are `Task` or None, and `Ready`, `Failed`
        or `Reply`. Both are closed at the end.
    factory
        Called once. What it raises is answered by `Failed`.
    open_block
        Bytes of a shared-memory block by its name.
    """
    with contextlib.suppress(EOFError, OSError), tasks, replies:
        try:
            pipeline = factory()
        except Exception as error:
            replies.send(Failed(_summary(error), traceback.format_exc()))
            return
        try:
            overlaps = getattr(pipeline, "overlaps", False)
            replies.send(Ready(MOST_AT_ONCE) if overlaps else Ready())
            _answer_all(tasks, replies, pipeline, open_block)
        finally:
            close = getattr(pipeline, "close", None)
            if close is not None:
                close()


def _answer_all(
    tasks: Connection,
    replies: Connection,
    pipeline: Pipeline,
    open_block: Callable[[str], memoryview],
) -> None:
    """Answer tasks in their order, each while the next one is under way if it can be.

    A frame on a card is left there while another is begun, but not while none waits.
    """
    under_way: _Answer | None = None

    def finish() -> None:
        nonlocal under_way
        if under_way is not None:
            replies.send_bytes(under_way.finish())
            under_way = None
            if getattr(pipeline, "lost", False):
                raise SystemExit(_LOST)

    while True:
        if under_way is not None and (under_way.is_there() or not tasks.poll()):
            finish()
        task: Task | None = tasks.recv()
        # Its result lies in a block that is let go of when another is opened.
        if under_way is not None and (task is None or task.block != under_way.block):
            finish()
        if task is None:
            return
        begun = _Answer(task, pipeline, open_block)
        finish()
        under_way = begun


class _Answer:
    """The answer to a task that has been begun; whatever goes wrong will be in it."""

    def __init__(
        self, task: Task, pipeline: Pipeline, open_block: Callable[[str], memoryview]
    ) -> None:
        began = time.perf_counter()
        self._task = task
        try:
            self._buffer = open_block(task.block)
            dtype = np.dtype(task.dtype)
            # Copied: a pipeline may keep its frame, the slot goes on to another one.
            pixels = np.ndarray(task.shape, dtype, self._buffer, task.offset).copy()
            frame = Frame(pixels, task.number, task.time, task.source, task.metadata)
            self._under_way = _begin(pipeline, frame)
        except Exception as error:
            self._under_way = UnderWay(partial(_fail, error))
        self._busy_ms = _ms_since(began)

    @property
    def block(self) -> str:
        """Where the result goes."""
        return self._task.block

    def is_there(self) -> bool:
        """Return whether `finish` has nothing to wait for."""
        try:
            return self._under_way.is_there()
        except Exception:  # `finish` meets it too, and tells
            return True

    def finish(self) -> bytes:
        """Return the pickled reply, its large arrays handed over."""
        began, task = time.perf_counter(), self._task
        try:
            result = self._under_way.finish()
            reply = Reply(
                task.number,
                result.state,
                result.reason,
                _hand_over(result.deblurred, task, self._buffer),
                result.estimate,
                result.track,
                result.psf,
                dict(result.timings),
                result.notes,
                result.executor,
                busy_ms=self._busy_ms + _ms_since(began),
            )
            return pickle.dumps(reply)
        except Exception as error:
            reply = Reply(
                task.number,
                FrameState.RAW_ONLY,
                reason=_summary(error),
                error=traceback.format_exc(),
                busy_ms=self._busy_ms + _ms_since(began),
            )
            return pickle.dumps(reply)


def _begin(pipeline: Pipeline, frame: Frame) -> UnderWay:
    begin: Callable[[Frame], UnderWay] | None = getattr(pipeline, "begin", None)
    if begin is not None:
        return begin(frame)
    result = pipeline.process(frame)
    return UnderWay(lambda: result)


def _fail(error: Exception) -> NoReturn:
    raise error


def _hand_over(
    deblurred: NDArray[np.float32] | None, task: Task, buffer: memoryview
) -> tuple[int, ...] | NDArray[np.float32] | None:
    if deblurred is None:
        return None
    pixels = np.ascontiguousarray(deblurred, dtype=np.float32)
    if pixels.nbytes > task.result_bytes:
        return pixels
    np.ndarray(pixels.shape, np.float32, buffer, task.result_offset)[...] = pixels
    return pixels.shape


def _summary(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _ms_since(began: float) -> float:
    return (time.perf_counter() - began) * 1e3
