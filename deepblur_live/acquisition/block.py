"""A block of shared memory divided into slots, and the lease of a frame's slots."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.runtime.frame import FrameInfo

__all__ = ["SharedBlock", "SlotAddress", "SlotLease"]


class SlotAddress(NamedTuple):
    """Where a worker finds a frame and puts its result; travels through the pipe.

    Parameters
    ----------
    block
        Name of the shared memory.
    frame, result
        Where the raw and the deblurred pixels begin, in bytes.
    result_bytes
        Size of the result slot.
    """

    block: str
    frame: int
    result: int
    result_bytes: int


class SharedBlock:
    """One block of shared memory: frame slots, then result slots.

    Parameters
    ----------
    slots, frame_bytes
        Number and size of the slots for raw pixels.
    results, result_bytes
        Number and size of the slots the worker writes deblurred float32 pixels to.

    Raises
    ------
    OSError
        When the system has no shared memory left.
    """

    def __init__(
        self, slots: int, frame_bytes: int, results: int, result_bytes: int
    ) -> None:
        self.frame_bytes = frame_bytes
        self.result_bytes = result_bytes
        self.slots = slots
        self.size = slots * frame_bytes + results * result_bytes
        self._memory = SharedMemory(create=True, size=self.size)
        assert self._memory.buf is not None  # only after its close
        self._buffer = self._memory.buf
        # Owned by the ring, touched only under its lock.
        self.free_slots = list(range(slots))
        self.free_results = list(range(results))

    @property
    def name(self) -> str:
        """The name by which a worker attaches to it."""
        return self._memory.name

    @property
    def buffer(self) -> memoryview:
        """The whole block."""
        return self._buffer

    @property
    def idle(self) -> bool:
        """Whether no slot is in use; read under the ring's lock."""
        return len(self.free_slots) == self.slots

    def frame_offset(self, slot: int) -> int:
        """Where frame slot `slot` begins, in bytes."""
        return slot * self.frame_bytes

    def result_offset(self, result: int) -> int:
        """Where result slot `result` begins, in bytes."""
        return self.slots * self.frame_bytes + result * self.result_bytes

    def write(self, slot: int, pixels: NDArray[Any]) -> None:
        """Copy pixels into a frame slot."""
        view = self._view(self.frame_offset(slot), pixels.shape, pixels.dtype.str)
        np.copyto(view, pixels, casting="unsafe")

    def read(self, offset: int, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Return an owned copy of the pixels at `offset`."""
        pixels = np.empty(shape, dtype)
        np.copyto(pixels, self._view(offset, shape, dtype))
        return pixels

    def _view(self, offset: int, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        # Memory can be released only when no array over it exists any more.
        return np.ndarray(shape, np.dtype(dtype), self._buffer, offset)

    def release(self) -> None:
        """Give the memory back to the system; the block cannot be used afterwards."""
        # A hanging worker thread may still use it: it is then freed when that ends.
        with contextlib.suppress(BufferError):
            self._memory.close()
        self._memory.unlink()


@dataclass(frozen=True, eq=False)
class SlotLease:
    """A frame in the ring and the slots that are reserved for it.

    Parameters
    ----------
    info
        The frame.
    captured_at
        The ring's clock when the frame was put: latencies are measured from here.
    block, slot, result
        Its shared memory, and the numbers of its frame and its result slot.
    """

    info: FrameInfo
    captured_at: float
    block: SharedBlock
    slot: int
    result: int = -1

    @property
    def address(self) -> SlotAddress:
        """Where the slots are, for a worker."""
        block = self.block
        return SlotAddress(
            block.name,
            block.frame_offset(self.slot),
            block.result_offset(self.result),
            block.result_bytes,
        )

    def raw(self) -> NDArray[Any]:
        """Return an owned copy of the raw pixels."""
        offset = self.block.frame_offset(self.slot)
        return self.block.read(offset, self.info.shape, self.info.dtype)

    def deblurred(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return an owned copy of the worker's result: `shape`, float32."""
        return self.block.read(self.block.result_offset(self.result), shape, "=f4")
