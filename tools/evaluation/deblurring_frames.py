"""Frames by which deblurring is judged: the noise, light and PSFs of real microscopes.

A frame is exposed as a camera's grey values and scaled as live frames are. All
conditions share a picture's blur, and have their noise from the same seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import ndimage

from deepblur_live.blur import Convolution
from deepblur_live.optics import NoiseModel
from deepblur_live.runtime.calibration import scale
from evaluation.effects import (
    MARGIN,
    Effect,
    View,
    column_offsets,
    convolved,
    haze,
    other_planes,
    smoothed,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur.zernike import ZernikeFamily

    Pixels = NDArray[np.float64]

__all__ = [
    "CONDITIONS",
    "SIDE",
    "Condition",
    "Frame",
    "columns",
    "dark",
    "exactly",
    "expose",
    "filled",
    "grey_values",
    "light_of",
    "nuclei",
    "processed",
    "rescaled",
    "sharp_already",
    "spherical",
]

SIDE = 256
# Share of a mostly dark frame that is lit, and the size of its parts and the width of
# their edges in pixels.
_LIT, _PARTS, _EDGE = 0.15, 14.0, 2.0
# Nuclei: how many on a frame's area, semi-axes in pixels, brightness.
_NUCLEI, _AXES, _BRIGHT = 12, (9.0, 20.0), (0.3, 1.0)
_READ_E = 1.5
# Grey values without light, and of the light 1.
_DARK, _SPAN = 1000, 20_000
# What an estimate states at the least, in waves rms a mode.
_LEAST_ERROR = 1e-3
# Electrons at the light 1 under all conditions that are not about them.
_USUAL = 500.0
# Balance of the Wiener filter that has processed a frame, and its electrons.
_BALANCE, _MANY = 0.01, 5000.0

Scene = Callable[["Pixels", np.random.Generator], "Pixels"]


@dataclass(frozen=True)
class Condition:
    """How frames are made.

    Parameters
    ----------
    group
        Of conditions whose scores are averaged.
    scene
        Makes the scene from a picture.
    electrons
        Photoelectrons at the light 1; None for white noise of `sigma`.
    sigma
        Of the white noise.
    error
        Of the PSF that the methods are given: deviation in waves rms a mode, stated.
    psf
        The true PSF (K, K) of a family's γ.
    stray, kept
        Adds light that is not from the plane in focus, and the share of that plane's
        light that remains.
    camera, variance
        Changes the finished frame, and the factor on its noise variance.
    process
        Of frames that a program has processed: light (H, W) and PSF → light.
    white
        Whether the noise is independent from pixel to pixel.
    """

    group: str
    scene: Scene
    electrons: float | None = _USUAL
    sigma: float = 0.0
    error: float = 0.0
    psf: Callable[[ZernikeFamily, torch.Tensor], torch.Tensor] | None = None
    stray: Effect | None = None
    kept: float = 1.0
    camera: Effect | None = None
    variance: float = 1.0
    process: Callable[[Pixels, Pixels], Pixels] | None = None
    white: bool = True


@dataclass(frozen=True)
class Frame:
    """A frame, and what is known of it.

    Parameters
    ----------
    image
        (H, W) scaled as live.
    low, span
        Light at 0 and 1 of the image: ``light = low + span · image``.
    noise
        Of the image.
    gamma, covariance
        γ (P,) as estimated, and its stated covariance (P, P), waves rms.
    electrons
        Per unit of light; for white noise, those whose shot noise has its variance at
        the frame's mean.
    truth
        (H, W) light of the sharp scene; None of real frames.
    clean
        (H, W) light of the frame without noise; None of real frames.
    """

    image: torch.Tensor
    low: float
    span: float
    noise: NoiseModel
    gamma: torch.Tensor
    covariance: torch.Tensor
    electrons: float
    truth: Pixels | None = None
    clean: Pixels | None = None

    def light(self, image: torch.Tensor) -> Pixels:
        """Return the light (H, W) of an image in this frame's scale."""
        return self.low + self.span * image.double().numpy()

    def scaled(self, light: Pixels) -> torch.Tensor:
        """Return the image (H, W) of light."""
        return torch.from_numpy((light - self.low) / self.span).float()


# Scenes.


def filled(picture: Pixels, chance: np.random.Generator) -> Pixels:
    """Return the picture."""
    return picture


