"""What a bead's fit means in numbers that people compare: Strehl ratio and widths."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.calibration.model import BeadParameters, StackModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Widths", "point_images", "strehl", "widths"]

# Points per sample that the peak is looked for at; planes of the width in depth.
_FINER, _PLANES = 8, 61


class Widths(NamedTuple):
    """Full widths at half maximum, nm: along rows, along columns, and in depth.

    NaN in depth where the peak does not fall to its half within the planes.
    """

    along_rows: float
    along_columns: float
    axial: float

    @property
    def lateral(self) -> float:
        """Geometric mean of the lateral widths, nm."""
        return float(np.sqrt(self.along_rows * self.along_columns))

    @property
    def asymmetry(self) -> float:
        """Larger over smaller lateral width."""
        pair = (self.along_rows, self.along_columns)
        return max(pair) / min(pair)


def strehl(model: StackModel, coefficients: NDArray[np.float64]) -> float:
    """Return the Strehl ratio of the pupil (P,): without Gaussian, at the bead's z."""
    optics = model.optics
    family = ZernikeFamily(
        optics.numerical_aperture,
        optics.wavelength_nm,
        optics.refractive_index,
        optics.pixel_size_nm,
        model.noll,
        apodisation=optics.apodisation,
    )
    return float(family.strehl(coefficients))


def widths(model: StackModel, bead: BeadParameters) -> Widths:
    """Return the widths of a bead's image by the model, the bead's size included."""
    reach = max(abs(z) for z in model.z_um)
    planes = np.linspace(-reach, reach, _PLANES)
    centred = bead._replace(row=0.0, column=0.0, z_um=0.0, brightness=1.0)
    stack = replace(model, z_um=tuple(planes.tolist())).image(centred).double().numpy()
    middle = model.side // 2
    axis = stack[:, middle, middle]
    image = stack[int(axis.argmax())]
    pixel = model.optics.pixel_size_nm
    return Widths(
        pixel * _width(image[:, middle]),
        pixel * _width(image[middle]),
        1e3 * (planes[1] - planes[0]) * _width(axis),
    )


def _width(profile: NDArray[np.float64]) -> float:
    """Return the full width at half maximum about the peak, in samples; or NaN."""
    # Imported here: every session imports the package, and none needs this.
    from scipy.interpolate import CubicSpline

    places = np.arange(len(profile))
    curve = CubicSpline(places, profile)
    fine = np.linspace(0, len(profile) - 1, _FINER * (len(profile) - 1) + 1)
    values = curve(fine)
    peak = int(values.argmax())
    crossings = curve.solve(values[peak] / 2, extrapolate=False)
    left, right = crossings[crossings < fine[peak]], crossings[crossings > fine[peak]]
    if not len(left) or not len(right):
        return math.nan
    return float(right.min() - left.max())


def point_images(
    model: StackModel, coefficients: NDArray[np.float64], blur: float
) -> NDArray[np.float64]:
    """Return the PSF (Z, K, K) in the model's planes: that of a point in focus at 0.

    Parameters
    ----------
    coefficients
        (P,) γ.
    blur
        Variance of the Gaussian, pixels².
    """
    point = BeadParameters(torch.from_numpy(coefficients), 0.0, 0.0, 0.0, 1.0, blur)
    images: NDArray[np.float64] = (
        replace(model, diameter_nm=0.0).image(point).double().numpy()
    )
    return images
