"""The noise of one frame, as the deblurring network is told it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from deepblur_live.optics import NoiseModel

if TYPE_CHECKING:
    from deepblur_live.profile import Camera
    from deepblur_live.runtime.calibration import Scaled

__all__ = ["noise_model"]

# Bounds of the variance of the scaled image: its logarithm is taken, and a calibration
# of another camera can give any number.
_LEAST, _LARGEST = 1e-12, 1e6
# Variance of rounding to whole grey values.
_ROUNDING = 1 / 12


def noise_model(
    scaled: Scaled, camera: Camera, sigma: float, *, whole: bool
) -> NoiseModel:
    """Return the noise of a scaled frame, in its units, on the CPU.

    From the camera's calibration; without one it is white.

    Parameters
    ----------
    scaled
        The frame.
    camera
        The profile's.
    sigma
        Standard deviation that the identification found in the scaled frames.
    whole
        Whether the camera's values are whole numbers.
    """
    rounding = _ROUNDING if whole else 0.0
    gain = camera.gain_e_per_adu
    if gain is None:
        return _scaled(0.0, sigma**2, _in_units(rounding, scaled.span))
    # In grey values: (electrons + read²) / gain², electrons = gain · (light - offset).
    read = ((camera.read_noise_e or 0.0) / gain) ** 2
    dark = scaled.low - (camera.offset_adu or 0.0)
    return _scaled(
        1 / gain / scaled.span,
        _in_units(dark / gain + read, scaled.span),
        # No light means read noise, whatever the offset's error.
        _in_units(max(read, rounding), scaled.span),
    )


def _in_units(variance: float, span: float) -> float:
    """Return a variance in grey values squared in units of a scaled image."""
    # The square of a span may overflow.
    return variance / span / span


def _scaled(slope: float, intercept: float, least: float) -> NoiseModel:
    values = (slope, intercept, max(least, _LEAST))
    bounded = torch.tensor(values, dtype=torch.float64).clamp(-_LARGEST, _LARGEST)
    return NoiseModel(*bounded.float()[:, None])