def dark(picture: Pixels, chance: np.random.Generator) -> Pixels:
    """Return the picture where it is lit: on 15 % of the frame, in patches."""
    rough = chance.random(picture.shape)
    smooth = ndimage.gaussian_filter(rough, _PARTS, mode="wrap")
    lit = (smooth > np.quantile(smooth, 1 - _LIT)).astype(float)
    masked: Pixels = picture * ndimage.gaussian_filter(lit, _EDGE, mode="wrap")
    return masked


def nuclei(picture: Pixels, chance: np.random.Generator) -> Pixels:
    """Return bright ellipses with the picture as their texture, black between them."""
    rows, columns = np.indices(picture.shape)
    light = np.zeros_like(picture)
    for _ in range(round(_NUCLEI * picture.size / SIDE**2)):
        y, x = chance.uniform(0, picture.shape)
        long, short = chance.uniform(*_AXES, 2)
        angle = chance.uniform(0, np.pi)
        along = (rows - y) * np.sin(angle) + (columns - x) * np.cos(angle)
        across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
        inside = (along / long) ** 2 + (across / short) ** 2 < 1
        light[inside] = chance.uniform(*_BRIGHT)
    edges = ndimage.gaussian_filter(light, 0.7, mode="wrap")
    textured: Pixels = edges * (0.6 + 0.4 * picture)
    return textured


# True PSFs that are not those of the stated γ.


def exactly(family: ZernikeFamily, gamma: torch.Tensor) -> torch.Tensor:
    """Return the PSF of the family."""
    return family.psf(gamma)


def spherical(
    family: ZernikeFamily, gamma: torch.Tensor, *, waves: float
) -> torch.Tensor:
    """Return the PSF with a spherical aberration in addition."""
    extra = torch.zeros_like(gamma)
    extra[family.noll.index(11)] = waves
    return family.psf(gamma + extra)


def rescaled(
    family: ZernikeFamily, gamma: torch.Tensor, *, factor: float
) -> torch.Tensor:
    """Return the PSF wider by a factor: that of smaller pixels."""
    smaller = replace(family, pixel_size_nm=family.pixel_size_nm / factor)
    return smaller.psf(gamma)


def sharp_already(family: ZernikeFamily, gamma: torch.Tensor) -> torch.Tensor:
    """Return a point: the frame is not blurred."""
    point = torch.zeros(3, 3)
    point[1, 1] = 1
    return point


# Light, camera, processing.


def pedestal(view: View, chance: np.random.Generator, *, light: float) -> View:
    """Add a uniform background."""
    return View(view.image + light, view.psf, view.sharp)


def columns(view: View, chance: np.random.Generator, *, rms: float) -> View:
    """Add an offset to each column, new in each frame."""
    return column_offsets(view, chance, rms=rms)


def processed(light: Pixels, psf: Pixels) -> Pixels:
    """Return a frame after a Wiener filter: sharp, its noise within the band alone.

    This is what a SIM reconstruction looks like.
    """
    shape = (light.shape[0], light.shape[1])
    operator = Convolution(torch.from_numpy(psf), shape)
    return operator.wiener(torch.from_numpy(light), _BALANCE).numpy()


_SMOOTH_PX = 0.6
_POINT = np.zeros((9, 9))
_POINT[4, 4] = 1
_SMOOTHED = float((ndimage.gaussian_filter(_POINT, _SMOOTH_PX) ** 2).sum())
_HAZE, _BEYOND = 0.5, 0.4
_hazy = partial(haze, share=_HAZE, sigma_px=8)
_thick = partial(other_planes, share=_BEYOND)

_SCENES: dict[str, Scene] = {"filled": filled, "mostly dark": dark}
_SHOT, _WHITE = "shot noise", "white noise"
_STRAY, _WRONG = "stray light", "PSF wrong"
_COLOURED, _PROCESSED = "coloured noise", "processed already"

