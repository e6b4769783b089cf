"""Frames as real microscopes make them: one departure from the model at a time.

A condition changes the optics, or adds effects: to the light, before the camera's
noise; to the camera; or to the file, after everything else. The true PSF is the one
that was applied to the plane in focus, whether or not the family has it; light that
comes from elsewhere (haze, other planes, background) is no part of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.blur.zernike import PAPER_MODES
from evaluation.effects import (
    MARGIN,
    Effect,
    View,
    column_offsets,
    convolved,
    dead_pixels,
    haze,
    hot_pixels,
    interlaced,
    jpeg,
    motion,
    other_planes,
    pixel_gains,
    quantised,
    resampled,
    saturated,
    shot_noise,
    smoothed,
    vignetting,
)
from evaluation.held_out import SIDE
from evaluation.true_optics import TrueOptics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Pixels = NDArray[np.float64]

__all__ = ["CONDITIONS", "SIGMA", "Condition", "RealFrame", "expose", "recorded"]

SIGMA = 0.01
# Coefficients are uniform within this, in waves rms: the paper's range.
_RANGE = 0.15
# Half the window of the PSF in focus, in pixels.
_HALF = 31
# Grey values: 0 of the scene, and its range. White noise and hot pixels stay inside.
_DARK, _SPAN = 1000, 20_000
# Places across the field at which a blur that varies is computed.
_FIELD_PLACES = 9
_IDEAL = TrueOptics()
_HIGH_NA = replace(_IDEAL, aplanatic=True, pixel_integration=True)


@dataclass(frozen=True)
class Condition:
    """How frames are made.

    Parameters
    ----------
    optics
        The true optics.
    modes
        Aberrations that the program does not follow, in waves rms by Noll index.
    random_modes, random_range
        The same, uniform within ± the range.
    field_defocus
        Defocus in waves rms, from minus to plus this across the field.
    light, camera, file
        Effects before the camera's noise, after it, and on the finished frame.
    """

    optics: TrueOptics = _IDEAL
    modes: Mapping[int, float] = field(default_factory=dict)
    random_modes: tuple[int, ...] = ()
    random_range: float = 0.0
    field_defocus: float = 0.0
    light: tuple[Effect, ...] = ()
    camera: tuple[Effect, ...] = ()
    file: tuple[Effect, ...] = ()


@dataclass(frozen=True)
class RealFrame:
    """A camera's frame, and what blurred it.

    Parameters
    ----------
    pixels
        (H, W) uint16.
    psf
        (K, K) the PSF applied, sum 1; larger than a family's window.
    modes
        Its coefficients in waves rms by Noll index; others are 0.
    """

    pixels: NDArray[np.uint16]
    psf: Pixels
    modes: Mapping[int, float]


def expose(condition: Condition, sharp: Pixels, number: int) -> RealFrame:
    """Return a frame of a scene under a condition.

    Parameters
    ----------
    condition
        What is real about it.
    sharp
        (SIDE + 2·MARGIN, SIDE + 2·MARGIN) the scene, in [0, 1].
    number
        Seeds blur, noise and effects. All conditions share the blur and the noise.
    """
    blur, noise, chance = np.random.default_rng(1000 + number).spawn(3)
    modes = dict(zip(PAPER_MODES, blur.uniform(-_RANGE, _RANGE, 7), strict=True))
    modes |= condition.modes
    for noll in condition.random_modes:
        modes[noll] = blur.uniform(-condition.random_range, condition.random_range)
    pixels, psf = recorded(condition, _blurred(condition, sharp, modes), noise, chance)
    return RealFrame(pixels, psf, modes)


def recorded(
    condition: Condition,
    view: View,
    noise: np.random.Generator,
    chance: np.random.Generator,
) -> tuple[NDArray[np.uint16], Pixels]:
    """Return the frame (H, W) that is stored of a view with margins, and its PSF.

    Parameters
    ----------
    condition
        Its effects.
    view
        The plane in focus, blurred.
    noise, chance
        For the camera's noise, and for the effects.
    """
    for effect in condition.light:
        view = effect(view, chance)
    inner = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    clean = view.image[inner]
    image = clean + SIGMA * noise.standard_normal(clean.shape)
    view = replace(view, image=image, sharp=view.sharp[inner])
    for effect in (*condition.camera, *condition.file):
        view = effect(view, chance)
    counts = np.clip(np.rint(_DARK + _SPAN * view.image), 0, 65535)
    return counts.astype(np.uint16), view.psf / view.psf.sum()


def _blurred(condition: Condition, sharp: Pixels, modes: dict[int, float]) -> View:
    """Return the view of the plane in focus.

    A blur that varies over the field is interpolated between some places in it; its PSF
    is the mean over the field, the best that one PSF can do.
    """
    size = condition.field_defocus
    if not size:
        psf = condition.optics.psf(modes, half=_HALF)
        return View(convolved(sharp, psf), psf, sharp)
    image, mean = np.zeros_like(sharp), np.zeros((2 * _HALF + 1, 2 * _HALF + 1))
    column = (np.arange(sharp.shape[1]) - MARGIN) / (SIDE - 1)
    for place in np.linspace(0, 1, _FIELD_PLACES):
        defocus = modes[4] + size * (2 * place - 1)
        psf = condition.optics.psf(modes | {4: defocus}, half=_HALF)
        gap = np.abs(np.clip(column, 0, 1) - place) * (_FIELD_PLACES - 1)
        weight = np.clip(1 - gap, 0, 1)
        image += weight * convolved(sharp, psf)
        mean += weight[MARGIN:-MARGIN].mean() * psf
    return View(image, mean, sharp)


CONDITIONS: dict[str, Condition] = {
    "baseline": Condition(),
    "spherical 0.05 waves": Condition(modes={11: 0.05}),
    "spherical 0.10 waves": Condition(modes={11: 0.10}),
    "spherical 0.20 waves": Condition(modes={11: 0.20}),
    "pixel integration": Condition(replace(_IDEAL, pixel_integration=True)),
    "aplanatic pupil, pixel integration": Condition(_HIGH_NA),
    "vectorial pupil, pixel integration": Condition(replace(_HIGH_NA, vectorial=True)),
    "exact defocus in place of Noll 4": Condition(replace(_IDEAL, exact_defocus=True)),
    "emission band 80 nm": Condition(replace(_IDEAL, band_nm=80.0)),
    "pixel size wrong by 5 %": Condition(replace(_IDEAL, pixel_size_nm=105.0)),
    "pixel size wrong by 10 %": Condition(replace(_IDEAL, pixel_size_nm=110.0)),
    "Noll 12–15, each ±0.05 waves": Condition(
        random_modes=(12, 13, 14, 15), random_range=0.05
    ),
    "defocus ±0.07 waves over the field": Condition(field_defocus=0.07),
    "defocus ±0.15 waves over the field": Condition(field_defocus=0.15),
    "out-of-focus planes, 30 % of the light": Condition(
        light=(partial(other_planes, share=0.3),)
    ),
    "out-of-focus planes, 60 % of the light": Condition(
        light=(partial(other_planes, share=0.6),)
    ),
    "haze 50 %, Gaussian 20 px": Condition(
        light=(partial(haze, share=0.5, sigma_px=20),)
    ),
    "haze 50 %, Gaussian 6 px": Condition(
        light=(partial(haze, share=0.5, sigma_px=6),)
    ),
    "motion of 2 px within the exposure": Condition(light=(partial(motion, pixels=2),)),
    "motion of 4 px within the exposure": Condition(light=(partial(motion, pixels=4),)),
    "vignetting 50 %": Condition(light=(partial(vignetting, corner=0.5),)),
    "shot noise, 2000 e": Condition(camera=(partial(shot_noise, electrons=2000),)),
    "shot noise, 200 e": Condition(camera=(partial(shot_noise, electrons=200),)),
    "shot noise, 2000 e, background as bright": Condition(
        camera=(partial(shot_noise, electrons=2000, background=1),)
    ),
    "hot pixels 0.1 %, mean 0.5": Condition(
        camera=(partial(hot_pixels, share=0.001, mean=0.5),)
    ),
    "hot pixels 0.1 %, mean 0.05": Condition(
        camera=(partial(hot_pixels, share=0.001, mean=0.05),)
    ),
    "dead pixels 0.1 %": Condition(camera=(partial(dead_pixels, share=0.001),)),
    "fixed pattern 1 %": Condition(camera=(partial(pixel_gains, rms=0.01),)),
    "column offsets 0.003": Condition(camera=(partial(column_offsets, rms=0.003),)),
    "column offsets 0.01": Condition(camera=(partial(column_offsets, rms=0.01),)),
    "saturation 0.5 %": Condition(camera=(partial(saturated, share=0.005),)),
    "12 bit, 200 grey levels used": Condition(camera=(partial(quantised, levels=200),)),
    "8 bit, 60 grey levels used": Condition(camera=(partial(quantised, levels=60),)),
    "JPEG, quality 95": Condition(file=(partial(jpeg, quality=95),)),
    "JPEG, quality 80": Condition(file=(partial(jpeg, quality=80),)),
    "interlaced by 1 px": Condition(file=(partial(interlaced, pixels=1),)),
    "resampled by 0.4 px": Condition(file=(partial(resampled, pixels=0.4),)),
    "camera filter, Gaussian 0.6 px": Condition(
        file=(partial(smoothed, sigma_px=0.6),)
    ),
    "**all moderate at once**": Condition(
        optics=_HIGH_NA,
        modes={11: 0.03},
        light=(
            partial(other_planes, share=0.1, optics=_HIGH_NA),
            partial(haze, share=0.2, sigma_px=20),
        ),
        camera=(
            partial(shot_noise, electrons=1000),
            partial(column_offsets, rms=0.002),
            partial(hot_pixels, share=0.0002, mean=0.5),
            partial(quantised, levels=200),
        ),
    ),
}
"""Name → how its frames are made; "all moderate at once" is the last."""
