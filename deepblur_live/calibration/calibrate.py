"""From a stack of a bead slide to a calibration: find, fit, compare, judge."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.calibration.detect import (
    USED,
    BeadState,
    FoundBead,
    cut_out,
    find_beads,
)
from deepblur_live.calibration.far_light import fit_beside_far_light
from deepblur_live.calibration.field import CoefficientField, fit_field
from deepblur_live.calibration.held_out import (
    Bead,
    HeldOut,
    held_out,
    shared_residual,
)
from deepblur_live.calibration.model import StackModel
from deepblur_live.calibration.modes import choose_modes, fewest_modes
from deepblur_live.calibration.neighbours import Crop, neighbours_of
from deepblur_live.calibration.pooled import (
    Aperture,
    alike,
    fit_aperture,
    shared_blur,
)
from deepblur_live.calibration.registered import MeanBead, mean_bead
from deepblur_live.calibration.slide_fits import fit_all, refitted, with_noise
from deepblur_live.calibration.stack import (
    BeadStack,
    CalibrationError,
    bead_stack,
    crop_side,
)
from deepblur_live.calibration.trend import LinearTrend, fit_trend

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from deepblur_live.calibration.fit import StackFit
    from deepblur_live.calibration.neighbours import Neighbour
    from deepblur_live.profile import Profile

__all__ = ["CalibratedBead", "Calibration", "calibrate_stack"]

# Beads that the NA is judged by.
_FOR_APERTURE = 8
_NONE_LEFT = "no bead is left after the fit: "
# Beads without neighbours that are enough to show what all have in common.
_ENOUGH = 8


@dataclass(frozen=True)
class CalibratedBead:
    """A bead and its fit with the slide's Gaussian; None if it was not fitted."""

    found: FoundBead
    fit: StackFit | None


@dataclass(frozen=True)
class Calibration:
    """What a slide of beads says of a microscope.

    Parameters
    ----------
    model
        The pupil and the modes that were chosen.
    stack
        What was fitted.
    beads
        All that were found, the brightest first.
    trend
        The coefficients over the field.
    covariance
        (P, P) of the beads' coefficients about their mean: field and errors.
    blur, blur_error
        Variance of the shared Gaussian, pixels², and its standard error.
    aperture
        The NA that the beads prefer; None if it cannot be measured. It is not used.
    residual
        (Z, K, K) what the pupil lacks of a centred bead of brightness 1. Zero unless
        held-out beads are explained better with it.
    mean
        The beads as measured, registered.
    held_out
        How well half of the beads explain the others; None for fewer than four.
    tried
        Last mode of each set that was tried, and the held-out beads explained with it,
        dB.
    """

    model: StackModel
    stack: BeadStack
    beads: tuple[CalibratedBead, ...]
    trend: LinearTrend
    covariance: NDArray[np.float64]
    blur: float
    blur_error: float
    aperture: Aperture | None
    residual: torch.Tensor
    mean: MeanBead
    held_out: HeldOut | None
    tried: tuple[tuple[int, float], ...]

    @property
    def used(self) -> tuple[CalibratedBead, ...]:
        """The beads that the calibration is made of."""
        return tuple(b for b in self.beads if b.found.state in USED)

    def counts(self) -> dict[BeadState, int]:
        """Return how many beads there are of each state that occurs."""
        states = [bead.found.state for bead in self.beads]
        return {state: states.count(state) for state in BeadState if state in states}

    @cached_property
    def field(self) -> CoefficientField:
        """The coefficients over the field, with their error."""
        beads = [(one.found, one.fit) for one in self.used if one.fit is not None]
        places = [
            (found.row + fit.bead.row, found.column + fit.bead.column)
            for found, fit in beads
        ]
        coefficients = np.array([fit.coefficients for _, fit in beads])
        return fit_field(coefficients, np.array(places), self.trend.shape)

    @property
    def scatter_nm(self) -> float:
        """Rms over all modes of single beads' distance from the trend, nm."""
        wavelength = self.model.optics.wavelength_nm
        return wavelength * math.sqrt(float(np.square(self.trend.scatter).sum()))

    @property
    def blur_nm(self) -> float:
        """Standard deviation of the Gaussian, nm in the specimen."""
        return math.sqrt(max(self.blur, 0.0)) * self.model.optics.pixel_size_nm


