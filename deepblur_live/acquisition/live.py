"""The live tap: reads frames of a running sequence and leaves them in the buffer."""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from deepblur_live.acquisition.metadata import live_metadata
from deepblur_live.acquisition.missed import CameraNumbers, Missed, classify

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from pymmcore_plus import CMMCorePlus

__all__ = ["LiveTap"]

_POLL_S = 0.001
_CHECK_RUNNING_S = 0.05
_IDLE_S = 0.25
"""Interval of checks for a sequence that was started without an event."""
_CHECK_EXPOSURE_S = 1.0
_MIN_RECHECK_S = 0.01
_LOOKS = 3
_UNNUMBERED = -1
_TRANSIENT = (IndexError, RuntimeError, SystemError)
"""Errors of the core that may not occur again; the last comes from its binding, for an
image of a camera that was just unloaded."""


class LiveTap:
    """Polls the newest frame of a core's sequence buffer.

    Live mode has no event for a new frame. When the number of images in the buffer has
    changed, the tap reads the newest one; its ``ImageNumber`` tag says whether it is
    new, and gaps in the numbers how many were missed, of which those still in the
    buffer can be read as well. It pauses during an MDA, whose frames come as events.

    Parameters
    ----------
    core
        The core to poll. Held weakly: the thread ends once it has been freed.
    deliver
        Called with (pixels, metadata) of each new frame, on the tap's thread.
    on_missed
        Called with the frames missed before a new one, by reason.
    every
        Returns whether frames that are still in the buffer are wanted too, in order;
        else they are missed.
    on_error
        Called with a text: when a camera stops sending or ends live mode by itself,
        once per outage; at an error of the core, once each.
    stale_after_s
        Time without frames, beyond the exposure, after which an error is reported.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        core: CMMCorePlus,
        deliver: Callable[[NDArray[Any], Mapping[str, Any]], object],
        *,
        on_missed: Callable[[Missed], None],
        every: Callable[[], bool] = lambda: False,
        on_error: Callable[[str], None],
        stale_after_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._core: CMMCorePlus = weakref.proxy(core)
        self._deliver = deliver
        self._on_missed, self._every = on_missed, every
        self._on_error = on_error
        self._stale_after = stale_after_s
        self._clock = clock

        self._live = False
        self._begun = False
        self._event_pending = False
        self._continuous = False
        self._ended_at = 0.0
        self._count = 0
        self._numbers: dict[str, int] = {}
        # Images in the buffer when the last was read.
        self._held = 0
        self._camera_numbers = CameraNumbers()
        self._another_reader = False
        self._check_running_at = self._check_exposure_at = self._recheck_at = -1e9
        self._exposure_ms = 0.0
        self._seen_at = 0.0
        self._stale = False
        self._errors: set[str] = set()

        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start to poll, on a thread of its own."""
        self._thread = threading.Thread(
            target=self._run, name="deepblur-live tap", daemon=True
        )
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                self._on_error(f"the live tap did not end within {timeout:g} s")

    def sequence_began(self, *, continuous: bool = False) -> None:
        """Poll at once: a sequence was started. Called from any thread."""
        self._continuous = continuous
        self._begun = True
        self._wake.set()

    def sequence_stopped(self) -> None:
        """Note that the sequence was stopped on purpose. Called from any thread."""
        self._continuous = False

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                delay = self.step()
            except ReferenceError:
                return  # the core has been freed
            except Exception as error:
                delay = _IDLE_S
                text = f"polling for live frames failed: {error!r}"
                if text not in self._errors and len(self._errors) < 16:
                    self._errors.add(text)
                    self._on_error(text)
            if self._wake.wait(delay):
                self._wake.clear()

    def step(self) -> float:
        """Poll once; return the seconds until the next time."""
        now = self._clock()
        try:
            return self._poll(now)
        except _TRANSIENT:
            # The core empties its buffer when it overflows, and refuses calls while a
            # device is busy: try again. If it persists, it is reported as silence.
            if self._live:
                self._report_silence(now)
            return _MIN_RECHECK_S

    def _poll(self, now: float) -> float:
        if self._core.mda.is_running():
            self._live = self._begun = self._event_pending = self._continuous = False
            return _IDLE_S
        if self._begun:
            # Even if it has ended by now, its last frame is still to be read.
            self._begun = False
            if not self._event_pending:
                self._begin(now)
            self._event_pending = False
        if now >= self._check_running_at:
            self._check_running_at = now + _CHECK_RUNNING_S
            running = self._core.isSequenceRunning()
            if running and not self._live:
                # Its event comes a moment after the start, and must not be mistaken for
                # another sequence, whose frames would be read again.
                self._begin(now)
                self._event_pending = True
            elif self._live and not running:
                self._read(now, numbered_only=True)
                self._live = self._event_pending = False
                self._ended_at = now
        if not self._live:
            self._check_running_at = now
            self._report_unexpected_end(now)
            return _IDLE_S
        if now >= self._check_exposure_at:
            self._check_exposure_at = now + _CHECK_EXPOSURE_S
            self._exposure_ms = self._core.getExposure()
        count = self._core.getRemainingImageCount()
        # The count stays the same in a full buffer, or if somebody takes each frame.
        changed = count != self._count
        if count and (changed or now >= self._recheck_at):
            self._read(now, numbered_only=not changed)
            wait = max(_MIN_RECHECK_S, self._exposure_ms / 2e3)
            self._recheck_at = now + wait
        self._count = count
        self._report_silence(now)
        return _POLL_S

    def _begin(self, now: float) -> None:
        self._live = True
        self._stale = False
        self._seen_at = now
        self._count = 0
        self._numbers.clear()
        self._camera_numbers.clear()
        self._another_reader = False
        self._check_exposure_at = now
        self._check_running_at = now

    def _read(self, now: float, *, numbered_only: bool) -> None:
        core = self._core
        try:
            pixels, metadata = core.getLastImageAndMD()
            # A frame that is inserted in between counts as one that is still there.
            held, capacity = (
                core.getRemainingImageCount(),
                core.getBufferTotalCapacity(),
            )
        except _TRANSIENT:
            return  # the buffer was emptied after its frames were counted
        tags = dict(metadata)
        if not _is_whole(pixels, tags):
            return
        camera = str(tags.get("Camera", ""))
        number = int(tags.get("ImageNumber", _UNNUMBERED))
        last = self._numbers.get(camera)
        if numbered_only if number == _UNNUMBERED else number == last:
            return
        self._numbers[camera] = number
        if last is not None and number != _UNNUMBERED:
            missed = classify(
                max(0, number - last - 1),
                self._held,
                held,
                capacity,
                shared=len(self._numbers) > 1,
                read=self._another_reader,
            )
            missed += Missed(
                not_sent=self._camera_numbers.not_sent(camera, number, tags)
            )
            self._another_reader |= missed.taken > 0
            if missed.unread and self._every():
                missed = self._catch_up(number, missed)
            if missed.total:
                self._on_missed(missed)
        self._held = held
        self._seen_at = now
        self._stale = False
        self._deliver(pixels, live_metadata(tags, self._exposure_ms))

    def _catch_up(self, number: int, missed: Missed) -> Missed:
        """Deliver frames before `number` that are still there; return those missed."""
        delivered = behind = 0
        for wanted in range(number - missed.unread, number):
            # Newer frames may have arrived: look again where it must be now.
            for _ in range(_LOOKS):
                try:
                    pixels, metadata = self._core.getNBeforeLastImageAndMD(
                        number - wanted + behind
                    )
                except _TRANSIENT:
                    break  # taken in the meantime
                tags = dict(metadata)
                found = int(tags.get("ImageNumber", _UNNUMBERED))
                if found == wanted and _is_whole(pixels, tags):
                    self._deliver(pixels, live_metadata(tags, self._exposure_ms))
                    delivered += 1
                if found <= wanted:
                    break
                behind += found - wanted
        return replace(missed, unread=missed.unread - delivered)

    def _report_unexpected_end(self, now: float) -> None:
        # After a deliberate stop, the event comes a moment later than the end.
        if self._continuous and now - self._ended_at > _IDLE_S:
            self._continuous = False
            self._on_error(
                f"camera {self._core.getCameraDevice()!r} ended live mode by itself "
                "(some do when the ROI changes); start it again"
            )

    def _report_silence(self, now: float) -> None:
        silence = now - self._seen_at
        if self._stale or silence <= self._exposure_ms / 1e3 + self._stale_after:
            return
        self._stale = True
        self._on_error(
            f"camera {self._core.getCameraDevice()!r} sends no frames: none for "
            f"{silence:.0f} s in live mode at {self._exposure_ms:g} ms exposure"
            + (", or another reader takes all of them" if self._another_reader else "")
        )


def _is_whole(pixels: NDArray[Any], tags: Mapping[str, Any]) -> bool:
    # The core reads images from its buffer with the camera's present size: just after
    # the ROI or the binning has changed, the last frame of the old size is garbled.
    height = int(tags.get("Height", pixels.shape[0]))
    width = int(tags.get("Width", pixels.shape[1]))
    return pixels.shape[:2] == (height, width)
