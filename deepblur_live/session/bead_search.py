"""The beads in one frame: which can be used, why others cannot, and what to do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.calibration.detect import FoundBead
from deepblur_live.calibration.model import StackModel
from deepblur_live.calibration.modes import fewest_modes
from deepblur_live.calibration.neighbours import neighbours_of
from deepblur_live.calibration.stack import CalibrationError, crop_side
from deepblur_live.calibration.verdict import FEWEST_BEADS
from deepblur_live.identification.beads.detect import Candidate, Refusal, detect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from deepblur_live.profile import Camera, Profile

__all__ = ["BeadsInView", "beads_in_view"]

# Blobs this many times as wide as beads in focus are out of focus: the scales of the
# search are a factor of 1.4 apart.
_OUT_OF_FOCUS = 1.9
# Share of crowded beads above which a remark is made.
_MANY = 0.25
# Photons of a bead in a frame: those recommended, and too few
# (docs/how-to/calibrate.md).
_PHOTONS, _TOO_FEW = 10_000, 5_000


@dataclass(frozen=True)
class BeadsInView:
    """The beads of a frame.

    Parameters
    ----------
    beads
        The brightest first, each with the reason if it cannot be used.
    side
        Side of the part of the frame that a bead's fit needs, pixels.
    widening
        Width of the blobs over that of beads in focus.
    photons
        Median of the usable beads, or NaN where the camera's gain is not known.
    """

    beads: tuple[Candidate, ...]
    side: int
    widening: float
    photons: float

    @property
    def usable(self) -> int:
        """Number of beads that can be used."""
        return sum(bead.refusal is None for bead in self.beads)

    def refused(self, why: Refusal) -> int:
        """Return the number of beads that are refused for a reason."""
        return sum(bead.refusal is why for bead in self.beads)

    @property
    def text(self) -> str:
        """The count, such as "12 usable, 3 too near the edge of the frame"."""
        if not self.beads:
            return "no beads found"
        refused = [(self.refused(why), why) for why in Refusal]
        parts = [f"{self.usable} usable", *(f"{n} {why}" for n, why in refused if n)]
        return ", ".join(parts)

    @property
    def advice(self) -> Sequence[str]:
        """What to do before the sweep; the most urgent first."""
        if not self.beads:
            return ("Focus on the beads, and check exposure and diameter.",)
        found = []
        if self.widening >= _OUT_OF_FOCUS:
            found.append(
                f"The beads look {self.widening:.0f} times as wide as in focus: focus "
                "on them. The sweep is centred on the present focus."
            )
        if self.refused(Refusal.SATURATED):
            found.append("Beads are saturated: reduce the exposure.")
        if self.photons < _TOO_FEW:
            found.append(
                f"A bead has about {self.photons:.0f} photons: increase the exposure; "
                f"{_PHOTONS} are recommended."
            )
        # A shorter exposure makes saturated beads usable: count them here.
        if self.usable + self.refused(Refusal.SATURATED) < FEWEST_BEADS:
            found.append(
                f"Fewer than {FEWEST_BEADS} beads can be used: move to a place with "
                "more isolated ones."
            )
        if self.refused(Refusal.CROWDED) > _MANY * len(self.beads):
            found.append(
                "Many beads are too close together: find a sparser place, or dilute "
                "them."
            )
        return tuple(found)


def beads_in_view(
    pixels: NDArray[Any], profile: Profile, diameter_nm: float
) -> BeadsInView:
    """Return the beads of a frame, as the calibration of a stack would find them.

    Parameters
    ----------
    pixels
        (H, W), a raw frame of the camera.
    profile
        Optics and camera.
    diameter_nm
        Diameter of the beads, nm.

    Raises
    ------
    CalibrationError
        The frame is not grey, too small, constant or not finite.
    """
    optics = profile.optics
    side = crop_side(optics)
    if pixels.ndim != 2 or min(pixels.shape) < 2 * side:
        raise CalibrationError(
            f"a frame of shape {pixels.shape}: greyscale frames of at least {2 * side} "
            "pixels on each side are needed"
        )
    image = np.asarray(pixels, dtype=np.float64)
    if not np.isfinite(image).all() or np.ptp(image) == 0:
        raise CalibrationError("the frame is constant, or contains NaN or infinity")
    fwhm = StackModel(optics, fewest_modes(), diameter_nm, (0.0,), side).bead_width
    found = detect(image, fwhm, side, side)
    photons = _photons(image, found.usable, side, profile.camera)
    beads = _with_neighbours(found.candidates, fwhm, side)
    return BeadsInView(beads, side, found.width / fwhm, photons)


def _with_neighbours(
    beads: Sequence[Candidate], width: float, side: int
) -> tuple[Candidate, ...]:
    """Return the beads; crowded ones fitted with their neighbours are usable."""
    places = [FoundBead(bead.row, bead.column, bead.response) for bead in beads]
    return tuple(
        replace(bead, refusal=None)
        if bead.refusal is Refusal.CROWDED
        and neighbours_of(place, places, width, side) is not None
        else bead
        for bead, place in zip(beads, places, strict=True)
    )


def _photons(
    image: NDArray[np.float64], beads: Sequence[Candidate], side: int, camera: Camera
) -> float:
    if camera.gain_e_per_adu is None or not beads:
        return float("nan")
    half, sums = side // 2, []
    for bead in beads:
        crop = image[
            bead.row - half : bead.row + half + 1,
            bead.column - half : bead.column + half + 1,
        ]
        border = np.concatenate([crop[0], crop[-1], crop[:, 0], crop[:, -1]])
        sums.append(float((crop - np.median(border)).sum()))
    return camera.gain_e_per_adu * float(np.median(sums))
