"""The quality of a calibration, and advice on how to improve it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from deepblur_live.calibration.detect import BeadState
from deepblur_live.identification.beads.verdict import LARGEST_MISFIT

if TYPE_CHECKING:
    from deepblur_live.calibration.calibrate import Calibration

__all__ = ["FEWEST_BEADS", "LEAST_DB", "LEAST_PUPIL_DB", "Advice", "advice"]

FEWEST_BEADS = 10
"""With fewer used beads the field's trend and the scatter are not reliable."""

LEAST_DB = round(-20 * math.log10(LARGEST_MISFIT))
"""Held-out beads must be explained as well as a frame's beads are for a trusted fit."""

LEAST_PUPIL_DB = 12
"""Lower values by the pupil alone indicate a wrong pupil, hidden by the residual.

Measured: 16.7 to 19.1 dB with the right optics (seven runs), 8.3 dB with a distance of
planes that is 67 % wrong, 3.6 dB with a wrong NA.
"""

# Share of rejected beads from which the reason is reported.
_MANY = 0.25
# The NA is questioned if it differs by more than this share and this many standard
# errors.
_APERTURE, _SIGNIFICANT = 0.02, 3.0
# Fewest planes, and the least defocus in waves rms that they should reach on each side.
_PLANES, _LEAST_DEFOCUS = 5, 0.25
# Scatter of beads about the field's trend in waves rms (Maréchal's limit is 0.075).
_SCATTER = 0.025
# Share of the frame without beads from which it is reported.
_UNKNOWN = 0.2

_REMEDIES = {
    BeadState.CROWDED: "dilute the beads",
    BeadState.SATURATED: "shorten the exposure",
    BeadState.DIM: "expose longer",
    BeadState.OVERLAP: "sonicate the suspension, so that beads stay apart",
}


class Advice(NamedTuple):
    """A sentence for the user; `redo` if the calibration should not be used."""

    redo: bool
    text: str


def advice(one: Calibration) -> list[Advice]:
    """Return what is wrong with a calibration and what to do; the worst first."""
    found = [*_quality(one), *_planes(one), *_optics(one)]
    counts, total = one.counts(), len(one.beads)
    for state, remedy in _REMEDIES.items():
        number = counts.get(state, 0)
        if number > _MANY * total:
            text = f"{number} of {total} beads are refused ({state}): {remedy}."
            found.append(Advice(False, text))
    return sorted(found, key=lambda item: not item.redo)


def _quality(one: Calibration) -> list[Advice]:
    used, found = len(one.used), []
    if one.held_out is None:
        found.append(
            Advice(
                True,
                f"Only {used} beads are used, and none are left to test the fit: "
                f"record a field with at least {FEWEST_BEADS} isolated beads.",
            )
        )
    elif one.held_out.total_db < LEAST_DB:
        found.append(
            Advice(
                True,
                f"Held-out beads are explained to {one.held_out.total_db:.1f} dB, less "
                f"than {LEAST_DB} dB: check NA, wavelength, index, pixel size, the "
                "distance of the planes and the size of the beads.",
            )
        )
    elif one.held_out.pupil_db < LEAST_PUPIL_DB:
        found.append(
            Advice(
                True,
                "The pupil alone explains held-out beads to "
                f"{one.held_out.pupil_db:.1f} dB, less than {LEAST_PUPIL_DB} dB: check "
                "the distance of the planes (z step), NA, index, wavelength and pixel "
                "size; one of them is probably wrong.",
            )
        )
    elif used < FEWEST_BEADS:
        found.append(
            Advice(
                False,
                f"Only {used} beads are used: {FEWEST_BEADS} or more show the field.",
            )
        )
    far = float(one.field.far(one.field.even_places()).mean())
    if far > _UNKNOWN:
        found.append(
            Advice(
                False,
                f"{far:.0%} of the frame is too far from any bead to know the blur "
                "there (hatched in the maps), and sessions do not use it: record more "
                "beads, or choose regions of interest with beads.",
            )
        )
    limit = _SCATTER * one.model.optics.wavelength_nm
    if one.scatter_nm > limit:
        found.append(
            Advice(
                False,
                f"Single beads scatter by {one.scatter_nm:.1f} nm about the trend over "
                "the field: look at the map for a region that differs.",
            )
        )
    return found


def _planes(one: Calibration) -> list[Advice]:
    model, found = one.model, []
    if one.stack.unusable:
        numbers = ", ".join(map(str, one.stack.unusable))
        found.append(
            Advice(
                False,
                f"Planes left out (counted from 0): {numbers}. They are "
                "constant, contain NaN or infinite values, or cannot be read.",
            )
        )
    reach = _LEAST_DEFOCUS / model.waves_per_um
    short = min(-min(model.z_um), max(model.z_um)) < reach
    if len(model.z_um) >= _PLANES and not short:
        return found
    found.append(
        Advice(
            False,
            f"{len(model.z_um)} planes from {min(model.z_um):+.2f} to "
            f"{max(model.z_um):+.2f} µm are used: {_PLANES} or more, to "
            f"{reach:.2f} µm and further on both sides of focus, are better.",
        )
    )
    return found


def _optics(one: Calibration) -> list[Advice]:
    found, optics, aperture = [], one.model.optics, one.aperture
    if aperture is not None:
        off = abs(aperture.value - optics.numerical_aperture)
        if off > max(
            _APERTURE * optics.numerical_aperture, _SIGNIFICANT * aperture.error
        ):
            found.append(
                Advice(
                    False,
                    f"The beads agree better with NA {aperture.value:.3f} ± "
                    f"{aperture.error:.3f} than with {optics.numerical_aperture:g}: "
                    "check NA, wavelength, index and the distance of the planes.",
                )
            )
    if one.blur >= 0.999 * one.model.largest_blur:
        found.append(
            Advice(
                False,
                f"The Gaussian blur is at its limit of {one.blur_nm:.0f} nm: check the "
                "pixel size, and for vibration.",
            )
        )
    if not one.stack.calibrated:
        found.append(
            Advice(
                False,
                "The camera's gain is not in the profile: stated errors of beads come "
                "from the residual, not from photons.",
            )
        )
    return found
