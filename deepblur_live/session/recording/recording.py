"""One recording: a thread writes deblurred frames, and the raw ones next to them."""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.session.recording.frame_values import frame_values
from deepblur_live.session.recording.names import file_of_part, files_of_part, is_zarr

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deepblur_live.blur import BlurFamily
    from deepblur_live.runtime.frame import FrameResult
    from deepblur_live.session.recording.store import FrameStore, SeriesHead

__all__ = ["Recording", "RecordingCounts"]

_log = logging.getLogger(__name__)

# Pixel types of both formats.
_PIXELS = frozenset(("u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8"))
# Maximum memory for frames waiting for the disk; a single one may be larger.
_QUEUE_BYTES = 256 << 20
_FLUSH_S = 1.0
# Pause before the next attempt after the disk has refused a new file.
_RETRY_S = 2.0


@dataclass(frozen=True)
class RecordingCounts:
    """A recording so far.

    Parameters
    ----------
    path
        The file of the deblurred frames; of the first ones, if there are several.
    raw
        That of the raw frames, or None if they are recorded elsewhere.
    parts
        Files of deblurred frames: a new one begins where the frames' size changes.
    written
        Frames of the deblurred series on the disk.
    raw_only
        Frames of that series that were passed on raw.
    waiting
        Frames that wait for the disk.
    dropped
        Frames that were not recorded because the disk is too slow.
    lost
        Frames, raw or deblurred, that the disk refused.
    unfit
        Frames that cannot be recorded: in colour, or of a type that the format lacks.
    error
        Reason why frames are lost at present, or empty.
    """

    path: Path
    raw: Path | None
    parts: int = 0
    written: int = 0
    raw_only: int = 0
    waiting: int = 0
    dropped: int = 0
    lost: int = 0
    unfit: int = 0
    error: str = ""

    @property
    def text(self) -> str:
        """The counts as one line of text."""
        number = f" in {self.parts} files" if self.parts > 1 else ""
        raw = "" if self.raw is None else f", raw frames in {self.raw.name}"
        others = (
            (self.raw_only, "passed on raw"),
            (self.dropped, "dropped (the disk is too slow)"),
            (self.lost, "lost (the disk refused them)"),
            (self.unfit, "not recorded (in colour, or of an unsupported type)"),
        )
        return (
            f"{self.written} deblurred frames{number} in {self.path}{raw}"
            + "".join(f"; {count} {why}" for count, why in others if count)
            + (f"; {self.waiting} not written yet" if self.waiting else "")
        )


