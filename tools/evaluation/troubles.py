"""Frames from which the blur is not identifiable, or only with other knowledge."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.blur import Convolution
from evaluation.held_out import SIDE, blurred, scene

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from evaluation.case import Case

__all__ = ["TROUBLES", "Trouble"]

# A 12-bit camera: its highest grey value, that without light, and the span of [0, 1].
_CEILING, _DARK, _SPAN = 4095, 200, 3000
_CLIPPED = 0.03
_MOTION = 15
# Ranges of bead diameters and grating periods, pixels; they vary from frame to frame.
_DIAMETERS, _PERIODS = (6.0, 14.0), (8.0, 20.0)
_BEADS = 300
# Factor of the family's range.
_OUT_OF_RANGE = 3


@dataclass(frozen=True)
class Trouble:
    """A camera's frame and its true PSF.

    Parameters
    ----------
    pixels
        (H, W) uint16.
    psf
        (K, K), or None where no PSF of the family is right.
    """

    pixels: NDArray[np.uint16]
    psf: torch.Tensor | None


def _noise(case: Case, image: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(case.spec.number)
    return image + case.spec.sigma * torch.randn(image.shape, generator=generator)


def _counts(image: torch.Tensor, span: float = _SPAN) -> NDArray[np.uint16]:
    counts = np.rint(_DARK + span * image.numpy())
    return np.clip(counts, 0, _CEILING).astype(np.uint16)


def _between(case: Case, low: float, high: float) -> float:
    """Return a number that varies evenly from frame to frame."""
    golden = (case.spec.number * 0.618034) % 1
    return low + golden * (high - low)


def flat(case: Case) -> Trouble:
    """Return uniform light with noise, without a specimen."""
    return Trouble(_counts(_noise(case, torch.full((SIDE, SIDE), 0.5))), None)


def saturated(case: Case) -> Trouble:
    """Return a frame whose brightest 3 % of pixels are clipped."""
    image = case.frame.observed
    brightest = float(np.quantile(image.numpy(), 1 - _CLIPPED))
    return Trouble(_counts(image, (_CEILING - _DARK) / brightest), case.psf)


def motion(case: Case) -> Trouble:
    """Return a frame during which the stage moved by 15 pixels."""
    angle = _between(case, 0, math.pi)
    side = _MOTION + 2
    line = torch.zeros(side, side)
    for place in torch.linspace(-0.5, 0.5, 20 * _MOTION) * (_MOTION - 1):
        y = side // 2 + float(place) * math.sin(angle)
        x = side // 2 + float(place) * math.cos(angle)
        row, column = int(y), int(x)
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            share = (1 - abs(y - row - i)) * (1 - abs(x - column - j))
            line[row + i, column + j] += share
    shape = (SIDE, SIDE)
    cut = side // 2
    moved = Convolution(line / line.sum(), shape).forward(case.frame.blurred)
    moved = moved[cut:-cut, cut:-cut]
    return Trouble(_counts(_noise(case, moved)), None)


def _blurred(case: Case, sharp: torch.Tensor) -> Trouble:
    image = blurred(sharp, case.family, case.frame.coefficients)
    return Trouble(_counts(_noise(case, image)), case.psf)


def periodic(case: Case) -> Trouble:
    """Return bars of one period, in every other frame crossed bars."""
    places = torch.arange(SIDE + case.family.window - 1.0)
    angle = _between(case, 0, math.pi)
    period = _between(case, *_PERIODS)
    bars = torch.ones(len(places), len(places))
    for rotation in (0, math.pi / 2)[: 1 + case.spec.number % 2]:
        along = places[:, None] * math.sin(angle + rotation) + places * math.cos(
            angle + rotation
        )
        bars *= torch.remainder(along / period, 1) < 0.5
    return _blurred(case, bars)


def beads(case: Case) -> Trouble:
    """Return beads of one size, unknown to the program, at random places."""
    side = SIDE + case.family.window - 1
    radius = _between(case, *_DIAMETERS) / 2
    places = torch.arange(-8.0, 9.0)
    ball = (radius**2 - places[:, None] ** 2 - places**2).clamp(min=0).sqrt() / radius
    generator = torch.Generator().manual_seed(case.spec.number)
    centres = torch.zeros(side * side)
    centres[torch.randperm(side * side, generator=generator)[:_BEADS]] = 1
    scattered = Convolution(ball, (side, side)).forward(centres.view(side, side))
    return _blurred(case, scattered.clamp(max=1))


def out_of_range(case: Case) -> Trouble:
    """Return a frame whose blur is three times as large as the family's."""
    gamma = _OUT_OF_RANGE * case.frame.coefficients
    sharp = scene(case.spec.path, SIDE + case.family.window - 1)
    image = blurred(sharp, case.family, gamma)
    return Trouble(_counts(_noise(case, image)), case.family.psf(gamma))


TROUBLES: dict[str, Callable[[Case], Trouble]] = {
    "flat": flat,
    "saturated": saturated,
    "moved by 15 pixels": motion,
    "periodic": periodic,
    "equal beads": beads,
    "±0.45 waves": out_of_range,
}
