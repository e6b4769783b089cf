"""Where a fit of beads starts without a prediction: a library against the mean bead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.identification.beads.registration import correlation
from deepblur_live.identification.beads.verdict import half_ranges
from deepblur_live.identification.minima import distinct, relative

if TYPE_CHECKING:
    from deepblur_live.blur import BlurFamily
    from deepblur_live.identification.beads.model import BeadModel

__all__ = ["BeadLibrary"]

# Points of the family, and of each coefficient's row; size of the other coefficients
# there, in standard deviations of the prior. The batch fits the processor's cache.
_POINTS, _ROW, _SMALL, _BATCH = 600, 40, 0.3, 64
# Starts are further apart than this, relative to the prior scale; of this many times
# the number wanted.
_APART, _NEAR = 0.4, 12
# Blur of the library's beads, pixels²: between none and that of real beads.
_BLUR = 0.5


class BeadLibrary:
    """Images of beads with many blurs of a family, to compare a mean bead with.

    Parameters
    ----------
    model
        Images of beads, as large as they get.

    Attributes
    ----------
    coefficients
        (L, P), canonical.
    """

    def __init__(self, model: BeadModel) -> None:
        self._family = model.family
        points = _points(model.family)
        canonical = model.family.canonical(points.double().numpy())
        self.coefficients = torch.as_tensor(canonical)
        parts = torch.split(self.coefficients, _BATCH)
        blur = 0.0 if model.known_blur else _BLUR
        self._images = torch.cat([model.centred(part, blur).float() for part in parts])

    def best(self, mean_bead: torch.Tensor, count: int) -> torch.Tensor:
        """Return the (count, P) coefficients whose beads resemble a mean bead most.

        By the largest value of the normalised cross-correlation, wherever the bead
        stands in its crop (C, C).
        """
        cut = (self._images.shape[-1] - mean_bead.shape[-1]) // 2
        kept = slice(cut, self._images.shape[-1] - cut)
        images = self._images[:, kept, kept]
        images = images - images.mean((1, 2), keepdim=True)
        images = images / images.square().sum((1, 2), keepdim=True).sqrt()
        bead = (mean_bead - mean_bead.mean()).float()
        likeness = correlation(bead, images).amax((1, 2))
        order = torch.argsort(likeness, descending=True)[: _NEAR * count]
        best = self.coefficients[order]
        apart = distinct(relative(self._family, best), _APART)
        return best[apart[:count]]


def _points(family: BlurFamily) -> torch.Tensor:
    """Return the (L, P) coefficients of a library.

    The family's own points; and rows of points across the range of each coefficient,
    the others being small: a real microscope is out of focus by much, or has much
    spherical aberration, and little else.
    """
    generator = torch.Generator().manual_seed(0)
    prior = family.prior
    mean = torch.as_tensor(prior.mean).float()
    small = _SMALL * torch.as_tensor(np.sqrt(np.diag(prior.covariance))).float()
    points = [mean[None], family.search_points(_POINTS, generator).float()]
    for axis, half in enumerate(half_ranges(family)):
        row = mean + small * torch.randn(_ROW, len(mean), generator=generator)
        row[:, axis] = mean[axis] + float(half) * torch.linspace(-1, 1, _ROW)
        points.append(row)
    return torch.cat(points)