def calibrate_stack(
    frames: Sequence[NDArray[Any]],
    z_um: Sequence[float],
    profile: Profile,
    diameter_nm: float,
    progress: Callable[[str, float], None] = lambda text, share: None,
    noll: tuple[int, ...] = (),
) -> Calibration:
    """Calibrate a microscope from a stack of a bead slide.

    Parameters
    ----------
    frames
        (Z) planes (H, W) through focus, as the camera gave them.
    z_um
        Their positions on the focus drive, rising or falling. Which way is deeper is
        the profile's ``stage.deeper``.
    profile
        Optics and camera.
    diameter_nm
        Diameter of the beads, nm.
    progress
        Called with what is being done and the share of the whole, 0 to 1.
    noll
        Modes, without defocus; as many as held-out beads support when empty.

    Raises
    ------
    CalibrationError
        The stack gives no calibration; the text says what would be right.
    """
    optics = profile.optics
    deeper = 1 if profile.stage.deeper == "larger" else -1
    places = [deeper * z for z in z_um]
    side = crop_side(optics)
    modes = noll or fewest_modes()
    draft = StackModel(optics, modes, diameter_nm, (0.0,), side)
    stack = bead_stack(frames, places, draft, profile.camera)
    model = replace(draft, z_um=stack.z_um)
    progress("finding beads", 0.0)
    found = list(find_beads(stack.light, model.bead_width, side))
    crops = _crops(stack, found, model)
    if not found:
        raise CalibrationError("no beads were found near focus")
    if not crops:
        raise CalibrationError(
            f"none of {len(found)} beads can be used: "
            + ", ".join(sorted({str(bead.state) for bead in found}))
        )
    stack = with_noise(model, stack, crops.values())
    fits = fit_all(model, stack, crops, progress, (0.05, 0.4))
    fits = fit_beside_far_light(model, found, crops, fits, stack.noise)
    for k in crops:
        state = BeadState.USED if k in fits else BeadState.FAILED
        found[k] = replace(found[k], state=state)
    # Twice: the worst ones hide others.
    for _ in range(2):
        left = [k for k in fits if found[k].state is BeadState.USED]
        for k, state in zip(left, alike([fits[k] for k in left]), strict=True):
            found[k] = replace(found[k], state=state)
    used = [k for k in fits if found[k].state is BeadState.USED]
    if not used:
        states = sorted({str(found[k].state) for k in crops})
        raise CalibrationError(_NONE_LEFT + ", ".join(states))
    shape = (stack.light.shape[1], stack.light.shape[2])
    beads = {k: _bead(found[k], crops[k].light, fits[k]) for k in used}
    tried: tuple[tuple[int, float], ...] = ()
    if not noll:
        model, beads, tried = choose_modes(model, stack.noise, beads, shape, progress)
    progress("comparing beads", 0.8)
    judged = held_out(model, _alone(beads, crops), stack.noise, shape)
    few = _alone(beads, crops)[:_FOR_APERTURE]
    aperture = fit_aperture(
        model, [b.crop for b in few], [b.fit for b in few], stack.noise
    )
    blur, blur_error = shared_blur([bead.fit for bead in _alone(beads, crops)])
    progress("fitting the shared blur", 0.9)
    beads = refitted(model, stack, beads, blur)
    for k in used:
        if k not in beads:
            found[k] = replace(found[k], state=BeadState.FAILED)
    if not beads:
        raise CalibrationError(_NONE_LEFT + str(BeadState.FAILED))
    gammas = np.array([bead.fit.coefficients for bead in beads.values()])
    trend = fit_trend(gammas, np.array([b.place for b in beads.values()]), shape)
    residual = shared_residual(model, _alone(beads, crops), stack.noise, trend, blur)
    if judged is None or judged.total_db <= judged.pupil_db:
        # Of few or dim beads it is noise, which other beads do not have.
        residual = torch.zeros_like(residual)
    for k in beads:
        if crops[k].neighbours:
            found[k] = replace(found[k], state=BeadState.TOGETHER)
    progress("done", 1.0)
    kept = [beads[k].fit if k in beads else fits.get(k) for k in range(len(found))]
    return Calibration(
        model,
        stack,
        tuple(CalibratedBead(f, fit) for f, fit in zip(found, kept, strict=True)),
        trend,
        _covariance(gammas),
        blur,
        blur_error,
        aperture,
        residual,
        mean_bead([bead.fit for bead in _alone(beads, crops)], model),
        judged,
        tried,
    )


def _crops(
    stack: BeadStack, found: Sequence[FoundBead], model: StackModel
) -> dict[int, Crop]:
    """Return what is fitted, by the bead's number.

    Beads that stand alone, and crowded ones whose neighbours can be fitted with them.
    """
    crops = {}
    for k, bead in enumerate(found):
        near: tuple[Neighbour, ...] | None = ()
        if bead.state is BeadState.CROWDED:
            near = neighbours_of(bead, found, model.bead_width, model.side)
        elif bead.state is not BeadState.USED:
            continue
        if near is not None:
            crops[k] = Crop(cut_out(stack.light, bead, model.side), near)
    return crops


def _alone(beads: dict[int, Bead], crops: dict[int, Crop]) -> list[Bead]:
    """Return the beads without neighbours, or all if too few stand alone.

    Neighbours leave something over, too, which is not the pupil's.
    """
    alone = [bead for k, bead in beads.items() if not crops[k].neighbours]
    return alone if len(alone) >= _ENOUGH else list(beads.values())


def _bead(found: FoundBead, crop: torch.Tensor, fit: StackFit) -> Bead:
    place = (found.row + fit.bead.row, found.column + fit.bead.column)
    return Bead(crop, place, fit)


def _covariance(gammas: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(gammas) < 2:
        return np.zeros((gammas.shape[1],) * 2)
    return np.atleast_2d(np.cov(gammas.T))
