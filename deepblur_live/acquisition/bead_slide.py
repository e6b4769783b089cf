"""A bead slide for the simulated microscope: equal balls at random places."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.acquisition.simulated_sample import SimulatedSample, StageDrift
from deepblur_live.acquisition.trajectory import (
    AberrationTrajectory,
    demonstration_trajectory,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily

__all__ = ["bead_picture", "bead_slide"]

# Samples per pixel, along each axis, over which a bead is averaged.
_SUBSAMPLES = 8
# A bead of 200 nm then emits about 17 000 photons per frame, on pixels of 100 nm.
_PEAK_ELECTRONS = 8000.0
# Brightness of beads of one batch, standard deviation over mean.
_SPREAD = 0.1


def bead_picture(
    shape: tuple[int, int],
    places: NDArray[np.float64],
    brightness: NDArray[np.float64],
    diameter_px: float,
) -> NDArray[np.float32]:
    """Return the projection of fluorescent balls, averaged over each pixel.

    The average widens a ball like a Gaussian of 0.29 pixels standard deviation, which
    a calibration includes in its own Gaussian.

    Parameters
    ----------
    shape
        (H, W).
    places
        (N, 2) rows and columns of their centres, pixels.
    brightness
        (N,) value at the centre of each ball, where the path through it is longest.
    diameter_px
        Diameter of the balls, pixels.
    """
    picture = np.zeros(shape, dtype=np.float32)
    reach = math.ceil(diameter_px / 2) + 1
    offsets = (np.arange(_SUBSAMPLES) + 0.5) / _SUBSAMPLES - 0.5
    near = np.arange(-reach, reach + 1)
    fine = (near[:, None] + offsets).ravel()
    for (row, column), strength in zip(places, brightness, strict=True):
        middle = round(row), round(column)
        squared = (fine + middle[0] - row)[:, None] ** 2
        squared = squared + (fine + middle[1] - column) ** 2
        depth = np.sqrt(np.clip(1 - squared / (diameter_px / 2) ** 2, 0, None))
        samples = depth.reshape(len(near), _SUBSAMPLES, len(near), _SUBSAMPLES)
        cells = samples.mean((1, 3))
        rows, columns = near + middle[0], near + middle[1]
        inside = np.ix_(
            (rows >= 0) & (rows < shape[0]), (columns >= 0) & (columns < shape[1])
        )
        part = np.ix_(rows[inside[0].ravel()], columns[inside[1].ravel()])
        picture[part] += strength * cells[inside]
    return picture


def bead_slide(
    family: BlurFamily,
    diameter_nm: float = 200.0,
    *,
    beads: int = 80,
    shape: tuple[int, int] = (512, 512),
    pixel_size_nm: float = 100.0,
    seed: int = 0,
) -> SimulatedSample:
    """Return a slide of beads under a microscope whose optics do not drift.

    Parameters
    ----------
    family
        The blurs. The aberrations are those with which the demonstration begins, in
        focus at position 0 of the focus drive.
    diameter_nm
        Diameter of the beads, nm.
    beads
        Number of beads on the slide, some of them outside the frame.
    shape, pixel_size_nm, seed
        As for `SimulatedSample`; the seed also sets the places of the beads.
    """
    margin = family.window // 2
    whole = (shape[0] + 2 * margin, shape[1] + 2 * margin)
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, np.subtract(whole, 1), (beads, 2))
    brightness = 1 + _SPREAD * np.clip(rng.normal(size=beads), -3, 3)
    still = np.array(demonstration_trajectory(family).still)
    still[[name == "defocus" for name in family.names]] = 0.0
    return SimulatedSample(
        bead_picture(whole, places, brightness, diameter_nm / pixel_size_nm),
        family=family,
        trajectory=AberrationTrajectory(tuple(still.tolist())),
        peak_electrons=_PEAK_ELECTRONS,
        shape=shape,
        pixel_size_nm=pixel_size_nm,
        stage=StageDrift(amplitude_px=0.0),
        bleaching_s=math.inf,
        seed=seed,
    )
