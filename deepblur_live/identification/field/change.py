"""Whether a new frame contradicts the field of those before it.

The ratio of a cell's two spectra does not contain its specimen. What a change of the
field does to the cells' ratios is a few polynomials of their place; a specimen that
moves or changes does something else in each cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from deepblur_live.identification.normal_equations import (
    Slopes,
    downhill,
    normal_equations,
)
from deepblur_live.identification.spectrum import noise_floor, smoothed

if TYPE_CHECKING:
    from deepblur_live.identification.field.fit import FieldModel
    from deepblur_live.identification.observed import ObservedSpectrum
    from deepblur_live.identification.otf import LinearOtf

__all__ = ["Change", "ChangeOfField"]

# A field has changed if the variance of the cells' spectral ratios that a change of it
# explains, per term, is so many times what it leaves, and if it is as large as this,
# relative to the prior scale, in root mean square over the cells
# (docs/decisions/0225-changed-field.md).
_SIGNIFICANT, _LEAST = 6.0, 0.1
# Share by which the number of frames in the average may change until the curvature of
# the cells' misfit is computed again.
_AS_MANY = 0.1


class Change(NamedTuple):
    """A change of the field between an average and a new frame.

    Parameters
    ----------
    ratio
        Variance that it explains per term, over that left per degree of freedom.
    size
        Root mean square over cells, relative to the prior scale.
    """

    ratio: float
    size: float

    @property
    def clear(self) -> bool:
        """Whether the field has changed beyond doubt."""
        return self.ratio > _SIGNIFICANT and self.size > _LEAST


class ChangeOfField:
    """Compares new spectra of cells with their average, near a known field.

    Parameters
    ----------
    linear
        The cells' OTFs near the field.
    model
        The terms that may change.
    data
        Spectra of the cells, for the specimen's basis and the bins that are used.
    cutoff
        Coherent cut-off in cycles per pixel.
    """

    def __init__(
        self,
        linear: LinearOtf,
        model: FieldModel,
        data: ObservedSpectrum,
        cutoff: float,
    ) -> None:
        self.linear, self._slopes = linear, linear.slopes
        self._model, self._data, self._cutoff = model, data, cutoff
        self._scale = linear.scale.double()
        modes, unknowns = self._slopes.shape[1], data.basis.shape[1] + 1
        # A cell's γ has the prior scale, its specimen's change that of specimens.
        prior = torch.cat([self._scale**-2, torch.ones(unknowns).double()])
        self._precision, self._modes = torch.diag(prior), modes
        # Curvature for a weight of 1, and the number of frames of its average.
        self._curvature: torch.Tensor | None = None
        self._frames = 0.0

    def between(
        self,
        before: torch.Tensor,
        after: torch.Tensor,
        averages: float,
        frames: float,
    ) -> Change:
        """Return the change from an average of frames to a new one.

        Parameters
        ----------
        before, after
            (C, W, W//2+1), spectra of the cells, windows with equal weights.
        averages
            Effective number of averages in a cell of one frame.
        frames
            Number of frames in `before`.
        """
        keep, m = self._data.keep, self._modes
        floor = noise_floor(before, averages * frames, self._cutoff)
        share = (1 - floor[:, None, None] / smoothed(before)).clamp(0, 1)
        share = share.flatten(1)[:, keep]
        logs = torch.log(after.clamp(min=1e-30) / before.clamp(min=1e-30))
        weight = averages / (1 + 1 / frames)
        equations = (
            self._data,
            Slopes(self._slopes, share, 1 - share),
            torch.ones_like(share),
            logs.flatten(1)[:, keep],
        )
        if abs(frames - self._frames) > _AS_MANY * self._frames:
            hessian, gradient = normal_equations(*equations)
            self._curvature, self._frames = hessian.double(), frames
        else:
            gradient = downhill(*equations)
        assert self._curvature is not None
        hessian, gradient = weight * self._curvature, weight * gradient.double()
        other = hessian[:, m:, m:] + self._precision[m:, m:]
        coupling = hessian[:, :m, m:]
        right = torch.cat([coupling.mT, gradient[:, m:, None]], 2)
        solved = torch.linalg.solve(other, right)
        curvature = hessian[:, :m, :m] - coupling @ solved[..., :m]
        pull = gradient[:, :m] - (coupling @ solved[..., m:])[..., 0]
        design = self._model.design
        total = (design.mT @ curvature @ design).sum(0) + self._model.precision
        slope = (design.mT @ pull[..., None]).sum(0)[:, 0]
        change = torch.linalg.solve(total, slope)
        local = torch.linalg.solve(curvature + self._precision[:m, :m], pull)
        explained = float(change @ slope)
        left = float((local * pull).sum()) - explained
        cells, terms = len(pull), design.shape[2]
        ratio = explained / terms / max(left / (m * cells - terms), 1e-12)
        moved = self._model.at(change) / self._scale
        return Change(ratio, float(moved.square().sum(1).mean().sqrt()))
