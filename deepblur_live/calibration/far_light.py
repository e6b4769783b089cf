"""The light that beads farther off leave in a bead's crop.

Beads whose crops overlap leave light in each other's, although the crop holds only one
of them: the out-of-focus planes spread it. Once all beads are fitted this light is
known, and each is fitted again beside it
(docs/decisions/0237-light-of-beads-farther-off.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from deepblur_live.calibration.fit import ToFit, fit_beads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deepblur_live.calibration.detect import FoundBead
    from deepblur_live.calibration.fit import StackFit
    from deepblur_live.calibration.least_squares import PixelNoise
    from deepblur_live.calibration.model import StackModel
    from deepblur_live.calibration.neighbours import Crop

__all__ = ["fit_beside_far_light"]


def fit_beside_far_light(
    model: StackModel,
    found: Sequence[FoundBead],
    crops: Mapping[int, Crop],
    fits: Mapping[int, StackFit],
    noise: PixelNoise,
) -> dict[int, StackFit]:
    """Return the fits of beads, given the light of those whose crops overlap theirs.

    Beads without such others keep their fit. Those that were fitted together with a
    bead are not counted again; those that could not be fitted are not known.

    Parameters
    ----------
    model, noise
        Model of a bead, crops and noise, as for `fit_beads`.
    found
        All beads of the slide.
    crops, fits
        What was fitted, and the fits, by the bead's number.
    """
    beside = {}
    for k, fit in fits.items():
        light = _far_light(model, found, crops, fits, k)
        if light is not None:
            beside[k] = light if fit.beside is None else fit.beside + light
    again = fit_beads(
        model,
        [ToFit(crops[k].light, fits[k].bead, beside=beside[k]) for k in beside],
        noise,
    )
    # A bead that cannot be fitted again keeps its first fit.
    better = {k: fit for k, fit in zip(beside, again, strict=True) if fit is not None}
    return {**fits, **better}


def _far_light(
    model: StackModel,
    found: Sequence[FoundBead],
    crops: Mapping[int, Crop],
    fits: Mapping[int, StackFit],
    k: int,
) -> torch.Tensor | None:
    """Return the light (Z, K, K) of other beads in the crop of bead `k`, if any."""
    here, reach = found[k], 2 * (model.side // 2)
    together = {(one.row, one.column) for one in crops[k].neighbours}
    beads = []
    for j, other in fits.items():
        row, column = found[j].row - here.row, found[j].column - here.column
        if j == k or max(abs(row), abs(column)) > reach or (row, column) in together:
            continue
        bead = other.bead._replace(
            row=row + other.bead.row, column=column + other.bead.column
        )
        beads.append(bead.vector())
    return model.images(torch.stack(beads)).double().sum(0) if beads else None
