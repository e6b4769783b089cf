"""Live, snap and exposure of a core, asked on a thread of their own."""

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
# A long exposure must not pile up commands behind it.
_MAX_COMMANDS = 4


class CameraLink:
    """Asks the core on one thread, and remembers what the core last said.

    Cameras take their time (a snap lasts its exposure, stopping a sequence waits for
    the last frame), so nothing here waits for one except `close`. What others do to
    the camera is seen through the core's events and a poll each second.

    Parameters
    ----------
    core
        Any core; it need not have a camera.
    """

    def __init__(self, core: CMMCorePlus) -> None:
        self._core = core
        self._live = False
        self._exposure_ms: float | None = None
        self._error = ""
        self._started_live = False
        self._commands: queue.Queue[tuple[str, Callable[[], None]] | None]
        self._commands = queue.Queue(_MAX_COMMANDS)
        self._closing = threading.Event()
        self._busy = threading.Event()
        events = core.events
        # Direct: a slot queued for the window's thread may come after we are gone.
        self._disconnect: tuple[Callable[[], None], ...] = (
            connect_direct(
                events.continuousSequenceAcquisitionStarted, self._on_live_started
            ),
            connect_direct(events.sequenceAcquisitionStopped, self._on_live_stopped),
            connect_direct(events.exposureChanged, self._on_exposure),
        )
        let_core_exit(core)
        # A camera that never answers must not keep the program from ending.
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
        """Exposure of the camera, None without a camera."""
        return self._exposure_ms

    @property
    def error(self) -> str:
        """What went wrong last, empty once something has worked since."""
        return self._error

    @property
    def busy(self) -> bool:
        """True while a command is under way."""
        return self._busy.is_set() or not self._commands.empty()

    @property
    def acquiring(self) -> bool:
        """True while an MDA runs: hands off the camera."""
        return bool(self._core.mda.is_running())

    def set_live(self, live: bool) -> None:
        """Start or stop the continuous sequence."""
        self._ask("Live", self._start if live else self._stop)

    def snap(self) -> None:
        """Take one picture; it comes in the way all frames do."""
        self._ask("Snap", self._snap)

    def set_exposure(self, exposure_ms: float) -> None:
        """Set the exposure, pausing live mode for it: many cameras insist."""
        self._ask("Exposure", lambda: self._change_exposure(exposure_ms))

    def close(self, timeout: float = 5.0) -> bool:
        """Stop live if it was started here, and end the thread.

        Returns
        -------
        ended
            False when the camera did not answer within `timeout` seconds.
        """
        self._closing.set()
        try:
            self._commands.put_nowait(None)
        except queue.Full:
            pass  # the thread looks at `_closing` after each command
        self._thread.join(timeout)
        for disconnect in self._disconnect:
            disconnect()
        self._disconnect = ()
        return not self._thread.is_alive()

    def _ask(self, name: str, command: Callable[[], None]) -> None:
        try:
            self._commands.put_nowait((name, command))
        except queue.Full:
            self._error = f"{name}: the camera is still busy with the last command"

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

    def _do(self, name: str, command: Callable[[], None]) -> None:
        try:
            if self.acquiring:
                raise RuntimeError("an acquisition is running")
            command()
        except Exception as error:  # a driver may raise anything: say it, stay
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

    def _snap(self) -> None:
        self._core.snap()

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
