"""PSFs over the calibrated frame as eigen-PSFs with maps, from the beads' images alone.

The product-convolution of a calibration: registered beads → mean and principal
components e_i, whose shares w_i are interpolated over the field by the Gaussian process
of `deepblur_live.calibration.field`, so that A x = Σ_i e_i ⋆ (w_i x). No pupil is
involved beyond the registration; the size of the beads stays in.

References
----------
Escande & Weiss, *Approximation of integral operators using product-convolution
expansions*, J. Math. Imaging Vis. 58 (2017). Compared with Zernike modes over the
field: docs/decisions/0234-product-convolution-of-a-calibration.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy.interpolate import RectBivariateSpline

from deepblur_live.blur.product_convolution import ProductConvolution, mixed_maps
from deepblur_live.calibration.field import CoefficientField, fit_field
from deepblur_live.calibration.stack import CalibrationError
from deepblur_live.optics.borders import frame_part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from deepblur_live.calibration.folder import SavedCalibration

    Array = NDArray[np.float64]

__all__ = ["HeldOutPsfs", "PsfField", "learn_psf_fields", "product_convolution"]

# Most eigen-PSFs that are tried, and fewest beads of a state that can be split.
_MOST, _FEWEST = 8, 4
# Places along each side of an image at which maps are computed; splines between them.
_GRID = 21


class HeldOutPsfs(NamedTuple):
    """Energy of held-out beads over that of what is not explained, dB; noise included.

    Each half of the beads by what the other half gives.

    Parameters
    ----------
    mean_db
        Explained by the mean PSF, dB.
    field_db
        Explained by the eigen-PSFs and their maps, dB.
    """

    mean_db: float
    field_db: float


@dataclass(frozen=True, eq=False)
class PsfField:
    """PSFs mean + Σ_i w_i(x)·e_i over the frame of one state of a microscope.

    Parameters
    ----------
    mean
        (K, K), sum 1, the same for all states.
    eigen
        (I, K, K) eigen-PSFs, orthogonal, of the mean's norm and of sum 0; the same for
        all states. I = 0 where held-out beads are explained no better with them.
    shares
        w_i over the frame.
    held_out
        How well half of the beads of all states explain the others; None for too few.
    """

    mean: Array
    eigen: Array
    shares: CoefficientField
    held_out: HeldOutPsfs | None

    def psf(self, places: Array) -> Array:
        """Return the PSFs (..., K, K) at rows and columns (..., 2) of the frame."""
        weights = self.shares.at(self._inside(places)).mean
        whole: Array = self.mean + np.einsum("...i,ijk->...jk", weights, self.eigen)
        return whole

    def maps(
        self,
        shape: tuple[int, int],
        frame: tuple[int, int] | None = None,
        corner: tuple[int, int] = (0, 0),
    ) -> Array:
        """Return the maps (1 + I, H, W) of mean and eigen-PSFs on images (H, W).

        Parameters
        ----------
        shape
            (H, W) of the images.
        frame
            (rows, columns) of the camera's frame in their middle (`frame_part`); the
            whole image when None.
        corner
            Row and column of the calibrated frame at which that frame begins.

        Beyond the calibrated frame the maps keep the values at its edge.
        """
        parts = frame_part(shape, shape if frame is None else frame)
        lines = [
            np.arange(size) + (first - part.start)
            for size, part, first in zip(shape, parts, corner, strict=True)
        ]
        rows, columns = (np.linspace(line[0], line[-1], _GRID) for line in lines)
        nodes = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1)
        values = np.moveaxis(self.shares.at(self._inside(nodes)).mean, -1, 0)
        maps = [RectBivariateSpline(rows, columns, value)(*lines) for value in values]
        return np.stack([np.ones(shape), *maps])

    def _inside(self, places: Array) -> Array:
        """Return the nearest places (..., 2) of the calibrated frame."""
        inside: Array = np.clip(places, 0, np.array(self.shares.shape) - 1)
        return inside


def product_convolution(
    fields: Sequence[PsfField],
    weights: Sequence[float],
    shape: tuple[int, int],
    frame: tuple[int, int] | None = None,
    corner: tuple[int, int] = (0, 0),
) -> ProductConvolution:
    """Return A = Σ_s weight_s·A_s of a microscope's states, on images (H, W).

    The states share their PSFs, so that a mixture costs no more than one of them. Light
    spreads by the PSF of the place that it comes from.

    Parameters
    ----------
    fields
        Fields of S states, as `learn_psf_fields` returns them.
    weights
        (S,) of sum 1: 1 for one state and 0 for the others is that state.
    shape, frame, corner
        As for `PsfField.maps`.

    Raises
    ------
    ValueError
        When there is not one weight for each state, their sum is not 1, or the PSFs are
        larger than the images.
    """
    mixture = torch.tensor(list(weights), dtype=torch.float64)
    if len(mixture) != len(fields) or abs(float(mixture.sum()) - 1) > 1e-6:
        raise ValueError(
            f"weights {list(weights)}: give one for each of {len(fields)} states, of "
            "sum 1"
        )
    maps = np.stack([field.maps(shape, frame, corner) for field in fields])
    first = fields[0]
    psfs = torch.from_numpy(np.concatenate([first.mean[None], first.eigen]))
    mixed = mixed_maps(torch.from_numpy(maps), mixture)
    return ProductConvolution(psfs, mixed, frame=frame)


def learn_psf_fields(
    saved: SavedCalibration, count: int | None = None
) -> tuple[PsfField, ...]:
    """Return each state's PSFs over the field, from the images of its beads.

    Parameters
    ----------
    saved
        As `load_calibration` has read it. Of each state the plane nearest to focus is
        used; each bead is in its own focus there.
    count
        Number of eigen-PSFs; as many, up to eight, as held-out beads support when None.

    Raises
    ------
    CalibrationError
        The folder contains no bead images.
    ValueError
        There are fewer beads than `count` needs.
    """
    images, places = [], []
    for k, state in enumerate(saved.manifest.states):
        if f"{k}.beads" not in saved.tensors:
            raise CalibrationError(
                f"{saved.folder}: contains no bead images: calibrate again"
            )
        plane = int(np.argmin(np.abs(state.z_um)))
        beads = saved.tensors[f"{k}.beads"][:, plane].astype(np.float64)
        images.append(beads / beads.sum((1, 2), keepdims=True))
        places.append(saved.tensors[f"{k}.places"][:, :2])
    shapes = [(state.shape[0], state.shape[1]) for state in saved.manifest.states]
    most = sum(map(len, images)) - 1
    if count is not None and not 0 <= count <= most:
        raise ValueError(f"count {count}: {most + 1} beads have at most {most}")
    wanted = min(_MOST if count is None else count, most)
    held_out = None
    if min(map(len, images)) >= _FEWEST:
        scores = _held_out(images, places, shapes, min(_MOST, most))
        if count is None:
            wanted = int(np.argmax(scores))
        held_out = HeldOutPsfs(scores[0], scores[min(wanted, len(scores) - 1)])
    elif count is None:
        wanted = 0
    mean, eigen, fields = _fit(images, places, shapes, wanted)
    return tuple(PsfField(mean, eigen, field, held_out) for field in fields)


def _fit(
    images: Sequence[Array],
    places: Sequence[Array],
    shapes: Sequence[tuple[int, int]],
    count: int,
) -> tuple[Array, Array, list[CoefficientField]]:
    """Return mean (K, K), eigen-PSFs (I, K, K) of all states, and each one's shares."""
    whole = np.concatenate(images)
    mean = whole.mean(0)
    size = float(np.linalg.norm(mean))
    offsets = (whole - mean).reshape(len(whole), -1)
    vectors = np.linalg.svd(offsets, full_matrices=False)[2][:count]
    fields = [
        fit_field((own - mean).reshape(len(own), -1) @ vectors.T / size, place, shape)
        for own, place, shape in zip(images, places, shapes, strict=True)
    ]
    return mean, size * vectors.reshape(-1, *mean.shape), fields


def _held_out(
    images: Sequence[Array],
    places: Sequence[Array],
    shapes: Sequence[tuple[int, int]],
    most: int,
) -> list[float]:
    """Return how well held-out beads are explained by 0, 1 … eigen-PSFs, dB.

    One fit a half serves all numbers: the components do not depend on each other, but
    for the length that they share.
    """
    left, power = np.zeros(most + 1), 0.0
    for first in (0, 1):
        known = [own[first::2] for own in images]
        most_here = min(most, sum(map(len, known)) - 1)
        mean, eigen, fields = _fit(
            known, [place[first::2] for place in places], shapes, most_here
        )
        for own, place, field in zip(images, places, fields, strict=True):
            unknown, where = own[1 - first :: 2], place[1 - first :: 2]
            weights = field.at(where).mean
            error = unknown - mean
            power += float(np.square(unknown).sum())
            left[0] += float(np.square(error).sum())
            for i in range(most):
                if i < most_here:
                    error = error - weights[:, i, None, None] * eigen[i]
                left[i + 1] += float(np.square(error).sum())
    return [10 * float(np.log10(power / one)) for one in left]
