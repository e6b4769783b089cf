"""Live mode, snap and exposure of a core, controlled from a background thread."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

from deepblur_live.acquisition.core_signals import connect_direct, let_core_exit

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymmcore_plus import CMMCorePlus

__all__ = ["CameraLink"]

_POLL_S = 1.0
# Commands must not accumulate during a long exposure.
_MAX_COMMANDS = 4


class CameraLink:
    """Sends commands to a core from one thread and caches the camera's state.

    Camera calls block (a snap for its exposure, stopping a sequence until the last
    frame), so no method but `close` waits for the camera. Changes made elsewhere are
    noticed through the core's events and by polling once a second.

    Parameters
    ----------
    core
        The core, with or without a camera.
    """

    def __init__(self, core: CMMCorePlus) -> None:
        self._core = core
        self._live = False
        self._exposure_ms: float | None = None
        self._error = ""
        self._started_live = False
        self._commands: queue.Queue[tuple[str, Callable[[], object]] | None]
        self._commands = queue.Queue(_MAX_COMMANDS)
        self._closing = threading.Event()
        self._busy = threading.Event()
        events = core.events
        # Direct: a slot queued for the GUI thread could run after this object is gone.
        self._disconnect: tuple[Callable[[], None], ...] = (
            connect_direct(
                events.continuousSequenceAcquisitionStarted, self._on_live_started
            ),
            connect_direct(events.sequenceAcquisitionStopped, self._on_live_stopped),
            connect_direct(events.exposureChanged, self._on_exposure),
        )
        let_core_exit(core)
        # A daemon, so that a camera that does not respond cannot block the exit.
        self._thread = threading.Thread(
            target=self._run, name="camera controls", daemon=True
        )
        self._thread.start()

    @property
    def live(self) -> bool:
        """True while a continuous sequence runs, whoever started it."""
        return self._live

    @property
    def exposure_ms(self) -> float | None:
        """Exposure of the camera; None without a camera."""
        return self._exposure_ms

    @property
    def error(self) -> str:
        """The last error; empty after the next command that succeeds."""
        return self._error

    @property
    def busy(self) -> bool:
        """True while a command is queued or running."""
        return self._busy.is_set() or not self._commands.empty()

    @property
    def acquiring(self) -> bool:
        """True while an MDA runs and no command is sent."""
        return bool(self._core.mda.is_running())

    def set_live(self, live: bool) -> None:
        """Start or stop the continuous sequence."""
        self._submit("Live", self._start if live else self._stop)

    def snap(self) -> None:
        """Acquire one image; it arrives like any other frame."""
        self._submit("Snap", self._core.snap)

    def set_exposure(self, exposure_ms: float) -> None:
        """Set the exposure; live mode is paused, as many cameras require."""
        self._submit("Exposure", lambda: self._change_exposure(exposure_ms))

    def close(self, timeout: float = 5.0) -> bool:
        """Stop live mode if it was started here, and end the thread.

        Returns
        -------
        ended
            False if the camera did not respond within `timeout` seconds.
        """
        self._closing.set()
        try:
            self._commands.put_nowait(None)
        except queue.Full:
            pass  # the thread checks `_closing` after each command
        self._thread.join(timeout)
        for disconnect in self._disconnect:
            disconnect()
        self._disconnect = ()
        return not self._thread.is_alive()

    def _submit(self, name: str, command: Callable[[], object]) -> None:
        try:
            self._commands.put_nowait((name, command))
        except queue.Full:
            self._error = f"{name}: the camera is still busy with the previous command"

    def _run(self) -> None:
        self._poll()
        while not self._closing.is_set():
            try:
                item = self._commands.get(timeout=_POLL_S)
            except queue.Empty:
                self._poll()
                continue
            if item is None:
                break
            self._busy.set()
            self._do(*item)
            self._poll()
            self._busy.clear()
        if self._started_live and self._live:
            self._do("Live", self._stop)

    def _do(self, name: str, command: Callable[[], object]) -> None:
        try:
            if self.acquiring:
                raise RuntimeError("an acquisition is running")
            command()
        except Exception as error:  # a driver may raise anything
            self._error = f"{name}: {str(error).strip() or type(error).__name__}"
        else:
            self._error = ""

    def _poll(self) -> None:
        if self.acquiring:
            return
        try:
            if not self._core.getCameraDevice():
                self._exposure_ms, self._live = None, False
                return
            self._exposure_ms = float(self._core.getExposure())
            self._live = bool(self._core.isSequenceRunning())
        except Exception as error:
            self._error = f"Camera: {str(error).strip() or type(error).__name__}"

    def _start(self) -> None:
        if not self._core.isSequenceRunning():
            self._core.startContinuousSequenceAcquisition(0)
            self._started_live = True
        self._live = True

    def _stop(self) -> None:
        self._core.stopSequenceAcquisition()
        self._live = self._started_live = False

    def _change_exposure(self, exposure_ms: float) -> None:
        running, ours = bool(self._core.isSequenceRunning()), self._started_live
        if running:
            self._core.stopSequenceAcquisition()
        try:
            self._core.setExposure(exposure_ms)
            self._exposure_ms = float(self._core.getExposure())
        finally:
            if running:
                self._core.startContinuousSequenceAcquisition(0)
                self._live, self._started_live = True, ours

    def _on_live_started(self) -> None:
        self._live = True

    def _on_live_stopped(self, camera: str) -> None:
        self._live = False

    def _on_exposure(self, camera: str, exposure_ms: float) -> None:
        self._exposure_ms = float(exposure_ms)
