"""The blur of a session at one moment, with what a report shows of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.session.quality import BlurQuality

__all__ = ["Moment", "Point"]


@dataclass(frozen=True, eq=False)
class Point:
    """The coefficients at one moment, as written in the drift log.

    Parameters
    ----------
    name
        ``"start"``, ``"worst"``, ``"end"``, or the name of the reference.
    time
        Seconds since the session began; None for the reference.
    coefficients, sigma
        (P,) in the family's unit.
    """

    name: str
    time: float | None
    coefficients: NDArray[np.float64]
    sigma: NDArray[np.float64]

    def is_same(self, other: Point) -> bool:
        """Return whether the other has the same name, time and numbers."""
        return (
            (self.name, self.time) == (other.name, other.time)
            and np.array_equal(self.coefficients, other.coefficients)
            and np.array_equal(self.sigma, other.sigma)
        )


@dataclass(frozen=True, eq=False)
class Moment:
    """The blur at one moment.

    Parameters
    ----------
    point
        Time and coefficients.
    quality
        Quality of the blur.
    psfs
        (n, K, K), float32: the PSF, or for a field those of `places`.
    errors
        (32, 32), float32: wavefront error over the sensor, family's unit, for a field.
    distance
        Distance from the mean of the calibration, and its standard deviation, in the
        metric's unit; None without a calibration.
    """

    point: Point
    quality: BlurQuality
    psfs: NDArray[np.float32]
    errors: NDArray[np.float32] | None = None
    distance: tuple[float, float] | None = None
