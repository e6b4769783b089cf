"""Whether a frame shows many isolated spots of one shape, as a bead slide does.

Their spectrum is that of one spot: its size and the blur cannot be separated, and the
statistics of other specimens do not apply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.identification.beads.detect import (
    Candidate,
    background_noise,
    detect,
)
from deepblur_live.identification.beads.registration import (
    border,
    mean_bead,
    shifted,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["equal_spots", "unlikeness"]

# See docs/decisions/0134-equal-spots.md
_FEWEST, _MOST = 10, 40
# Largest share of a spot's energy that the mean of the others does not explain, and the
# least share of the frame's variance that lies in the spots.
_UNLIKE, _LEAST_SHARE = 0.06, 0.5
# Sides of the part of a frame that a spot takes, in widths of a spot in focus.
_LEAST_SIDE, _LARGEST_SIDE = 5.0, 25.0


def equal_spots(image: NDArray[np.floating], fwhm: float) -> int:
    """Return how many isolated spots a frame shows, if they are alike; 0 otherwise.

    Parameters
    ----------
    image
        (H, W) brightness, in any unit.
    fwhm
        Full width at half maximum of the image of a point in focus, pixels.
    """
    frame = np.asarray(image, dtype=np.float64)
    least, largest = (2 * round(s * fwhm / 2) + 1 for s in (_LEAST_SIDE, _LARGEST_SIDE))
    if min(frame.shape) <= largest:
        return 0
    found = detect(frame, fwhm, least, largest)
    spots = found.usable[:_MOST]
    if len(spots) < _FEWEST:
        return 0
    half = found.side // 2
    near = np.arange(-half, half + 1)
    crops = np.stack([frame[np.ix_(s.row + near, s.column + near)] for s in spots])
    noise = background_noise(frame)
    if _share(frame, noise, found.candidates, half) < _LEAST_SHARE:
        return 0
    unlike = float(np.median(unlikeness(torch.from_numpy(crops), noise)))
    return len(spots) if unlike < _UNLIKE else 0


def unlikeness(crops: torch.Tensor, noise: float) -> NDArray[np.float64]:
    """Return the share (n,) of each spot's energy not explained by the others' mean.

    Parameters
    ----------
    crops
        (n, C, C), a spot near the middle of each.
    noise
        Standard deviation of their white noise, whose energy does not count.
    """
    _, places = mean_bead(crops)
    spots = shifted(crops - border(crops)[:, None, None], -places)
    others = (spots.sum(0) - spots) / (len(spots) - 1)
    scale = (spots * others).sum((1, 2)) / others.square().sum((1, 2))
    explained = scale[:, None, None] * others
    left = (spots - explained).square().sum((1, 2)) - noise**2 * spots[0].numel()
    share: NDArray[np.float64] = (left / explained.square().sum((1, 2))).numpy()
    return share


def _share(
    frame: NDArray[np.float64],
    noise: float,
    candidates: tuple[Candidate, ...],
    half: int,
) -> float:
    """Return the share of a frame's variance that lies within `half` of candidates."""
    covered = np.zeros(frame.shape, dtype=bool)
    for spot in candidates:
        rows = slice(max(0, spot.row - half), spot.row + half + 1)
        covered[rows, max(0, spot.column - half) : spot.column + half + 1] = True
    square = (frame - np.median(frame)) ** 2 - noise**2
    return float(square[covered].sum() / square.sum())
