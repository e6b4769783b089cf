"""A calibration at one region of its frame: prior, and blurs that vary over it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.blur.calibrated_field import CalibratedField
from deepblur_live.blur.fixed_field import FixedField
from deepblur_live.blur.tiled import GRID, grid_positions
from deepblur_live.calibration.field import fit_field
from deepblur_live.calibration.learning import learn_family
from deepblur_live.calibration.psf_field import learn_psf_fields

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur.calibrated import CalibratedZernikeFamily
    from deepblur_live.calibration.field import CoefficientField
    from deepblur_live.calibration.folder import SavedCalibration

__all__ = ["ASSUMED_NM", "fixed_field", "place_family", "states_over"]

ASSUMED_NM = 40.0
"""Rms change of the wavefront that is assumed between a measured state and that of a
session, nm (docs/decisions/0198-calibration-in-a-session.md)."""

# Side of the largest PSF that is used, pixels; as for Zernike families.
_LARGEST_WINDOW = 63


def fixed_field(
    saved: SavedCalibration, region: tuple[int, int, int, int] | None = None
) -> FixedField:
    """Return the PSFs over the frame that the beads' images give, without a pupil.

    Those of `learn_psf_fields`, the mean of all states. The size of the beads stays in.

    Parameters
    ----------
    saved
        The calibration, from `load_calibration`.
    region
        (top, left, height, width) of the frames in the calibrated one, in its pixels;
        the whole of it when None.

    Raises
    ------
    CalibrationError
        The folder contains no bead images.
    """
    optics, states = saved.manifest.optics, saved.manifest.states
    top, left, height, width = region or (0, 0, states[0].shape[0], states[0].shape[1])
    places = (top, left) + grid_positions() * (height, width)
    fields = learn_psf_fields(saved)
    light = np.mean([field.psf(places) for field in fields], axis=0).clip(0)
    cut = max(0, (light.shape[-1] - _LARGEST_WINDOW) // 2)
    light = light[:, cut : light.shape[-1] - cut, cut : light.shape[-1] - cut]
    psfs = light / light.sum((1, 2), keepdims=True)
    mean = psfs.mean(0)
    cutoff = optics.numerical_aperture * optics.pixel_size_nm / optics.wavelength_nm
    count = sum(len(field.shares.places) for field in fields)
    origin = (
        f"of {count} beads in {saved.folder.name}, {len(fields[0].eigen)} eigen-PSFs"
    )
    grid = psfs.reshape(GRID, GRID, *mean.shape)
    return FixedField(mean / mean.sum(), cutoff, origin, grid)


def place_family(
    saved: SavedCalibration,
    family: CalibratedZernikeFamily,
    region: tuple[int, int, int, int] | None = None,
    *,
    varies: bool = False,
) -> CalibratedZernikeFamily:
    """Return a calibrated family with the prior of one region of the calibrated frame.

    Its coefficients are the same: they count from the mean over the whole frame. The
    prior's mean is that of the field over the region, and the covariance that of the
    states, of the field within the region, and of the field's error there.

    Parameters
    ----------
    saved, family
        A calibration, and its `calibrated_family`, which has no hull.
    region
        (top, left, height, width) of the frames in the calibrated one, in its pixels;
        the whole of it when None.
    varies
        Whether the blur varies over the frames as the field does over the region
        (`CalibratedField`); the covariance then holds the field's error alone.

    Raises
    ------
    ValueError
        When the family's admissible set is a hull.
    """
    if family.learned.vertices is not None:
        raise ValueError("the hull of the states holds their means over the field")
    means, spread = states_over(saved, region, varies=varies)
    learned = learn_family(
        means,
        family.local,
        assumed=ASSUMED_NM / family.local.wavelength_nm,
        field=spread,
    ).learned
    centre = None if region is None else family.learned.coefficients(learned.mean)
    own = replace(
        family.learned,
        covariance=learned.covariance,
        radius=learned.radius,
        centre=centre,
    )
    if not varies:
        return replace(family, learned=own)
    parts = [_offsets(saved, k, region) for k in range(len(means))]
    offsets = np.pad(np.mean(parts, axis=0), ((0, 0), (1, 0)))
    return CalibratedField(family.local, own, tuple(map(tuple, offsets.tolist())))


def states_over(
    saved: SavedCalibration,
    region: tuple[int, int, int, int] | None = None,
    *,
    varies: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each state's mean modes (S, M) over a region, and the field's covariance.

    Defocus comes first, as 0: it is no mode of the calibration, but each bead's z.
    """
    count = len(saved.manifest.states)
    fields = [_over_field(saved, k, region, varies=varies) for k in range(count)]
    spread = np.mean([part for _, part in fields], axis=0)
    return (
        np.pad([mean for mean, _ in fields], ((0, 0), (1, 0))),
        np.pad(spread, ((1, 0), (1, 0))),
    )


def _over_field(
    saved: SavedCalibration,
    k: int,
    region: tuple[int, int, int, int] | None,
    *,
    varies: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean (P,) and covariance (P, P) of a state's modes at a place in a region.

    By the Gaussian process through the beads, at the places that are near enough to
    beads, its own error included; with `varies` that alone.
    """
    field = _field(saved, k)
    grid = field.even_places() if region is None else _within(region, field)
    near = grid[~field.far(grid)]
    value = field.at(near if len(near) else grid)
    mean = value.mean.mean(0)
    offset = value.mean - mean
    error = np.diag(np.square(value.sigma).mean(0))
    return mean, error if varies else offset.T @ offset / len(offset) + error


def _offsets(
    saved: SavedCalibration, k: int, region: tuple[int, int, int, int] | None
) -> NDArray[np.float64]:
    """Return by how much modes (N, P) at `grid_positions` differ from their mean.

    Where no bead is near, those of the nearest place that is near enough to beads.
    """
    field = _field(saved, k)
    top, left, height, width = region or (0, 0, *field.shape)
    grid = (top, left) + grid_positions() * (height, width)
    far = field.far(grid)
    if far.all():
        return np.zeros((len(grid), field.coefficients.shape[1]))
    apart = np.linalg.norm(grid[:, None] - grid[~far][None], axis=2)
    values = field.at(grid[~far]).mean[apart.argmin(1)]
    mean = _over_field(saved, k, region, varies=True)[0]
    offsets: NDArray[np.float64] = values - mean
    return offsets


def _field(saved: SavedCalibration, k: int) -> CoefficientField:
    """Return the Gaussian process through the beads of a state."""
    height, width = saved.manifest.states[k].shape
    beads, places = saved.tensors[f"{k}.coefficients"], saved.tensors[f"{k}.places"]
    return fit_field(beads, places[:, :2], (height, width))


def _within(
    region: tuple[int, int, int, int], field: CoefficientField
) -> NDArray[np.float64]:
    """Return places (n, 2), evenly over a region of the calibrated frame."""
    top, left, height, width = region
    share = field.even_places() / field.shape
    places: NDArray[np.float64] = (top, left) + share * (height, width)
    return places
