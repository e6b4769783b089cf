"""The ring that frames wait in: slots of shared memory, bounded, every drop counted.

All bookkeeping is done in this process, under one lock that is held for microseconds.
The worker only reads and writes bytes at given offsets, so that a killed worker leaves
nothing locked and nothing leaked.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from deepblur_live.acquisition.block import SharedBlock, SlotLease
from deepblur_live.runtime.frame import FrameInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

__all__ = ["Counts", "FrameRing", "Policy"]

Policy = Literal["newest", "all"]

_ALIGNMENT = 64
"""A cache line; also keeps every dtype aligned."""
_NEWEST_SLOTS = 8
"""One queued, three at the worker, the others for producers that write in parallel."""
_MIN_RESULTS = 2
_MAX_REPORTED = 16
_MAX_SLOTS = 4096
"""Tiny frames must not turn the budget into millions of slots."""


class Counts(NamedTuple):
    """Where the frames are: ``captured == processed + dropped + in_flight``."""

    captured: int
    processed: int
    dropped: int
    in_flight: int


class FrameRing:
    """Byte-bounded, drop-oldest queue of frames in shared memory.

    A block is allocated for the first frame, and another for a larger one; the old
    block is released with its last frame, so that at most two exist.

    Parameters
    ----------
    memory_bytes
        Budget of one block. Frames that do not fit are dropped and reported.
    policy
        ``"newest"``: a new frame replaces those that still wait. ``"all"``: first in,
        first out; the oldest is dropped only when the budget is used up.
    max_taken
        Maximum number of frames that are taken and not yet returned.
    report
        Called with a text when frames are lost for a reason that the user should know;
        from the producer's thread, so that it must be quick and must not raise.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        memory_bytes: int,
        policy: Policy = "newest",
        *,
        max_taken: int = 2,
        report: Callable[[str], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if policy not in ("newest", "all"):
            raise ValueError(f'policy is "newest" or "all", not {policy!r}')
        if memory_bytes <= 0:
            raise ValueError(f"memory_bytes must be positive, not {memory_bytes}")
        self._budget = memory_bytes
        self._policy = policy
        self._results = max_taken
        self._report = report
        self._clock = clock
        self._origin = clock()
        self._lock = threading.Lock()
        self._frames = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._growing = threading.Lock()
        self._block: SharedBlock | None = None
        self._retired: list[SharedBlock] = []
        self._queue: deque[SlotLease] = deque()
        self._captured = self._processed = self._dropped = 0
        self._taken = self._settling = 0
        self._overflowing = self._oversized = False
        self._reported: set[str] = set()
        self._closed = False

    # ------------------------------------------------------------- producers

    def put(
        self,
        pixels: NDArray[Any],
        *,
        source: str,
        metadata: Mapping[str, Any],
        time: float | None = None,
        captured_at: float | None = None,
    ) -> bool:
        """Copy a frame into the ring; never waits for a consumer, never raises.

        Parameters
        ----------
        pixels
            Any shape, dtype, byte order and stride, except Python objects.
        source, metadata
            Travel with the frame.
        time
            Time of the capture, in seconds on the caller's clock; by default now,
            counted from the creation of the ring.
        captured_at
            The ring's clock at the capture, if that is not now.

        Returns
        -------
        bool
            False when the frame was dropped at once.
        """
        if captured_at is None:
            captured_at = self._clock()
        if time is None:
            time = captured_at - self._origin
        block: SharedBlock | None = None
        slot = -1
        try:
            pixels = np.asarray(pixels)
            if pixels.dtype.hasobject:
                raise TypeError(f"{pixels.dtype} pixels cannot leave this process")
            block, slot = self._reserve(pixels)
            if block is None:
                return self._refuse()
            block.write(slot, pixels)
        except Exception as error:  # an unusual frame must not stop a camera
            self._report_once(f"a frame from {source!r} was dropped: {error}")
            return self._refuse(block, slot)
        info = FrameInfo(-1, time, source, metadata, pixels.dtype.str, pixels.shape)
        return self._commit(SlotLease(info, captured_at, block, slot))

    def _report_once(self, text: str) -> None:
        """Report once: every frame of a source may be bad for the same reason."""
        with self._lock:
            if text in self._reported or len(self._reported) >= _MAX_REPORTED:
                return
            self._reported.add(text)
        self._report(text)

    def wait_room(self, timeout: float, pixels: object = None) -> bool:
        """Wait until a frame (these pixels, if given) can be put without a drop.

        Returns
        -------
        bool
            False when `timeout` seconds passed, or the ring was closed.
        """
        with self._room:
            self._room.wait_for(lambda: self._closed or self._has_room(pixels), timeout)
            return not self._closed and self._has_room(pixels)

    def _has_room(self, pixels: object) -> bool:
        if self._policy == "newest" and self._queue:
            return False
        if self._block is None:
            return True
        if isinstance(pixels, np.ndarray) and not _fits(self._block, pixels):
            # A larger block is allocated when the one before is empty.
            return all(block.idle for block in self._retired)
        return self._policy == "newest" or bool(self._block.free_slots)

    def _reserve(self, pixels: NDArray[Any]) -> tuple[SharedBlock | None, int]:
        """Return a block with a slot of it for these pixels, or (None, -1)."""
        while True:
            with self._lock:
                if self._closed:
                    return None, -1
                block = self._block
                if block is not None and _fits(block, pixels):
                    slot, overflow = self._free_slot(block)
                    break
            if not self._grow(pixels):
                return None, -1
        if overflow:
            self._report(
                "the oldest frames are dropped: the worker is slower than the source "
                f"and the budget of {self._budget} bytes is full"
            )
        return (block, slot) if slot >= 0 else (None, -1)

    def _free_slot(self, block: SharedBlock) -> tuple[int, bool]:
        """Return a slot, and whether to report a full budget; the lock is held."""
        full = not block.free_slots
        while not block.free_slots and self._queue:
            self._discard(self._queue.popleft())
        report = full and self._policy == "all" and not self._overflowing
        self._overflowing |= report
        return (block.free_slots.pop() if block.free_slots else -1), report

    def _grow(self, pixels: NDArray[Any]) -> bool:
        """Allocate a block that these pixels fit in; False when that is impossible."""
        with self._growing:  # only producers wait here, for about 0.1 ms
            with self._lock:
                old = self._block
                if self._closed or (old is not None and _fits(old, pixels)):
                    return True
                # At most one other block may exist: the one that is being emptied.
                waiting = [t for t in self._queue if t.block in self._retired]
                for lease in waiting:
                    self._queue.remove(lease)
                    self._discard(lease)
            if waiting and self._policy == "all":
                self._report_once(
                    "the oldest frames are dropped: their size has grown twice while "
                    "they waited for the worker"
                )
            self._sweep()
            if self._retired:
                return False
            new = self._new_block(pixels, old)
            if new is None:
                return False
            self._use(new)
            return True

    def _use(self, block: SharedBlock) -> None:
        with self._lock:
            if self._block is not None:
                self._retired.append(self._block)
            self._block = block
            if self._closed:
                self._retired.append(block)
                self._block = None
        self._sweep()

    def _new_block(
        self, pixels: NDArray[Any], old: SharedBlock | None
    ) -> SharedBlock | None:
        frame_bytes = max(_aligned(pixels.nbytes), old.frame_bytes if old else 0)
        result_bytes = max(_aligned(4 * pixels.size), old.result_bytes if old else 0)
        most = _NEWEST_SLOTS if self._policy == "newest" else _MAX_SLOTS
        # At least one slot for a waiting frame, one at the worker, one being written.
        # With little memory one frame less is taken at a time.
        for results, least in ((self._results, self._results + 1), (_MIN_RESULTS, 3)):
            slots = min((self._budget - results * result_bytes) // frame_bytes, most)
            if slots >= least:
                break
        else:
            if not self._oversized:
                self._oversized = True
                need = _MIN_RESULTS * result_bytes + 3 * frame_bytes
                self._report(
                    f"frames of shape {pixels.shape} {pixels.dtype} are dropped: they "
                    f"need memory_bytes of at least {need}, it is {self._budget}"
                )
            return None
        self._oversized = False
        return SharedBlock(slots, frame_bytes, results, result_bytes)

    def _commit(self, lease: SlotLease) -> bool:
        with self._lock:
            number = self._captured
            self._captured += 1
            if self._closed:
                self._discard(lease)
            else:
                if self._policy == "newest":
                    while self._queue:
                        self._discard(self._queue.popleft())
                info = replace(lease.info, number=number)
                self._queue.append(replace(lease, info=info))
                self._frames.notify_all()
                return True
        self._sweep()
        return False

    def _refuse(
        self, block: SharedBlock | None = None, slot: int = -1
    ) -> Literal[False]:
        with self._lock:
            self._captured += 1
            self._dropped += 1
            if block is not None:
                block.free_slots.append(slot)
        self._sweep()
        return False

    def _discard(self, lease: SlotLease) -> None:
        """Count a waiting frame as dropped; the lock is held."""
        lease.block.free_slots.append(lease.slot)
        self._dropped += 1
        self._room.notify_all()

    # ------------------------------------------------------------- consumers

    def take(self, most: int, timeout: float) -> SlotLease | None:
        """Take the next frame if fewer than `most` are taken; None after `timeout` s.

        With little memory even fewer. Every lease must be returned with `release`, and
        then counted with `settle`.
        """

        def there() -> bool:
            return (
                bool(self._queue)
                and self._taken < most
                and bool(self._queue[0].block.free_results)
            )

        with self._frames:
            self._frames.wait_for(lambda: self._closed or there(), timeout)
            if self._closed or not there():
                return None
            lease = self._queue.popleft()
            self._taken += 1
            lease = replace(lease, result=lease.block.free_results.pop())
            if len(self._queue) * 2 < lease.block.slots:
                self._overflowing = False
            self._room.notify_all()
            return lease

    def release(self, lease: SlotLease) -> None:
        """Free the slots of a taken frame; it stays in flight until `settle`."""
        with self._lock:
            lease.block.free_slots.append(lease.slot)
            lease.block.free_results.append(lease.result)
            self._taken -= 1
            self._settling += 1
            self._frames.notify_all()
            self._room.notify_all()
        self._sweep()

    def settle(self, *, processed: bool) -> None:
        """Count a released frame as processed, or as dropped."""
        with self._lock:
            self._settling -= 1
            if processed:
                self._processed += 1
            else:
                self._dropped += 1
            self._room.notify_all()

    def drop(self, lease: SlotLease) -> None:
        """Release a taken frame and count it as dropped."""
        self.release(lease)
        self.settle(processed=False)

    def wait_idle(self, timeout: float) -> bool:
        """Wait until nothing is in flight; False when `timeout` seconds passed."""
        with self._room:
            return self._room.wait_for(lambda: self._in_flight() == 0, timeout)

    # ------------------------------------------------------------- both

    @property
    def time(self) -> float:
        """Seconds since the creation of the ring."""
        return self._clock() - self._origin

    def counts(self) -> Counts:
        """Return all counts at one moment."""
        with self._lock:
            return Counts(
                self._captured, self._processed, self._dropped, self._in_flight()
            )

    @property
    def shared_bytes(self) -> int:
        """Shared memory in use, in bytes."""
        with self._lock:
            blocks = [*self._retired, *([self._block] if self._block else [])]
            return sum(block.size for block in blocks)

    def buffer(self, name: str) -> memoryview:
        """Return the bytes of the block called `name`, for a worker in this process."""
        with self._lock:
            for block in (self._block, *self._retired):
                if block is not None and block.name == name:
                    return block.buffer
        raise KeyError(f"no shared-memory block named {name!r} in this ring")

    def close(self) -> None:
        """Drop waiting frames, refuse new ones; memory is freed with the last frame."""
        with self._lock:
            self._closed = True
            while self._queue:
                self._discard(self._queue.popleft())
            if self._block is not None:
                self._retired.append(self._block)
                self._block = None
            self._frames.notify_all()
            self._room.notify_all()
        self._sweep()

    def _in_flight(self) -> int:
        return len(self._queue) + self._taken + self._settling

    def _sweep(self) -> None:
        """Release retired blocks that contain no frame any more."""
        if not self._retired:
            return
        with self._lock:
            idle = [block for block in self._retired if block.idle]
            self._retired = [block for block in self._retired if not block.idle]
        for block in idle:
            block.release()


def _aligned(n_bytes: int) -> int:
    return -(-max(n_bytes, 1) // _ALIGNMENT) * _ALIGNMENT


def _fits(block: SharedBlock, pixels: NDArray[Any]) -> bool:
    return pixels.nbytes <= block.frame_bytes and 4 * pixels.size <= block.result_bytes
