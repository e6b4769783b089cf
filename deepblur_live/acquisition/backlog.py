"""Buffer every frame for a worker slower than the camera, on disk if necessary.

Frames are put into the ring only when it is empty, so that it drops none.
"""

from __future__ import annotations

import math
import queue
import tempfile
import threading
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

    from deepblur_live.acquisition.ring import FrameRing

__all__ = ["Backlog"]

# Maximum memory for frames waiting for the backlog's thread; a single frame may exceed
# it.
_MEMORY_BYTES = 256 << 20
_TICK_S = 0.05
# Polling interval of the ring while frames wait for room in it.
_POLL_S = 0.005
# Longest wait for a write in progress when the backlog is closed: it may block the
# window.
_END_S = 0.5


@dataclass(frozen=True)
class _Waiting:
    """A waiting frame: its pixels, or the offset of their bytes in the file."""

    pixels: NDArray[Any] | None
    offset: int
    shape: tuple[int, ...]
    dtype: str
    more: Mapping[str, Any]


class Backlog:
    """Passes frames on to a ring in order, as fast as they are taken from it.

    Its thread moves those that cannot be passed on yet to a temporary file, which the
    system removes when the program ends, however it ends.

    Parameters
    ----------
    ring
        Where frames go; nothing else puts frames there while the backlog is open.
    folder
        Folder of the temporary file; None for the system's.
    report
        Called from any thread with a description of frames that are lost, and why.
    memory_bytes
        Budget for frames that wait for the thread.
    """

    def __init__(
        self,
        ring: FrameRing,
        folder: Path | None,
        report: Callable[[str], None],
        *,
        memory_bytes: int = _MEMORY_BYTES,
    ) -> None:
        self._ring, self._report, self._budget = ring, report, memory_bytes
        self._lock = threading.Lock()
        self._new: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._bytes = self._waiting = self._dropped = 0
        self._ending = self._reported = False
        self._file: BinaryIO = tempfile.TemporaryFile(dir=folder, buffering=0)
        self._end = 0
        self._on_disk: deque[_Waiting] = deque()
        self._thread = threading.Thread(
            target=self._run, name="deepblur-live backlog", daemon=True
        )
        self._thread.start()

    @property
    def counts(self) -> tuple[int, int]:
        """Frames that wait to be put into the ring, and those that were dropped."""
        with self._lock:
            return self._waiting, self._dropped

    def put(self, pixels: NDArray[Any], **more: Any) -> bool:
        """Copy a frame; returns at once, False if it is dropped.

        Parameters
        ----------
        pixels
            As for `FrameRing.put`.
        more
            The other arguments of `FrameRing.put`; the time has to be among them.
        """
        pixels = np.asarray(pixels)
        if pixels.dtype.hasobject:
            return self._ring.put(pixels, **more)  # which counts and reports it
        with self._lock:
            fits = self._bytes == 0 or self._bytes + pixels.nbytes <= self._budget
            kept = fits and not self._ending
            if kept:
                self._waiting += 1
                self._bytes += pixels.nbytes
            else:
                self._dropped += 1
        if not fits:
            self._report_once("the disk that buffers them is slower than the camera")
        if not kept:
            return False
        self._new.put(_Waiting(pixels.copy(), 0, pixels.shape, pixels.dtype.str, more))
        return True

    def close(self, timeout: float = _END_S) -> None:
        """End; frames that still wait are dropped.

        If the disk does not respond within `timeout` seconds, this is reported, and
        the thread ends as soon as the disk responds, or with the program.
        """
        self._drop_waiting()
        self._new.put(None)
        if self._thread is threading.current_thread():
            return
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._report(
                "the disk that buffers waiting frames does not respond: the temporary "
                "file is removed when it does, or when the program ends"
            )

    # ------------------------------------------------------------- the thread

    def _run(self) -> None:
        try:
            while not self._ending:
                self._step()
        finally:
            self._drop_waiting()
            self._file.close()

    def _drop_waiting(self) -> None:
        """Accept no more frames, and count those that wait as dropped."""
        with self._lock:
            self._ending = True
            self._dropped += self._waiting
            self._waiting = 0

    def _step(self) -> None:
        if self._on_disk and self._has_room(self._on_disk[0]):
            self._pass_on(self._on_disk.popleft())
            if not self._on_disk:
                self._file.truncate(0)
                self._end = 0
        try:
            frame = self._new.get(timeout=_POLL_S if self._on_disk else _TICK_S)
        except queue.Empty:
            return
        if frame is None:
            return
        if not self._on_disk and self._has_room(frame):
            self._pass_on(frame)
        else:
            self._store(frame)
        with self._lock:
            self._bytes -= _size(frame)

    def _has_room(self, frame: _Waiting) -> bool:
        # An array of the frame's size that takes no memory.
        stand_in = np.broadcast_to(np.zeros((), frame.dtype), frame.shape)
        return self._ring.wait_room(0, stand_in)

    def _store(self, frame: _Waiting) -> None:
        """Write a frame's pixels to the file, and remember where."""
        assert frame.pixels is not None
        left = memoryview(frame.pixels.tobytes())
        try:
            self._file.seek(self._end)
            while left:
                # A disk that fills up takes a part first, and then raises.
                left = left[self._file.write(left) :]
        except OSError as error:
            self._drop(f"the temporary file cannot be written ({error.strerror})")
            return
        self._on_disk.append(replace(frame, pixels=None, offset=self._end))
        self._end += _size(frame)

    def _pass_on(self, frame: _Waiting) -> None:
        pixels = frame.pixels
        if pixels is None:
            try:
                self._file.seek(frame.offset)
                data = self._file.read(_size(frame))
                pixels = np.frombuffer(data, frame.dtype).reshape(frame.shape)
            except (OSError, ValueError) as error:
                self._drop(f"the temporary file cannot be read ({error})")
                return
        closed = self._ending
        if closed:  # while the frame was read; it is counted as dropped
            return
        self._ring.put(pixels, **frame.more)
        with self._lock:
            if self._ending:  # closed in the meantime: it was counted as dropped
                self._dropped -= 1
            else:
                self._waiting -= 1

    def _drop(self, reason: str) -> None:
        with self._lock:
            if self._ending:  # counted already
                return
            self._waiting -= 1
            self._dropped += 1
        self._report_once(reason)

    def _report_once(self, reason: str) -> None:
        if not self._reported:
            self._reported = True
            self._report(f"waiting frames are dropped: {reason}")


def _size(frame: _Waiting) -> int:
    return math.prod(frame.shape) * np.dtype(frame.dtype).itemsize
