"""The noise of one frame, as given to the deblurring network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from deepblur_live.optics import NoiseModel, measure_noise

if TYPE_CHECKING:
    from deepblur_live.profile import Camera
    from deepblur_live.runtime.calibration import Scaled

__all__ = ["FrameNoise", "Noises"]

# Bounds of the variance of the scaled image: its logarithm is taken, and a calibration
# of another camera can give any number.
_LEAST, _LARGEST = 1e-12, 1e6
# Variance of rounding to whole grey values.
_ROUNDING = 1 / 12
# Two frames whose ranges differ by at most this share have similar light.
_ALIKE = 0.25


class Noises(NamedTuple):
    """The noise of a scaled frame, in its units, on the CPU.

    Parameters
    ----------
    used
        Noise used for deblurring.
    measured
        Noise measured from a frame, if `used` is the camera's calibration.
    """

    used: NoiseModel
    measured: NoiseModel | None = None


class FrameNoise:
    """Follows the noise of a camera's frames.

    It is taken from the camera's calibration; or measured from frames now and then; or,
    where the optics leave no frequencies at which to measure it, assumed white.

    Parameters
    ----------
    camera
        The profile's camera.
    cutoff
        The optics' coherent cut-off in cycles per pixel.
    every_s
        Least time between two measurements, in seconds of the frames' clock: between
        frames only the light changes, not the line. A frame of another range is
        measured anyway if the last one did not show the line.
    """

    def __init__(self, camera: Camera, cutoff: float, every_s: float = 0.0) -> None:
        self._camera, self._cutoff, self._every_s = camera, cutoff, every_s
        self.reset()

    def reset(self) -> None:
        """Forget the last measurement: the camera's settings have changed."""
        self._time, self._span = -math.inf, 0.0
        # Slope, intercept and least variance in grey values.
        self._line: tuple[float, float, float] | None = None

    def measure(self, scaled: Scaled, time: float, *, whole: bool) -> None:
        """Measure the noise of a frame, unless one was measured just before.

        Parameters
        ----------
        scaled
            The frame, taken at `time`.
        time
            Seconds; may run backwards.
        whole
            Whether the camera's values are whole numbers.
        """
        recent = 0 <= time - self._time < self._every_s
        span = scaled.span
        alike = abs(span - self._span) <= _ALIKE * self._span
        if recent and (alike or (self._line is not None and self._line[0] > 0)):
            return
        self._time, self._span = time, span
        rounding = _in_units(_ROUNDING if whole else 0.0, span)
        found = measure_noise(scaled.image, self._cutoff, rounding)
        self._line = None
        if found is not None:
            slope, base, least = (
                float(value) for value in (found.slope, found.intercept, found.least)
            )
            base = base * span * span - slope * span * scaled.low
            self._line = slope * span, base, least * span * span

    def of(self, scaled: Scaled, sigma: float, *, whole: bool) -> Noises:
        """Return the noise of a frame.

        Parameters
        ----------
        scaled
            The frame.
        sigma
            Standard deviation of the scaled frames' noise, from the identification.
        whole
            Whether the camera's values are whole numbers.
        """
        rounding = _ROUNDING if whole else 0.0
        measured = None if self._line is None else _in_light(scaled, *self._line)
        gain = self._camera.gain_e_per_adu
        if gain is None:
            if measured is not None:
                return Noises(measured)
            return Noises(_bounded(0.0, sigma**2, _in_units(rounding, scaled.span)))
        # In grey values: (electrons + read²) / gain², electrons = gain · (light -
        # offset). No light means read noise, whatever the offset's error.
        read = ((self._camera.read_noise_e or 0.0) / gain) ** 2
        base = read - (self._camera.offset_adu or 0.0) / gain
        return Noises(_in_light(scaled, 1 / gain, base, max(read, rounding)), measured)


def _in_light(scaled: Scaled, slope: float, base: float, least: float) -> NoiseModel:
    """Return the noise of a scaled frame from the line in its grey values."""
    span = scaled.span
    return _bounded(
        slope / span,
        _in_units(slope * scaled.low + base, span),
        _in_units(least, span),
    )


def _in_units(variance: float, span: float) -> float:
    """Return a variance in grey values squared in units of a scaled image."""
    # The square of a span may overflow.
    return variance / span / span


def _bounded(slope: float, intercept: float, least: float) -> NoiseModel:
    bounded = [
        [0.0 if math.isnan(value) else min(max(value, -_LARGEST), _LARGEST)]
        for value in (slope, intercept, max(least, _LEAST))
    ]
    return NoiseModel(*torch.tensor(bounded).unbind())
