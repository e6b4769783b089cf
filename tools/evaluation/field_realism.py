"""Frames of a field as real microscopes make them, and specimens that imitate a field.

The light and the camera are those of conditions of the realism table. Whether the true
blur varies over the frame is a part of a condition: where it does not, no field should
be reported.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage, signal

from deepblur_live.blur.field_basis import FieldView
from deepblur_live.blur.zernike import PAPER_MODES
from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.identification.field.identifier import FieldIdentifier
from deepblur_live.identification.field.verdict import variation
from deepblur_live.runtime.calibration import BadFrame, scale
from evaluation.effects import MARGIN, View
from evaluation.field_frames import pack_of, places, side_of, snr_of
from evaluation.held_out import scene
from evaluation.realism import CONDITIONS as REALISM
from evaluation.realism import SIGMA, Condition, recorded
from evaluation.realism_scores import LEAST_SNR, cropped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from evaluation.table import Row

    Pixels = NDArray[np.float64]
    Specimen = Callable[[Path, Path, int], Pixels]
    Modes = dict[int, float]

__all__ = [
    "CONDITIONS",
    "FieldCondition",
    "RealFieldFrame",
    "imitated",
    "score",
    "varying",
]

# Range of every coefficient in waves rms; places along each side at which PSFs are
# computed, and half of their window.
_RANGE, _PLACES, _HALF = 0.15, 9, 31
# A tilted thick specimen: defocus at the ends of the frame, and between its two sheets.
_TILT, _THICK = 0.15, 0.15
# Standard deviations, in pixels, of a specimen that gets smoother to the right.
_SMOOTH = np.linspace(0, 1.2, 5)
# A field that is reported is wrong, if there is none, from so many stated errors on.
_SEEN = 2.0
_PLAIN = REALISM["baseline"]


def _alike(path: Path, other: Path, side: int) -> Pixels:
    return scene(path, side).double().numpy()


def _smoother(path: Path, other: Path, side: int) -> Pixels:
    """Return a scene that is ever smoother to the right."""
    sharp = _alike(path, other, side)
    place = np.linspace(0, len(_SMOOTH) - 1, side)
    result = np.zeros_like(sharp)
    for number, sigma in enumerate(_SMOOTH):
        weight = np.clip(1 - np.abs(place - number), 0, 1)
        result += weight * ndimage.gaussian_filter(sharp, sigma)
    return result


def _halves(path: Path, other: Path, side: int) -> Pixels:
    """Return the left half of one scene beside the right half of another."""
    left, right = _alike(path, other, side), _alike(other, path, side)
    half = side // 2
    return np.concatenate([left[:, :half], right[:, half:]], 1)


@dataclass(frozen=True)
class FieldCondition:
    """How frames are made.

    Parameters
    ----------
    field
        Whether the blur varies over the frame.
    made
        Optics, light and camera, as in the realism table.
    specimen
        Makes the scene of two pictures.
    thick
        Whether it is two sheets, tilted together; the true field is halfway.
    """

    field: bool
    made: Condition = _PLAIN
    specimen: Specimen = _alike
    thick: bool = False


_ALL = "**all moderate at once**"
_VIGNETTING = "vignetting 50 %"
CONDITIONS: dict[str, FieldCondition] = {
    "field: baseline": FieldCondition(True),
    f"field: {_VIGNETTING}": FieldCondition(True, REALISM[_VIGNETTING]),
    "field: tilted thick specimen": FieldCondition(True, thick=True),
    "field: all moderate at once": FieldCondition(True, REALISM[_ALL]),
    f"one PSF: {_VIGNETTING}": FieldCondition(False, REALISM[_VIGNETTING]),
    "one PSF: two pictures, half each": FieldCondition(False, specimen=_halves),
    "one PSF: smoother to the right": FieldCondition(False, specimen=_smoother),
    "one PSF: all moderate at once": FieldCondition(False, REALISM[_ALL]),
}
"""Name → how its frames are made."""


@dataclass(frozen=True)
class RealFieldFrame:
    """Names one frame.

    Parameters
    ----------
    path, other
        Its picture, and a second one for conditions that need it.
    number
        Seed of blur, noise and effects.
    condition
        A key of ``CONDITIONS``.
    """

    path: Path
    other: Path
    number: int
    condition: str


def varying(sharp: Pixels, psf_at: Callable[[float, float], Pixels]) -> Pixels:
    """Return a scene blurred by PSFs that vary over the frame within its margin.

    Parameters
    ----------
    sharp
        (S, S) the scene: a frame with ``MARGIN`` to each side.
    psf_at
        The PSF (K, K) at a row and a column, 0 to 1 over the frame. It is computed at 9
        × 9 places; the images between them are blended.
    """
    line = (np.arange(len(sharp)) - MARGIN) / (len(sharp) - 2 * MARGIN - 1)
    knots = np.linspace(0, 1, _PLACES)
    gap = np.abs(np.clip(line, 0, 1) - knots[:, None]) * (_PLACES - 1)
    weights = np.clip(1 - gap, 0, 1)
    whole, image = np.pad(sharp, _HALF, mode="wrap"), np.zeros_like(sharp)
    for row, column in product(range(_PLACES), repeat=2):
        rows, columns = (np.flatnonzero(weights[k]) for k in (row, column))
        window = [slice(k[0], k[-1] + 1 + 2 * _HALF) for k in (rows, columns)]
        psf = psf_at(knots[row], knots[column])
        part = signal.fftconvolve(whole[tuple(window)], psf, "valid")
        weight = weights[row, rows][:, None] * weights[column, columns]
        image[np.ix_(rows, columns)] += weight * part
    return image


class _Blur:
    """The true blur of a frame: its modes and its PSF at any place."""

    def __init__(self, condition: FieldCondition, side: int, seed: int) -> None:
        self.condition = condition
        local = replace(pack_of("zernike7").family, noll=PAPER_MODES, ranges=_RANGE)
        self._family = ZernikeField(local, FieldView(side, side), remainder=0.0)
        drawn = torch.Generator().manual_seed(seed)
        if condition.field:
            self._field = self._family.sample(1, drawn)[0]
        else:
            gamma = local.sample(1, drawn).double().numpy()
            self._field = torch.from_numpy(self._family.constant(gamma)[0])

    def modes(self, row: float, column: float) -> Modes:
        """Return the coefficients at a place, waves rms by Noll index."""
        gamma = self._family.at(self._field, np.array([[row, column]]))[0].tolist()
        modes = dict(zip(PAPER_MODES, gamma, strict=True))
        if self.condition.thick:
            modes[4] += _TILT * (2 * column - 1)
        return modes | dict(self.condition.made.modes)

    def psf(self, row: float, column: float, defocus: float = 0.0) -> Pixels:
        """Return the PSF (63, 63) at a place, with more defocus if given."""
        modes = self.modes(row, column)
        modes[4] += defocus
        return self.condition.made.optics.psf(modes, half=_HALF)


def _exposed(frame: RealFieldFrame) -> tuple[NDArray[np.uint16], _Blur]:
    """Return a camera's frame (H, W), and its true blur."""
    condition, side = CONDITIONS[frame.condition], side_of(frame.path)
    blur = _Blur(condition, side, 5000 + frame.number)
    sharp = condition.specimen(frame.path, frame.other, side + 2 * MARGIN)
    if condition.thick:
        sheets = ((sharp, _THICK / 2), (np.rot90(sharp), -_THICK / 2))
        image = sum(varying(s, _more(blur, d)) for s, d in sheets) / 2
    else:
        image = varying(sharp, blur.psf)
    view = View(image, blur.psf(0.5, 0.5), sharp)
    noise, chance = np.random.default_rng(1000 + frame.number).spawn(2)
    return recorded(condition.made, view, noise, chance)[0], blur


