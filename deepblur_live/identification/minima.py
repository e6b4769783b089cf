"""Local minima of a fit: which one is chosen, and how far the others scatter."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from deepblur_live.blur.symmetry import (
    ResolvedBy,
    nearest_rows,
    orbit,
)
from deepblur_live.identification.otf import coarse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily, Symmetry
    from deepblur_live.identification.fit import Fit
    from deepblur_live.identification.phase import Phase

__all__ = [
    "aligned",
    "best_first",
    "competing_scatter",
    "distinct",
    "most_central_first",
    "rank_by_phase",
    "relative",
    "rotations",
]

# Log-likelihood by which a better minimum than the chosen one counts at most, and the
# relative likelihood below which none is chosen.
_MUCH_BETTER, _LEAST_LIKELIHOOD = 3.0, 0.05
# Minima whose spectrum fits worse than the best by this are not ranked by phase.
_RANKED_WITHIN = 8.0
# Minima closer than this, relative to the prior scale, are the same.
_SAME = 0.02


def relative(family: BlurFamily, coefficients: torch.Tensor) -> torch.Tensor:
    """Return coefficients (..., P) over the family's prior scale."""
    return coefficients / torch.as_tensor(family.prior.scale).to(coefficients)


def aligned(
    family: BlurFamily, gamma: torch.Tensor, reference: torch.Tensor
) -> torch.Tensor:
    """Return the equivalents (S, P) of γ, for a power spectrum, nearest a reference.

    Either may be (P,), one for all.
    """
    elements = orbit(family, ResolvedBy.NEVER, ResolvedBy.IMAGE)
    return nearest_rows(gamma, reference, elements)


def rotations(family: BlurFamily) -> tuple[Symmetry, ...]:
    """Return the identity, and the symmetry that rotates the PSF by 180° if any."""
    return orbit(family, ResolvedBy.IMAGE)[:2]


def most_central_first(
    family: BlurFamily,
    gamma: torch.Tensor,
    objective: torch.Tensor,
    order: torch.Tensor,
) -> torch.Tensor:
    """Return an order of minima (S,), the one of least expected PSF error first.

    At high noise several minima fit equally well. The best of them by a hair is a
    gamble; the one nearest to the others, weighted by likelihood, has the least
    expected error. A minimum that several starts have reached counts as often: its
    basin is wide. A rotation by 180° has the same spectrum and is no error here.
    """
    if len(gamma) == 1:
        return order
    likelihood = torch.exp(-(objective - objective.min()))
    elements = rotations(family)
    candidates = torch.cat([gamma, *(e.apply_rows(gamma) for e in elements[1:])])
    psfs = coarse(family).psf(candidates).flatten(1).chunk(len(elements))
    errors = torch.stack([torch.cdist(psfs[0], psf) for psf in psfs])
    expected = (errors.amin(0).square() * likelihood).sum(1)
    # Only a minimum of some likelihood can be chosen.
    expected[likelihood < _LEAST_LIKELIHOOD] = torch.inf
    central = expected.argmin()
    return torch.cat([central[None], order[order != central]])


def rank_by_phase(
    family: BlurFamily,
    fit: Fit,
    phase: Phase,
    hysteresis: float = 0.0,
    within: float = _RANKED_WITHIN,
) -> Fit:
    """Return a fit with its minima ranked by spectrum and phases together.

    Each minimum is rotated by 180° if that lowers its phase term. The first is favoured
    by `hysteresis`. Minima that fit the spectrum worse than the best by more than
    `within` are dropped.
    """
    gamma = torch.as_tensor(fit.coefficients, dtype=torch.float32)
    objective = torch.as_tensor(fit.objective, dtype=torch.float32)
    near = objective < objective.nan_to_num(torch.inf).min() + within
    if not near.any():
        # Not finite: the verdict will say so.
        return fit
    gamma, objective = gamma[near], objective[near]
    # Several starts lead to one minimum: it is evaluated once.
    scaled = relative(family, gamma)
    same = (torch.cdist(scaled, scaled) < _SAME).int().argmax(1)
    first, which = torch.unique(same, return_inverse=True)
    upright, rotated = phase.costs(gamma[first])[:, which]
    *_, rotation = rotations(family)
    if rotation.resolved_by is ResolvedBy.IMAGE:
        better = (upright <= rotated)[:, None]
        gamma = torch.where(better, gamma, rotation.apply_rows(gamma))
        upright = torch.minimum(upright, rotated)
    return best_first(family, fit, gamma, objective + upright, hysteresis)


def best_first(
    family: BlurFamily,
    fit: Fit,
    gamma: torch.Tensor,
    objective: torch.Tensor,
    hysteresis: float,
) -> Fit:
    """Return a fit with these minima (S, P), the first favoured by `hysteresis`."""
    favoured = objective.clone()
    favoured[0] -= hysteresis
    order = most_central_first(family, gamma, favoured, torch.argsort(favoured))
    gamma, objective = gamma[order], objective[order]
    temperature = fit.error_model.competing_temperature
    return replace(
        fit,
        coefficients=gamma.double().numpy(),
        objective=objective.double().numpy(),
        competing=competing_scatter(family, gamma, objective, temperature, fit.centre),
    )


def distinct(points: torch.Tensor, distance: float) -> list[int]:
    """Return the rows of (S, P) that are not closer than `distance` to one before."""
    near = torch.cdist(points, points) < distance
    kept: list[int] = []
    for row in range(len(points)):
        if not near[row, kept].any():
            kept.append(row)
    return kept


def competing_scatter(
    family: BlurFamily,
    gamma: torch.Tensor,
    objective: torch.Tensor,
    temperature: float,
    centre: float = math.inf,
) -> NDArray[np.float64]:
    """Return (P, P): scatter of other minima about the first, weighted by likelihood.

    The curvature of one minimum ignores another that fits nearly as well, or better,
    and a prior mean that does: a power spectrum depends on small aberrations by their
    squares, so that minima lie around it. Likelihoods are softened by `temperature`;
    `centre` is the objective of the prior's mean.
    """
    mean = torch.as_tensor(family.prior.mean)
    offset = gamma[0].double() - mean
    share = 1 / (1 + math.exp(min((centre - float(objective[0])) / temperature, 99.0)))
    about = share * torch.outer(offset, offset)
    behind = (objective - objective[0]) / temperature
    likelihood = torch.exp((-behind).clamp(max=_MUCH_BETTER))
    distance = (aligned(family, gamma, gamma[0]) - gamma[0]).double()
    scatter = torch.einsum("s,sp,sq->pq", likelihood.double(), distance, distance)
    result: NDArray[np.float64] = (scatter / likelihood.sum() + about).numpy()
    return result
