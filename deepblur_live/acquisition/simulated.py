"""The simulated microscope as a pymmcore-plus camera, with the truth in its metadata.

``loadSystemConfiguration(SIMULATED_CONFIG)`` on a `UniMMCore` brings it up from a
Micro-Manager configuration; `simulated_core` does it in code, with any sample.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pymmcore_plus.experimental.unicore import (
    SimpleCameraDevice,
    StageDevice,
    UniMMCore,
)

from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.acquisition.trajectory import Step, bump
from deepblur_live.acquisition.truth import TRUTH_KEY, TRUTH_TIME_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import DTypeLike, NDArray

__all__ = [
    "CAMERA_LABEL",
    "SIMULATED_CONFIG",
    "STAGE_LABEL",
    "SimulatedCamera",
    "SimulatedStage",
    "simulated_core",
]

SIMULATED_CONFIG = Path(__file__).parent / "data" / "SimulatedMicroscope.cfg"
CAMERA_LABEL = "Camera"
STAGE_LABEL = "Focus"

# The core waits 2 s for the current frame when a sequence is stopped.
_EXPOSURE_RANGE_MS = (0.1, 1500.0)
# How long the interpreter's exit waits for a frame that is being computed.
_EXIT_S = 20.0
# Travel of the focus drive to each side: a PSF further out exceeds any window.
_TRAVEL_UM = 2.0
# A configuration creates its devices without arguments: a stage belongs to the camera
# created last.
_newest_camera: weakref.ref[SimulatedCamera] | None = None


class SimulatedCamera(SimpleCameraDevice):
    """A camera that images a `SimulatedSample`, one frame per exposure.

    The sample's clock starts with the first frame. Each frame's metadata holds
    ``"truth"`` (the true γ) and ``"truth_time"``: the sharp frame is
    ``camera.sample.truth_image(truth_time)``; `read_truth` finds both.

    Properties: ``Exposure`` (ms), ``AberrationDrift`` (On/Off: holds the aberrations as
    they are), ``Noise`` (On/Off), ``Bump`` (Idle/Now: an extra step at once).

    Parameters
    ----------
    sample
        What it images; the default sample otherwise.
    exposure_ms
        Exposure time; also the time between frames of a sequence.
    clock
        Seconds, monotonic.
    wait
        Waits a number of seconds: what remains of the exposure after computing a frame.

    Attributes
    ----------
    focus_um
        Position of the focus drive; `SimulatedStage` sets it.
    """

    def __init__(
        self,
        sample: SimulatedSample | None = None,
        *,
        exposure_ms: float = 50.0,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        global _newest_camera
        super().__init__()
        _newest_camera = weakref.ref(self)
        self._computing = threading.Lock()
        atexit.register(_compute_no_more, weakref.ref(self))
        self.focus_um = 0.0
        self.sample = SimulatedSample() if sample is None else sample
        self._clock = clock
        self._wait = wait
        self._origin: float | None = None
        self._held_since: float | None = None
        self._held = 0.0
        self._noisy = True
        self.set_exposure(exposure_ms)
        self.set_property_limits("Exposure", _EXPOSURE_RANGE_MS)
        kind = type(self)
        for name, values, getter, setter in (
            ("AberrationDrift", ("On", "Off"), kind._get_drift, kind._set_drift),
            ("Noise", ("On", "Off"), kind._get_noise, kind._set_noise),
            ("Bump", ("Idle", "Now"), kind._get_bump, kind._set_bump),
        ):
            self.register_property(
                name,
                property_type=str,
                allowed_values=values,
                getter=getter,
                setter=setter,
            )

    def description(self) -> str:
        """Return what the device is."""
        return "Simulated microscope: a micrograph under drifting aberrations"

    def get_exposure(self) -> float:
        """Return the exposure in ms."""
        return self._exposure_ms

    def set_exposure(self, exposure: float) -> None:
        """Set the exposure in ms; a core may pass it as text."""
        value = float(exposure)
        low, high = _EXPOSURE_RANGE_MS
        if not low <= value <= high:
            raise ValueError(
                f"exposure {value} ms: the simulated camera takes {low} to {high} ms"
            )
        self._exposure_ms = value

    def sensor_shape(self) -> tuple[int, int]:
        """Return (H, W) of the full frame."""
        return self.sample.shape

    def dtype(self) -> DTypeLike:
        """Return the frames' type."""
        return np.uint16

    def elapsed(self) -> float:
        """Return the sample's time in seconds: 0 until the first frame."""
        return 0.0 if self._origin is None else self._clock() - self._origin

    def snap(self, buffer: NDArray[np.uint16]) -> Mapping[str, Any]:
        """Expose one frame into `buffer` (H, W), taking the time of the exposure."""
        now = self._clock()
        if self._origin is None:
            self._origin = now
        moment = now - self._origin
        with self._computing:
            frame = self.sample.frame(
                moment,
                self._trajectory_time(moment),
                noisy=self._noisy,
                z_um=self.focus_um,
            )
        buffer[:] = frame.pixels
        remaining = self._exposure_ms / 1000 - (self._clock() - now)
        if remaining > 0:
            self._wait(remaining)
        return {
            TRUTH_KEY: [float(value) for value in frame.coefficients],
            TRUTH_TIME_KEY: frame.time,
        }

    def _trajectory_time(self, moment: float) -> float:
        return (moment if self._held_since is None else self._held_since) - self._held

    def _get_drift(self) -> str:
        return "On" if self._held_since is None else "Off"

    def _set_drift(self, value: str) -> None:
        moment = self.elapsed()
        if value == "Off" and self._held_since is None:
            self._held_since = moment
        elif value == "On" and self._held_since is not None:
            self._held += moment - self._held_since
            self._held_since = None

    def _get_noise(self) -> str:
        return "On" if self._noisy else "Off"

    def _set_noise(self, value: str) -> None:
        self._noisy = value == "On"

    def _get_bump(self) -> str:
        return "Idle"

    def _set_bump(self, value: str) -> None:
        if value == "Now":
            sample = self.sample
            step = Step(self._trajectory_time(self.elapsed()), bump(sample.family))
            sample.trajectory = sample.trajectory.with_step(step)


