"""A stack of a bead slide: its light, noise, and which planes and pixels a fit uses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.calibration.detect import best_plane
from deepblur_live.calibration.least_squares import PixelNoise
from deepblur_live.identification.beads.detect import background_noise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from deepblur_live.calibration.model import StackModel
    from deepblur_live.profile import Camera, Optics

__all__ = [
    "LARGEST_DEFOCUS",
    "BeadStack",
    "CalibrationError",
    "bead_stack",
    "crop_side",
]

LARGEST_DEFOCUS = 0.4
"""Planes within this defocus, waves rms, are used."""

# Crops reach this many λ/NA to each side, as far as such a defocus spreads the light
# (docs/decisions/0183-bead-stacks.md).
_REACH = 2.9
# Fewest planes: with one the sign of the even modes is ambiguous, and a fit often ends
# in a wrong minimum.
_FEWEST_PLANES = 3
# Variance per light before it is measured, where the camera is not calibrated.
_FIRST_GAIN = 0.3


class CalibrationError(ValueError):
    """A slide or file that gives no calibration; the text says what would be right."""


@dataclass(frozen=True)
class BeadStack:
    """The planes of a stack near focus.

    Parameters
    ----------
    light
        (Z, H, W): electrons with a calibrated camera, grey values otherwise.
    z_um
        Position of each plane from that of best focus, µm; larger is deeper.
    noise
        Noise of a pixel.
    calibrated
        Whether the camera's gain is known.
    numbers
        Which planes of the recorded stack these are.
    unusable
        Planes that are constant or not finite.
    """

    light: NDArray[np.float64]
    z_um: tuple[float, ...]
    noise: PixelNoise
    calibrated: bool
    numbers: tuple[int, ...]
    unusable: tuple[int, ...] = ()


def crop_side(optics: Optics) -> int:
    """Return the side, in pixels, of the crop that the fit of a bead needs."""
    cutoff = optics.numerical_aperture * optics.pixel_size_nm / optics.wavelength_nm
    return 2 * math.ceil(_REACH / cutoff) + 1


def bead_stack(
    frames: Sequence[NDArray[Any]],
    z_um: Sequence[float],
    model: StackModel,
    camera: Camera,
) -> BeadStack:
    """Return the planes near focus as light. Planes without light are left out.

    Parameters
    ----------
    frames
        (Z) planes (H, W) as the camera gave them.
    z_um
        Their positions, in order; larger is deeper in the specimen.
    model
        Of any planes: the optics, and the size of beads in focus.
    camera
        The profile's.

    Raises
    ------
    CalibrationError
        The planes differ in size, are too few, too small or too far apart, or show no
        light.
    """
    if len({frame.shape for frame in frames}) != 1:
        raise CalibrationError("the planes differ in size: give one stack")
    side, shape = model.side, frames[0].shape
    if len(shape) != 2 or min(shape) < 2 * side:
        raise CalibrationError(
            f"planes of shape {shape}: a bead's fit needs {side} pixels, and a frame "
            "at least twice as many"
        )
    planes = [np.asarray(frame, dtype=np.float64) for frame in frames]
    good = [k for k, p in enumerate(planes) if np.isfinite(p).all() and np.ptp(p) > 0]
    if not good:
        raise CalibrationError(
            "all planes are constant, or contain NaN or infinite values"
        )
    stack, places = np.stack([planes[k] for k in good]), np.asarray(z_um)[good]
    middle = best_plane(stack, model.bead_width, side)
    places = places - places[middle]
    reach_um = LARGEST_DEFOCUS / model.waves_per_um
    near = np.flatnonzero(np.abs(places) <= reach_um * (1 + 1e-6))
    if len(near) < _FEWEST_PLANES:
        raise CalibrationError(
            f"{len(near)} of {len(stack)} planes lie within {reach_um:.2g} µm of focus "
            f"(plane {good[middle]}), and a calibration needs at least "
            f"{_FEWEST_PLANES}: record a stack through focus with steps of at most "
            f"{2 * reach_um / 6:.2g} µm"
        )
    stack = stack[near]
    level = float(np.median(stack))
    gain = camera.gain_e_per_adu
    if gain is not None:
        light = (stack - (camera.offset_adu or 0.0)) * gain
        noise = PixelNoise((camera.read_noise_e or 0.0) ** 2)
    else:
        light = stack
        floor = float(np.median([background_noise(plane) for plane in stack])) ** 2
        noise = PixelNoise(max(floor, 1e-12), _FIRST_GAIN, level)
    return BeadStack(
        light,
        tuple(places[near].tolist()),
        noise,
        gain is not None,
        tuple(good[k] for k in near),
        tuple(sorted(set(range(len(planes))) - set(good))),
    )