def _more(blur: _Blur, defocus: float) -> Callable[[float, float], Pixels]:
    return lambda row, column: blur.psf(row, column, defocus)


@torch.no_grad()
def score(frame: RealFieldFrame, model: str) -> Row:
    """Return what is reported of a frame, and how good it is; PSF SNR in dB.

    Whatever the verdict, as a mean over 7 × 7 places. It is wrong if trusted and below
    5 dB, or if a field is reported where the blur does not vary.
    """
    pack, (pixels, blur) = pack_of(model), _exposed(frame)
    condition = CONDITIONS[frame.condition]
    side = pixels.shape[0]
    family = ZernikeField(pack.family, FieldView(side, side))
    row: Row = {"kind": frame.condition, "file": frame.path.name, "side": side}
    row |= {"sigma": SIGMA, "answered": 0.0, "field": 0.0, "wrong": 0.0}
    errors = pack.manifest.error_model
    identifier = FieldIdentifier(family, errors, None, 5.0, pack.specimen)
    try:
        image = scale(pixels, cutoff=family.cutoff).image
    except BadFrame as error:
        return row | {"reason": str(error)}
    identifier.observe(image, 0.0)
    solution = identifier.solve(identifier.prepare(image))
    assert solution.one is not None
    estimate, field = solution.estimate, solution.tracked is not None
    window = pack.family.window
    true = np.stack([cropped(blur.psf(*place), window) for place in places()])
    single = family.constant(solution.one.estimate.coefficients)
    for name, found in (("one", single), ("reported", estimate.coefficients)):
        gamma = family.at(torch.from_numpy(found), places()).float()
        row[name] = snr_of(family.local.psf(gamma), torch.from_numpy(true).float())[0]
    seen = variation(
        family, torch.from_numpy(estimate.coefficients), estimate.covariance
    )
    return row | {
        "answered": float(estimate.trusted),
        "field": float(field),
        "variation": seen,
        "wrong": float(
            estimate.trusted
            and (row["reported"] < LEAST_SNR or imitated(condition, field, seen))
        ),
        "reason": estimate.reason or solution.note,
    }


def imitated(condition: FieldCondition, field: bool, variation: float) -> bool:
    """Return whether a field is reported, and clearly so, though the blur is uniform.

    Parameters
    ----------
    condition
        How the frame was made.
    field
        Whether a field is reported.
    variation
        How much it varies over the frame, over its stated error.
    """
    varies = condition.field or condition.thick
    return field and not varies and variation > _SEEN
