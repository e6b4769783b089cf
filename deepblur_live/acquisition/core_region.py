"""Where a core's frames lie on the sensor, and how its pixels are binned."""

from __future__ import annotations

import math
import weakref
from time import monotonic
from typing import TYPE_CHECKING, Any

from pymmcore_plus import Keyword

from deepblur_live.acquisition.series import parse_binning

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymmcore_plus import CMMCorePlus

__all__ = ["CoreRegion"]

_CHECK_SIZE_S = 0.5


class CoreRegion:
    """The region of interest of a core's camera, read when it may have changed.

    That is before a snap or a sequence, as cameras keep it during one. The objective
    may be changed at any time: the pixel size is read again twice a second, from
    the core's cache, which takes microseconds. The core's events are not used: they
    come from one of the core's own threads, and may coincide with a disconnection.

    Cores do not report the sensor's size: it is the largest region so far, where one
    began at the sensor's first pixel.

    Parameters
    ----------
    core
        The core, held weakly.
    clock
        Monotonic seconds.
    """

    def __init__(
        self, core: CMMCorePlus, clock: Callable[[], float] = monotonic
    ) -> None:
        self._core: CMMCorePlus = weakref.proxy(core)
        self._clock = clock
        self._size_um, self._size_at = 0.0, -math.inf
        self._stated = False
        self._sensors: dict[str, tuple[int, int]] = {}
        self._binnings: dict[str, int] = {}
        self._shape: tuple[int, ...] | None = None
        self._metadata: dict[str, Any] = {}

    def changed(self) -> None:
        """Read the region again with the next frame."""
        self._shape = None

    def metadata(self, shape: tuple[int, ...]) -> dict[str, Any]:
        """Return a frame's region, sensor, binning and pixel size, where known.

        As ``"region"``, ``"sensor"``, ``"binning"`` and ``"pixel_size_nm"``.

        The region is None if it could not be read; the pixel size is 0 if the core
        has stated one before, but not for the present objective.

        Parameters
        ----------
        shape
            (H, W) of the frame. The region is read again when it changes.
        """
        if shape != self._shape or self._resized():
            self._shape = shape
            try:
                self._metadata = self._read(shape)
            except (RuntimeError, ValueError):
                # The camera may be busy: the place is unknown until the next frame.
                self._shape, self._metadata = None, {"region": None}
        return self._metadata

    def _resized(self) -> bool:
        """Return whether the pixel size has changed."""
        now = self._clock()
        if now - self._size_at < _CHECK_SIZE_S:
            return False
        self._size_at = now
        try:
            # From the cache: the turret itself may be slow to answer.
            return bool(self._core.getPixelSizeUm(True) != self._size_um)
        except RuntimeError:
            return False

    def _read(self, shape: tuple[int, ...]) -> dict[str, Any]:
        core = self._core
        camera = core.getCameraDevice()
        left, top, width, height = core.getROI()
        binning = _binning(core, camera)
        known: dict[str, Any] = {"region": None}
        # The core includes the binning and the objective in use; 0 if it knows no size.
        self._size_um, self._size_at = core.getPixelSizeUm(True), self._clock()
        self._stated |= self._size_um > 0
        if self._stated:
            known["pixel_size_nm"] = 1000 * self._size_um
        if binning is None:
            return known
        known["binning"] = binning
        before = self._binnings.setdefault(camera, binning)
        if before != binning:
            known["binning_before"] = before
        if (height, width) != tuple(shape[:2]):
            # The region has been changed since this frame was taken.
            return known
        top, left, height, width = (
            binning * value for value in (top, left, height, width)
        )
        known["region"] = (top, left, height, width)
        sensor = self._sensors.get(camera)
        if top == left == 0:
            rows, columns = sensor or (0, 0)
            sensor = self._sensors[camera] = max(rows, height), max(columns, width)
        if sensor is not None:
            known["sensor"] = sensor
        return known


def _binning(core: CMMCorePlus, camera: str) -> int | None:
    """Return the camera's binning; 1 without one, None for unequal sides ("2x1")."""
    name = Keyword.Binning.value
    if not core.hasProperty(camera, name):
        return 1
    return parse_binning(core.getProperty(camera, name))
