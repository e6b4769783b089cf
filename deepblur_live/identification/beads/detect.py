"""Finding beads in a frame, sharp or out of focus, and which of them can be used."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "FEWEST_BEADS",
    "Candidate",
    "Detection",
    "Refusal",
    "background_noise",
    "detect",
]

FEWEST_BEADS = 3
"""With fewer isolated beads the blur is not taken from them."""

# A difference of Gaussians responds most to blobs of the scale's own width when its
# widths are these shares of the scale's (docs/decisions/0130-bead-detection.md).
_INNER, _OUTER = 0.8, 1.8
_FWHM = 2 * math.sqrt(2 * math.log(2))
# Maxima nearer than this, in widths of a blob, belong to one bead.
_SUPPRESSION = 1.5
# Least response: over the noise, and as a share of the brightest bead's.
_SIGNIFICANT, _LEAST_SHARE = 8.0, 0.03
# A neighbour with this share of a bead's response disturbs its fit.
_NEIGHBOUR = 0.15
# Peaks with this share of the brightest take part in the choice of the scale.
_BRIGHT = 0.15
# Scales per factor of two; share of the best score from which a scale is tried, and,
# where no bead stands alone at that scale, from which the coarser ones are.
_PER_OCTAVE, _NEARLY, _STILL = 2, 0.95, 0.5
# Share of the blobs of the coarser scales that a scale must have.
_MOST = 0.75
# Side of the part of the frame that a bead needs, in widths, and how many widths
# further a neighbour must be.
_SIDE, _CLEAR = 6.0, 1.5
# Least number of adjacent pixels of a plateau, and its height in grey values.
_PLATEAU, _PLATEAU_STEPS = 3, 50
# Side of the blocks of `background_noise`, and about how many grey values it compares.
_BLOCK, _SAMPLE = 16, 65_536


class Refusal(StrEnum):
    """Why a candidate is not used."""

    EDGE = "too near the edge of the frame"
    CROWDED = "too near another bead"
    SATURATED = "saturated"
    MISFIT = "unlike the other beads"


@dataclass(frozen=True)
class Candidate:
    """A blob that may be a bead.

    Parameters
    ----------
    row, column
        Position of its brightest pixel, in pixels of the frame.
    response
        Response of the difference of Gaussians, in the frame's brightness.
    refusal
        None if it can be used.
    """

    row: int
    column: int
    response: float
    refusal: Refusal | None = None


@dataclass(frozen=True)
class Detection:
    """The candidates of one frame.

    Parameters
    ----------
    candidates
        The brightest first.
    width
        Full width at half maximum of the blobs that respond most, pixels.
    side
        Side of the part of the frame that a bead's fit needs, pixels, odd.
    """

    candidates: tuple[Candidate, ...]
    width: float
    side: int

    @property
    def usable(self) -> tuple[Candidate, ...]:
        """The candidates that are not refused."""
        return tuple(found for found in self.candidates if found.refusal is None)

    def counts(self) -> dict[Refusal, int]:
        """Return how many candidates were refused for each reason that occurred."""
        reasons = [found.refusal for found in self.candidates]
        return {why: reasons.count(why) for why in Refusal if why in reasons}


def background_noise(image: NDArray[np.float64]) -> float:
    """Return the standard deviation of the white noise of the dim parts of a frame.

    From second differences along both axes, which suppress whatever is smooth: the
    median over blocks, most of which hold background on a bead slide. At least that of
    rounding to the camera's grey values.
    """
    kernel = np.outer((1, -2, 1), (1, -2, 1)) / 6.0
    rough = ndimage.convolve(image, kernel, mode="reflect")
    height, width = (n - n % _BLOCK for n in image.shape)
    blocks = rough[:height, :width].reshape(
        height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK
    )
    measured = float(np.median((blocks**2).mean((1, 3))))
    return math.sqrt(max(measured, _grey_step(image) ** 2 / 12))


def _grey_step(image: NDArray[np.float64]) -> float:
    """Return the smallest difference of two grey values of a frame."""
    values = np.unique(image.ravel()[:: max(1, image.size // _SAMPLE)])
    return float(np.diff(values).min()) if len(values) > 1 else 0.0


def _ceiling(image: NDArray[np.float64]) -> float:
    """Return the brightness at which a frame is clipped; infinity if it is not.

    A clipped bead has a plateau: several adjacent pixels with the frame's largest
    value. The rounded top of a dim bead may be as flat: it is few grey values high.
    """
    highest = float(image.max())
    parts, _ = ndimage.label(image == highest)
    height = highest - float(np.median(image))
    plateau = int(np.bincount(parts.ravel())[1:].max()) >= _PLATEAU
    if plateau and height > _PLATEAU_STEPS * _grey_step(image):
        return highest
    return math.inf


def detect(
    image: NDArray[np.float64], fwhm: float, least_side: int, largest_side: int
) -> Detection:
    """Return the beads of a frame.

    Beads in focus are blobs of the PSF's width; out of focus they are wider, or rings,
    which are blobs again at a coarser scale. All beads of a slide are about equally far
    from focus, so that one scale serves the whole frame: the finest of those to which
    its bright blobs respond most. If none of them stands alone, they are parts of wider
    blobs, and the next coarser scale is tried.

    Parameters
    ----------
    image
        (H, W) brightness, in any unit.
    fwhm
        Full width at half maximum of a bead in focus, pixels; the finest scale.
    least_side, largest_side
        Limits of the side of the part of the frame that a bead's fit needs, pixels,
        odd; in between it is proportional to the width of the blobs.
    """
    scales = _scales(image, fwhm, largest_side)
    best = max(score for score, *_ in scales)
    ceiling, first = _ceiling(image), None
    # A disc without structure responds about equally at all scales up to its own.
    widest = max(width for score, width, *_ in scales if score >= _NEARLY * best)
    for score, width, places, response in scales:
        if score < (_NEARLY if first is None else _STILL) * best:
            continue
        side = 2 * math.ceil(_SIDE * max(width, widest) / 2) + 1
        side = min(max(side, least_side), largest_side)
        refusals = _refusals(image, places, response, side, width, ceiling)
        found = Detection(
            tuple(
                Candidate(int(row), int(column), float(strength), why)
                for (row, column), strength, why in zip(
                    places, response, refusals, strict=True
                )
            ),
            width,
            side,
        )
        first = found if first is None else first
        if len(found.usable) >= FEWEST_BEADS:
            return found
    assert first is not None
    return first


def _scales(
    image: NDArray[np.float64], fwhm: float, largest_side: int
) -> list[tuple[float, float, NDArray[np.intp], NDArray[np.float64]]]:
    """Return score, width, places (n, 2) and responses (n,) of the blobs of each scale.

    From the finest on; the brightest blobs first. The score is the median response of
    the bright ones.
    """
    noise, scales = background_noise(image), []
    steps = round(_PER_OCTAVE * math.log2(max(2.0, largest_side / fwhm)))
    for step in range(1 + steps):
        octave, part = divmod(step, _PER_OCTAVE)
        if step and not part:
            # Blobs twice as wide on half as many pixels: a quarter of the work.
            image, noise = _halved(image), noise / 2
        width = fwhm * 2 ** (part / _PER_OCTAVE)
        places, response = _blobs(image, width, noise)
        order = np.argsort(-response, kind="stable")
        places, response = places[order], response[order]
        bright = response[response >= _BRIGHT * response.max(initial=0.0)]
        score = float(np.median(bright)) if len(bright) >= FEWEST_BEADS else 0.0
        scale = 2**octave
        scales.append((score, width * scale, places * scale + scale // 2, response))
    # A scale at which most beads are lost in noise is not theirs: those left are the
    # brightest, and their median response is no measure of all.
    counts = np.array([len(response) for *_, response in scales])
    most = np.maximum.accumulate(counts[::-1])[::-1]
    return [scales[k] for k in np.flatnonzero(counts >= _MOST * most)]


def _halved(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of every 2 × 2 pixels; an odd last row or column is left out."""
    height, width = (n // 2 for n in image.shape)
    cells = image[: 2 * height, : 2 * width].reshape(height, 2, width, 2)
    means: NDArray[np.float64] = cells.mean((1, 3))
    return means


def _blobs(
    image: NDArray[np.float64], width: float, noise: float
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return places (n, 2) and responses (n,) of the blobs of a width."""
    inner, outer = _INNER * width / _FWHM, _OUTER * width / _FWHM
    found = ndimage.gaussian_filter(image, inner) - ndimage.gaussian_filter(
        image, outer
    )
    found -= np.median(found)
    deviation = 1.4826 * float(np.median(np.abs(found)))
    # In a frame of few grey values most responses may be equal, and their deviation 0.
    # White noise leaves σ²/(4π)·(1/a² + 1/b² - 4/(a² + b²)).
    share = 1 / inner**2 + 1 / outer**2 - 4 / (inner**2 + outer**2)
    white = noise * math.sqrt(share / (4 * math.pi))
    least = max(_SIGNIFICANT * max(deviation, white), _LEAST_SHARE * found.max())
    reach = max(1, round(_SUPPRESSION * width / 2))
    peak = ndimage.maximum_filter(found, size=2 * reach + 1) == found
    places = np.argwhere(peak & (found > least))
    return places, found[tuple(places.T)]


def _refusals(
    image: NDArray[np.float64],
    places: NDArray[np.intp],
    response: NDArray[np.float64],
    side: int,
    width: float,
    ceiling: float,
) -> list[Refusal | None]:
    """Return why each candidate (n, 2) cannot be used, None where it can."""
    if not len(places):
        return []
    half, tree = side // 2, cKDTree(places)
    refusals: list[Refusal | None] = []
    for place, strength in zip(places, response, strict=True):
        row, column = place
        far = np.minimum(place, np.subtract(image.shape, 1) - place)
        middle = (slice(row - 2, row + 3), slice(column - 2, column + 3))
        near = tree.query_ball_point(place, half + _CLEAR * width)
        if far.min() < half:
            refusals.append(Refusal.EDGE)
        elif (response[near] >= _NEIGHBOUR * strength).sum() > 1:
            refusals.append(Refusal.CROWDED)
        elif image[middle].max() >= ceiling:
            refusals.append(Refusal.SATURATED)
        else:
            refusals.append(None)
    return refusals
