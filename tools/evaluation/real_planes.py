"""Deblurring of neighbouring planes of a real stack: one specimen, other noise.

Planes 50 nm apart are of the same structures. The fine detail that the images of both
have is the specimen's (or a ringing that both share); what they do not agree on is
noise, amplified or turned into structure.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage
from training.pictures import DataError

from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.optics.noise_fit import measure_noise
from deepblur_live.runtime.calibration import scale
from evaluation.deblurring_frames import Frame
from evaluation.deblurring_methods import RAW, methods
from evaluation.deblurring_scores import agreement, floor_of, rim
from evaluation.stacks import STACKS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from deepblur_live.deblurring import UnrolledFista

    Pixels = NDArray[np.float64]

__all__ = ["PAIRS", "PLANES", "score_planes"]

PLANES = "cells"
"""The stack, a key of ``STACKS``."""

# The lower plane of each pair, counted from the plane in focus.
PAIRS = (-3, 0, 3)
# No frame of this stack is answered: the PSF is that in focus, of the assumed optics,
# and this is the stated deviation in waves rms a mode.
_STATED = 0.03
# Pixels are sorted by their light, smoothed by a Gaussian (pixels), into the haze
# around structures and the bright structures: shares of all pixels below them.
_SMOOTH, _HAZE, _BRIGHT = 4.0, 0.90, 0.97


@lru_cache(maxsize=1)
def _family() -> ZernikeFamily:
    return ZernikeFamily.from_optics(STACKS[PLANES].optics)


def _frames(path: Path, pair: int) -> list[Frame]:
    """Return a pair of planes as frames, in the light of the first one's scale."""
    stack, family = STACKS[PLANES], _family()
    planes = stack.read(path.parent.parent)
    first = stack.focus + pair
    scaled = [scale(planes[k], cutoff=family.cutoff) for k in (first, first + 1)]
    low, span = scaled[0].low, scaled[0].span
    gamma = torch.zeros(family.n_coefficients)
    frames = []
    for found in scaled:
        noise = measure_noise(found.image, family.cutoff, 1 / 12 / found.span**2)
        if noise is None or float(noise.slope) <= 0:
            raise DataError(f"{path}: no shot noise beyond the optics' cut-off")
        factor = found.span / span
        frames.append(
            Frame(
                found.image,
                (found.low - low) / span,
                factor,
                noise,
                gamma,
                _STATED**2 * torch.eye(len(gamma)),
                1 / float(noise.slope) / factor,
            )
        )
    return frames


def score_planes(
    path: Path, pair: int, networks: dict[str, UnrolledFista]
) -> dict[str, dict[str, float]]:
    """Return each method's figures of a pair of planes of a stack's file.

    The share of fine detail that the two images agree on, its power over that in the
    raw planes, and what they do not agree on (rms, thousandths of the frame's range),
    each in the haze and in bright parts; and the worst rim below the raw frame's floor.
    """
    frames = _frames(path, pair)
    images = [methods(frame, _family(), networks) for frame in frames]
    raw = [part[RAW] for part in images]
    light = ndimage.gaussian_filter((raw[0] + raw[1]) / 2, _SMOOTH)
    haze, bright = (np.quantile(light, share) for share in (_HAZE, _BRIGHT))
    parts = {"haze": (light >= haze) & (light < bright), "bright": light >= bright}
    floor = floor_of(ndimage.gaussian_filter(raw[0], _SMOOTH / 2))
    found: dict[str, dict[str, float]] = {}
    for name in images[0]:
        first, second = (part[name] for part in images)
        found[name] = {"rim": rim(first, floor)}
        for part, where in parts.items():
            both = agreement(first, second, where)
            before = agreement(raw[0], raw[1], where)
            found[name] |= {
                f"share_{part}": both.share,
                f"common_{part}": both.common / before.common,
                f"noise_{part}": 1000 * both.noise,
            }
    return found
