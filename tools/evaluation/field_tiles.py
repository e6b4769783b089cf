"""A field from its parts alone: each of 3 × 3 tiles has one PSF, found by itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from deepblur_live.identification import Identifier
from evaluation.field_frames import FieldFrame, blurred_field, pack_of, places, snr_of

if TYPE_CHECKING:
    from evaluation.table import Row

__all__ = ["score_tiles"]

_TILES = 3


def score_tiles(frame: FieldFrame, model: str) -> Row:
    """Return the PSF SNR of the tiles' PSFs, in dB over 7 × 7 places, of one frame.

    At each place the PSF is that of its tile, whether or not it is trusted; the tiles
    do not overlap.
    """
    pack = pack_of(model)
    clean, family, truth, _ = blurred_field(frame.path, frame.number, model)
    generator = torch.Generator().manual_seed(frame.number)
    observed = clean + frame.sigma * torch.randn(clean.shape, generator=generator)
    side = len(observed) // _TILES
    found, trusted = [], 0
    for tile in range(_TILES**2):
        top, left = side * (tile // _TILES), side * (tile % _TILES)
        part = observed[top : top + side, left : left + side].contiguous()
        identifier = Identifier(
            pack.family, pack.manifest.error_model, None, 5.0, pack.specimen
        )
        identifier.observe(part, 0.0)
        estimate = identifier.estimate(part)
        found.append(torch.as_tensor(estimate.coefficients).float())
        trusted += estimate.trusted
    psfs = pack.family.psf(torch.stack(found))
    index = [
        min(_TILES - 1, math.floor(_TILES * row)) * _TILES
        + min(_TILES - 1, math.floor(_TILES * column))
        for row, column in places()
    ]
    true = family.local.psf(family.at(truth.double(), places()).float())
    mean, worst = snr_of(psfs[index], true)
    return {"tiles": mean, "tiles_worst": worst, "tiles_trusted": trusted / _TILES**2}
