"""The minima of a fit: which of them is told, and how far they lie apart."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from deepblur_live.identification.otf import coarse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deepblur_live.identification.fit import Fit
    from deepblur_live.identification.phase import Phase
    from deepblur_live.optics import ZernikeFamily

__all__ = [
    "aligned",
    "best_first",
    "distinct",
    "most_central_first",
    "rival_spread",
    "told_apart",
]

# A minimum that fits better than the one told is believed so many times e more at most,
# and one that is believed less than this is never told.
_MUCH_BETTER, _BELIEVED = 3.0, 0.05
# The spread's beliefs are so many times less sure than the likelihood's: the errors of
# 495 answers to single validation frames are then likelier, by 1 nat each.
_DOUBT = 4.0
# A frame's phases are not asked of minima that fit its spectrum so much worse.
_LOOKED_AT = 8.0
# Minima that are so near in γ, waves, are the same.
_SAME = 0.003


def aligned(
    family: ZernikeFamily, gamma: torch.Tensor, reference: torch.Tensor
) -> torch.Tensor:
    """Return (S, P) coefficients with the signs, block by block, of a reference.

    A spectrum is blind to the common sign of the even and of the odd modes. Either may
    be (P,), one for all.
    """
    result = gamma + torch.zeros_like(reference)
    even = torch.from_numpy(family.even)
    for block in (even, ~even):
        agree = (result[:, block] * reference[..., block]).sum(1, keepdim=True)
        result[:, block] *= torch.where(agree < 0, -1.0, 1.0)
    return result


def most_central_first(
    family: ZernikeFamily,
    gamma: torch.Tensor,
    objective: torch.Tensor,
    order: torch.Tensor,
) -> torch.Tensor:
    """Return an order of minima (S,), the least expected error of the PSF first.

    At high noise several minima fit alike. The best of them by a hair is a gamble;
    the one that is nearest to the others, each as far as it is believed, loses
    least. One that several starts have led to counts as often: its valley is wide. A
    PSF turned by 180° has the same spectrum and is no error here.
    """
    belief = torch.exp(-(objective - objective.min()))
    turned = torch.where(torch.from_numpy(family.even), gamma, -gamma)
    psf = coarse(family).psf(torch.cat([gamma, turned])).flatten(1)
    upright, over = psf.chunk(2)
    error = torch.minimum(torch.cdist(upright, upright), torch.cdist(upright, over))
    expected = (error.square() * belief).sum(1)
    # Only what is believed at all can be chosen.
    expected[belief < _BELIEVED] = torch.inf
    central = expected.argmin()
    return torch.cat([central[None], order[order != central]])


def told_apart(
    family: ZernikeFamily,
    fit: Fit,
    phase: Phase,
    credit: float = 0.0,
    looked_at: float = _LOOKED_AT,
) -> Fit:
    """Return a fit of a spectrum with its minima as a frame's phases have them.

    Each is turned as they like it better, and fits less well by what they have against
    it; the first, before that, better by `credit`. They are not asked of minima that
    fit the spectrum worse than the best by more than `looked_at`: those go.
    """
    gamma = torch.as_tensor(fit.coefficients, dtype=torch.float32)
    objective = torch.as_tensor(fit.objective, dtype=torch.float32)
    near = objective < objective.nan_to_num(torch.inf).min() + looked_at
    if not near.any():
        # Numbers that are none: it is for the verdict to say so.
        return fit
    gamma, objective = gamma[near], objective[near]
    # Several starts lead to one minimum: the first of them is looked at.
    same = (torch.cdist(gamma, gamma) < _SAME).int().argmax(1)
    first, which = torch.unique(same, return_inverse=True)
    turned = torch.where(torch.from_numpy(family.even), gamma, -gamma)
    costs = phase.costs(gamma[first])[:, which]
    gamma = torch.where((costs[0] <= costs[1])[:, None], gamma, turned)
    return best_first(family, fit, gamma, objective + costs.amin(0), credit)


def best_first(
    family: ZernikeFamily,
    fit: Fit,
    gamma: torch.Tensor,
    objective: torch.Tensor,
    credit: float,
) -> Fit:
    """Return a fit with these minima (S, P), the first of them better by `credit`."""
    credited = objective.clone()
    credited[0] -= credit
    order = most_central_first(family, gamma, credited, torch.argsort(credited))
    gamma, objective = gamma[order], objective[order]
    return replace(
        fit,
        coefficients=gamma.double().numpy(),
        objective=objective.double().numpy(),
        rivals=rival_spread(family, gamma, objective),
    )


def distinct(gamma: torch.Tensor, apart: float) -> list[int]:
    """Return which of (S, P) no kept one before is nearer to than `apart`."""
    near = torch.cdist(gamma, gamma) < apart
    kept: list[int] = []
    for row in range(len(gamma)):
        if not near[row, kept].any():
            kept.append(row)
    return kept


def rival_spread(
    family: ZernikeFamily, gamma: torch.Tensor, objective: torch.Tensor
) -> NDArray[np.float64]:
    """Return (P, P): the spread of other minima about the first, as believed.

    The curvature of one knows nothing of another that fits nearly as well, or better.
    """
    behind = (objective - objective[0]) / _DOUBT
    belief = torch.exp((-behind).clamp(max=_MUCH_BETTER))
    distance = (aligned(family, gamma, gamma[0]) - gamma[0]).double()
    spread = torch.einsum("s,sp,sq->pq", belief.double(), distance, distance)
    result: NDArray[np.float64] = (spread / belief.sum()).numpy()
    return result