CONDITIONS: dict[str, Condition] = {
    **{
        f"{name}, {peak} e": Condition(_SHOT, scene, peak)
        for name, scene in _SCENES.items()
        for peak in (50, 200, 500, 1000, 5000, 20_000)
    },
    **{
        f"filled, white noise {sigma}": Condition(_WHITE, filled, None, sigma)
        for sigma in (0.001, 0.01, 0.03, 0.05)
    },
    "mostly dark, haze 50 %": Condition(_STRAY, dark, stray=_hazy, kept=1 - _HAZE),
    "mostly dark, 40 % from out of focus": Condition(
        _STRAY, dark, stray=_thick, kept=1 - _BEYOND
    ),
    "mostly dark, background 0.2": Condition(
        _STRAY, dark, stray=partial(pedestal, light=0.2)
    ),
    "nuclei, haze 50 %": Condition(_STRAY, nuclei, stray=_hazy, kept=1 - _HAZE),
    **{
        f"{name}, γ off by {error:.2f}": Condition(_WRONG, scene, error=error)
        for name, scene in _SCENES.items()
        for error in (0.03, 0.06, 0.10)
    },
    "filled, spherical 0.05 not stated": Condition(
        _WRONG, filled, psf=partial(spherical, waves=0.05)
    ),
    "filled, PSF 12 % wider": Condition(
        _WRONG, filled, psf=partial(rescaled, factor=1.12)
    ),
    "filled, PSF 12 % narrower": Condition(
        _WRONG, filled, psf=partial(rescaled, factor=0.88)
    ),
    "filled, columns 0.01": Condition(
        _COLOURED, filled, camera=partial(columns, rms=0.01), white=False
    ),
    "filled, smoothed by 0.6 px": Condition(
        _COLOURED,
        filled,
        camera=partial(smoothed, sigma_px=_SMOOTH_PX),
        variance=_SMOOTHED,
        white=False,
    ),
    "mostly dark, a filter's result": Condition(
        _PROCESSED, dark, _MANY, process=processed, white=False
    ),
    "filled, sharp already": Condition(_PROCESSED, filled, psf=sharp_already),
}
"""Name → how its frames are made; 500 e where the name has no number of electrons."""


def grey_values(light: Pixels) -> NDArray[np.uint16]:
    """Return the camera's grey values (H, W) of light."""
    return np.clip(np.rint(_DARK + _SPAN * light), 0, 65535).astype(np.uint16)


def light_of(grey: NDArray[Any]) -> Pixels:
    """Return the light (H, W) of grey values, as of a deblurred frame."""
    return (np.asarray(grey, np.float64) - _DARK) / _SPAN


def expose(
    condition: Condition,
    picture: Pixels,
    number: int,
    family: ZernikeFamily,
    realisation: int = 0,
) -> Frame:
    """Return a frame of a picture.

    Parameters
    ----------
    condition
        How it is made.
    picture
        (SIDE + 2·MARGIN, SIDE + 2·MARGIN) in [0, 1].
    number
        Seeds the scene, the blur and its error.
    family
        The rig's blurs.
    realisation
        Of the noise: frames that differ in it alone share all else.
    """
    chance = np.random.default_rng(3000 + number)
    noise = np.random.default_rng([number, realisation])
    draw = torch.Generator().manual_seed(2000 + number)
    gamma = family.sample_rms(1, draw)[0]
    off = condition.error * torch.randn(gamma.shape, generator=draw)
    sharp = condition.scene(picture, chance)
    psf = (condition.psf or exactly)(family, gamma).double().numpy()
    view = View(np.maximum(convolved(sharp, psf), 0), psf, sharp)
    truth = sharp
    if condition.stray is not None:
        lit = condition.stray(view, chance)
        truth = condition.kept * sharp + lit.image - condition.kept * view.image
        view = View(np.maximum(lit.image, 0), psf, sharp)
    inner = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    clean, truth = view.image[inner], truth[inner]
    electrons = condition.electrons
    if electrons is None:
        slope, intercept = 0.0, condition.sigma**2
        light = clean + condition.sigma * noise.standard_normal(clean.shape)
    else:
        slope, intercept = 1 / electrons, (_READ_E / electrons) ** 2
        read = _READ_E * noise.standard_normal(clean.shape)
        light = (noise.poisson(clean * electrons) + read) / electrons
    if condition.camera is not None:
        light = condition.camera(View(light, psf, sharp[inner]), noise).image
    if condition.process is not None:
        light = condition.process(light, psf)
    grey = grey_values(light)
    found = scale(grey, cutoff=family.cutoff)
    low, span = (found.low - _DARK) / _SPAN, found.span / _SPAN
    model = NoiseModel(
        torch.tensor([condition.variance * slope]),
        torch.tensor([condition.variance * intercept]),
        torch.tensor([1 / 12 / _SPAN**2]),
    ).scaled(torch.tensor(low), torch.tensor(span))
    stated = max(condition.error, _LEAST_ERROR)
    return Frame(
        found.image,
        low,
        span,
        model,
        gamma + off,
        stated**2 * torch.eye(len(gamma)),
        electrons or float(clean.mean()) / condition.sigma**2,
        truth,
        clean,
    )