class Recording:
    """Writes each result that it is given, on a separate thread, until `end`.

    The first frame determines the size; frames of another size begin a new series, and
    so does a change of `stated`.
    Frames that were passed on raw are recorded in their place, with strength 0.

    Parameters
    ----------
    path
        As `check_recording` returned it.
    family
        Family of the results' blurs.
    head_of
        Returns the description of a series from its first frame, its file, and whether
        it is that of the raw frames.
    stated
        Returns whether the series' description is to state the pixel size.
    raw
        Whether to write the raw frames, too.
    on_error
        Called with what is lost and why, on the thread; once per outage of the disk.
    queue_bytes
        Budget for frames that wait for the disk.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self,
        path: Path,
        family: BlurFamily,
        head_of: Callable[[FrameResult, Path, bool], SeriesHead],
        *,
        stated: Callable[[], bool] = lambda: True,
        raw: bool,
        on_error: Callable[[str], None],
        queue_bytes: int = _QUEUE_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._family, self._head_of = path, family, head_of
        self._stated, self._raw = stated, raw
        self._on_error = on_error
        self._budget = queue_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[FrameResult | None] = queue.SimpleQueue()
        self._bytes = self._waiting = self._dropped = 0
        self._ending = False
        # Only the thread changes these, replacing the whole tuple.
        self._stores: tuple[FrameStore, ...] = ()
        self._kind: object = None
        self._parts = self._written = self._raw_only = self._lost = self._unfit = 0
        self._error = ""
        self._retry_at = 0.0
        self._done = threading.Event()
        # A daemon: a disk that never responds must not keep the program from ending.
        self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self._thread.start()

    def add(self, result: FrameResult) -> bool:
        """Queue a result; returns at once, False if it is dropped."""
        if not self._raw and result.deblurred is not None:
            # Only shape and type of the raw frame are needed: queue it without pixels.
            stand_in = np.broadcast_to(np.zeros((), result.raw.dtype), result.raw.shape)
            result = replace(result, raw=stand_in)
        size = _bytes(result, self._raw)
        with self._lock:
            if self._ending:
                return False
            fits = self._waiting == 0 or self._bytes + size <= self._budget
            if not fits:
                self._dropped += 1
            else:
                self._bytes += size
                self._waiting += 1
                self._queue.put(result)
        if not fits:
            self._report(
                f"{self._path}: the disk is slower than the camera: frames are dropped"
            )
        return fits

    @property
    def has_room(self) -> bool:
        """Whether a frame would not have to be dropped, unless it is very large."""
        with self._lock:
            return 2 * self._bytes <= self._budget

    @property
    def counts(self) -> RecordingCounts:
        """The recording so far."""
        with self._lock:
            waiting, dropped = self._waiting, self._dropped
        stores = self._stores
        return RecordingCounts(
            self._path,
            file_of_part(self._path, 1, raw=True) if self._raw else None,
            parts=self._parts,
            written=self._written + (stores[0].written if stores else 0),
            raw_only=self._raw_only,
            waiting=waiting,
            dropped=dropped,
            lost=self._lost + sum(store.lost for store in stores),
            unfit=self._unfit,
            error=self._error,
        )

    def end(self) -> None:
        """Accept no more frames; waiting ones are still written. Returns at once."""
        with self._lock:
            if not self._ending:
                self._ending = True
                self._queue.put(None)

    def join(self, timeout: float) -> bool:
        """Wait until everything is written, after `end`; False after `timeout` s."""
        if not self._done.wait(timeout):
            return False
        self._thread.join()
        return True

    # ------------------------------------------------------------- the thread

    def _run(self) -> None:
        try:
            self._write()
        finally:
            with self._lock:
                self._ending = True
            try:
                self._close_stores()
            finally:
                self._done.set()

    def _write(self) -> None:
        flush_at = self._clock()
        while True:
            try:
                result = self._queue.get(timeout=_FLUSH_S)
            except queue.Empty:
                result = None
            else:
                if result is None:
                    break
                self._guard(lambda one=result: self._keep(one))  # type: ignore[misc]
                with self._lock:
                    self._waiting -= 1
                    self._bytes -= _bytes(result, self._raw)
            if self._clock() >= flush_at:
                for store in self._stores:
                    self._guard(store.flush)
                flush_at = self._clock() + _FLUSH_S

    def _report(self, text: str) -> None:
        try:
            self._on_error(text)
        except Exception:  # in the caller's code: it must not cost frames
            _log.exception("an error of a recording could not be reported: %s", text)

    def _guard(self, action: Callable[[], None]) -> None:
        """Execute an action; report an error of the disk, once per outage."""
        before = self._on_disk
        try:
            action()
        except OSError as error:
            text = error.strerror or str(error)
            if not self._error:
                self._report(
                    f"{self._path}: cannot be written ({text}); frames are lost until "
                    "it can be; the session continues"
                )
            self._error = text
        except Exception as error:
            self._unfit += 1
            self._report(f"{self._path}: a frame is not recorded: {error!r}")
        if self._error and self._on_disk > before:
            _log.warning("%s: written again", self._path)
            self._error = ""

    @property
    def _on_disk(self) -> int:
        return sum(store.written for store in self._stores)

    def _keep(self, result: FrameResult) -> None:
        raw = result.raw
        known = not self._raw or raw.dtype.str[1:] in _PIXELS
        if raw.ndim != 2 or 0 in raw.shape or not known:
            raise ValueError(
                f"shape {raw.shape}, {raw.dtype}: not a greyscale frame of a type that "
                "the file can hold"
            )
        kind = (raw.shape, raw.dtype.newbyteorder("="), self._stated())
        if kind != self._kind and not self._open(result):
            return
        self._kind = kind
        values = frame_values(result, self._family)
        image = raw if result.deblurred is None else result.deblurred
        images = (image.astype(np.float32, copy=False), raw)
        self._raw_only += result.deblurred is None
        failure: OSError | None = None
        for store, pixels in zip(self._stores, images, strict=False):
            try:
                store.append(pixels, values)
            except OSError as error:  # the other one may be on another disk
                failure = error
        if failure is not None:
            raise failure

    def _open(self, result: FrameResult) -> bool:
        """Begin new series; False until the next attempt after a disk error."""
        self._close_stores()
        self._kind = None
        if self._error and self._clock() < self._retry_at:
            self._lost += 1 + self._raw
            return False
        self._retry_at = self._clock() + _RETRY_S
        stores: list[FrameStore] = []
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part = self._free_part()
            for is_raw in (False, True)[: 1 + self._raw]:
                path = file_of_part(self._path, part, raw=is_raw)
                stores.append(_new_store(path, self._head_of(result, path, is_raw)))
        except BaseException:
            self._lost += 1 + self._raw
            for store in stores:
                store.close()
            raise
        self._stores = tuple(stores)
        self._parts += 1
        return True

    def _free_part(self) -> int:
        part = self._parts + 1
        while any(file.exists() for file in files_of_part(self._path, part)):
            part += 1
        return part

    def _close_stores(self) -> None:
        for store in self._stores:
            self._guard(store.close)
        stores, self._stores = self._stores, ()
        self._written += stores[0].written if stores else 0
        self._lost += sum(store.lost for store in stores)


def _new_store(path: Path, head: SeriesHead) -> FrameStore:
    # Only when they are needed: tensorstore takes a while to import.
    if is_zarr(path):
        from deepblur_live.session.recording.zarr_store import ZarrStore

        return ZarrStore(path, head)
    from deepblur_live.session.recording.tiff_store import TiffStore

    return TiffStore(path, head)


def _bytes(result: FrameResult, raw: bool) -> int:
    """Return the memory that a result holds while it waits."""
    deblurred = 0 if result.deblurred is None else result.deblurred.nbytes
    return deblurred + (result.raw.nbytes if raw or not deblurred else 0)
