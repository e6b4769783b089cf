"""Can estimates still be compared with the baseline's? If not, a new one is begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.drift import Brightness
from deepblur_live.session.scenery import Scenery
from deepblur_live.session.specimen import SpecimenWatch

if TYPE_CHECKING:
    from deepblur_live.drift import DriftMonitor
    from deepblur_live.runtime.frame import Frame
    from deepblur_live.session.telling import Telling

__all__ = ["Comparable", "frame_light"]

# So many pixels a side make a mean.
_SIDE = 128
_DIM_PERCENTILE = 5.0


def frame_light(frame: Frame, dark: float | None) -> float:
    """Return the mean of a frame above its dark, in the frame's units.

    `dark` is the camera's, where it is known. If not, the frame's own dim parts stand
    for it: whatever the offset and the background, the difference goes with the light.
    A blur that grows makes it 5 % less for 0.1 waves.
    """
    step = max(1, min(frame.pixels.shape) // _SIDE)
    pixels = frame.pixels[::step, ::step]
    if dark is None:
        dark = float(np.percentile(pixels, _DIM_PERCENTILE))
    return float(np.mean(pixels, dtype=np.float64)) - dark


class Comparable:
    """Has the monitor begin anew where frames show something else, or otherwise.

    Parameters
    ----------
    monitor
        Whose baseline it is.
    telling
        Where it is told why.
    dark
        Of the camera, in its units, where it is known.
    """

    def __init__(
        self, monitor: DriftMonitor, telling: Telling, dark: float | None
    ) -> None:
        self.specimen = SpecimenWatch()
        self._monitor = monitor
        self._telling = telling
        self._scenery = Scenery()
        self._dark = dark
        self._brightness = Brightness()

    def follow(self, frame: Frame) -> None:
        """Take in a frame that was identified, before its estimate is."""
        reason = self.specimen.notice(frame)
        if reason:
            self._scenery.reset()
        # Always asked, for it is the last frame that the next is compared with.
        if reason := self._scenery.notice(frame.pixels) or reason:
            self._brightness.reset()
            self._monitor.specimen_changed(reason)
            self._telling.event("specimenChanged", reason=reason)
        armed = self._monitor.status.baseline is not None
        light = frame_light(frame, self._dark)
        if reason := self._brightness.notice(frame.time, light, armed):
            self._monitor.frames_changed(reason)
            self._telling.event("brightnessChanged", reason=reason)
        self._monitor.light_changed(self._brightness.change)