def _compute_no_more(reference: weakref.ref[SimulatedCamera]) -> None:
    """Wait for the frame that is being computed, and allow no other.

    The thread of a sequence may outlive its end by a frame. If the interpreter is
    finalised while that thread is inside torch, the process is aborted (exit code 134).
    """
    camera = reference()
    if camera is not None:
        camera._computing.acquire(timeout=_EXIT_S)


class SimulatedStage(StageDevice):
    """A focus drive that moves the focus of a `SimulatedCamera`, at once.

    A larger position is deeper in the specimen. Position 0 leaves the aberrations as
    the sample's trajectory has them.

    Parameters
    ----------
    camera
        The camera whose focus it moves; by default the camera created last.

    Raises
    ------
    ValueError
        There is no camera.
    """

    def __init__(self, camera: SimulatedCamera | None = None) -> None:
        super().__init__()
        found = camera or (None if _newest_camera is None else _newest_camera())
        if found is None:
            raise ValueError(
                "a simulated stage needs a simulated camera: load it first"
            )
        self._camera = found
        self._zero = 0.0

    def description(self) -> str:
        """Return what the device is."""
        return "Focus drive of the simulated microscope"

    def get_position_um(self) -> float:
        """Return the position."""
        return self._camera.focus_um - self._zero

    def set_position_um(self, val: float) -> None:
        """Move to a position."""
        target = float(val) + self._zero
        if abs(target) > _TRAVEL_UM:
            raise ValueError(
                f"position {val} µm: the simulated stage travels {_TRAVEL_UM:g} µm to "
                "each side"
            )
        self._camera.focus_um = target
        self.core.events.stagePositionChanged.emit(self.get_label(), float(val))

    def home(self) -> None:
        """Move to the origin."""
        self.set_position_um(0.0)

    def stop(self) -> None:
        """Do nothing: moves end at once."""

    def set_origin(self) -> None:
        """Call the present position 0."""
        self._zero = self._camera.focus_um


def simulated_core(
    sample: SimulatedSample | None = None,
    *,
    exposure_ms: float = 50.0,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> UniMMCore:
    """Return a core with the simulated microscope, ready for snap, live and MDA.

    Keep the reference: pymmcore-plus holds its instance weakly. Pass a sample to get
    its sharp images later: ``sample.truth_image(read_truth(metadata).time)``.

    Parameters
    ----------
    sample
        What the camera images; the default sample otherwise.
    exposure_ms
        Exposure time.
    clock, wait
        The camera's, see `SimulatedCamera`.
    """
    camera = SimulatedCamera(sample, exposure_ms=exposure_ms, clock=clock, wait=wait)
    core = UniMMCore()
    core.loadPyDevice(CAMERA_LABEL, camera)
    core.initializeDevice(CAMERA_LABEL)
    core.setCameraDevice(CAMERA_LABEL)
    core.loadPyDevice(STAGE_LABEL, SimulatedStage(camera))
    core.initializeDevice(STAGE_LABEL)
    core.setFocusDevice(STAGE_LABEL)
    # There is no shutter: with auto shutter on, snapping asks for one.
    core.setAutoShutter(False)
    core.definePixelSizeConfig("Simulated")
    core.setPixelSizeUm("Simulated", camera.sample.pixel_size_nm / 1000)
    return core
