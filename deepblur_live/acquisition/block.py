"""A block of shared memory cut into slots, and a frame that lies in one of them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["FrameHeader", "SharedBlock", "Ticket"]


@dataclass(frozen=True)
class FrameHeader:
    """What is known of a frame beside its pixels.

    Parameters
    ----------
    number, time, source, metadata
        As in `deepblur_live.runtime.frame.Frame`.
    captured_at
        The ring's clock when the frame was put: what latency is measured from.
    dtype, shape
        ``dtype.str`` (byte order included) and shape of the pixels.
    """

    number: int
    time: float
    captured_at: float
    source: str
    metadata: Mapping[str, Any]
    dtype: str
    shape: tuple[int, ...]


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
        """What a worker attaches by."""
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

    def view(self, offset: int, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Array over the block's own bytes; to be let go before `release`."""
        return np.ndarray(shape, np.dtype(dtype), self._buffer, offset)

    def release(self) -> None:
        """Give the memory back to the system; the block is of no use afterwards."""
        # A worker thread that hangs may hold on to it: then the bytes go when it ends.
        with contextlib.suppress(BufferError):
            self._memory.close()
        self._memory.unlink()


@dataclass(frozen=True, eq=False)
class Ticket:
    """A frame in the ring: its header and the slots it holds."""

    header: FrameHeader
    block: SharedBlock
    slot: int
    result: int = -1

    def pixels(self) -> NDArray[Any]:
        """Return an owned copy of the raw pixels."""
        header = self.header
        offset = self.block.frame_offset(self.slot)
        return self.block.view(offset, header.shape, header.dtype).copy()

    def deblurred(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return an owned copy of what the worker wrote: `shape`, float32."""
        offset = self.block.result_offset(self.result)
        return self.block.view(offset, shape, "=f4").copy()
