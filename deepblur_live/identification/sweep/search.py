"""The staged search for γ of a focus sweep: many costs, some short fits, few long ones.

The misfit has many local minima. Random γ are ranked by a cheap cost on coarse bins;
the best that lie apart are refined by a few steps, the best of those to the end, and
the last on fine bins (docs/decisions/0116-focus-sweep-search.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from deepblur_live.identification.sweep.fit import SweepFit, fit_sweep

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.identification.sweep.fit import SweepPrior
    from deepblur_live.identification.sweep.problem import SweepProblem

__all__ = ["search_sweep"]

# Random γ whose cost is computed, and at a time: more exceed the processor's cache.
_TRIED, _BATCH = 2000, 64
# Of them, starts on a line through the mean along the focus, in standard deviations.
_ALONG, _REACH = 21, 2.0
# Starts of a round lie at least this far apart, in standard deviations of the prior.
_APART = 1.2
# Starts in a round, their steps, how many are then fitted to the end, and those steps.
_STARTS, _SHORT, _KEPT, _LONG = 12, 7, 2, 20
# Another round follows while the χ² per bin exceeds this and the last one improved the
# misfit by more than the second number, up to this many rounds.
_GOOD, _IMPROVEMENT, _ROUNDS = 1.3, 1.0, 3
# Steps on the fine bins, which only polish.
_POLISH = 10
# The cheap cost: κ is larger, as nulls are sharp; residuals beyond this size in log S
# count less; the noise bounds the signal from below.
_NULL, _ROBUST, _LEAST_SIGNAL = 7e-4, 0.15, 0.2


def search_sweep(
    coarse: SweepProblem,
    fine: SweepProblem,
    prior: SweepPrior,
    progress: Callable[[float], None],
) -> SweepFit:
    """Return the best minimum, refined on fine bins.

    Parameters
    ----------
    coarse, fine
        The same planes with few bins, for the search, and with many.
    prior
        Prior of γ.
    progress
        Called with the share that is done, 0 to 1.
    """
    points = _points(coarse, prior)
    cost = []
    for part in torch.split(points, _BATCH):
        cost.append(_cost(coarse, part))
        progress(0.3 * len(cost) * _BATCH / len(points))
    order = torch.argsort(torch.cat(cost)).tolist()
    relative = points / prior.covariance.diagonal().sqrt()
    best: SweepFit | None = None
    used: list[int] = []
    for number in range(_ROUNDS):
        starts: list[int] = []
        for index in order:
            near = relative[[*used, *starts]] - relative[index]
            if not len(near) or float(near.norm(dim=1).min()) > _APART:
                starts.append(index)
            if len(starts) == _STARTS:
                break
        used += starts
        rough = fit_sweep(coarse, points[starts], prior, _SHORT)
        found = fit_sweep(coarse, rough.gamma[:_KEPT], prior, _LONG)
        progress(0.3 + 0.5 * (number + 1) / _ROUNDS)
        if best is not None and found.cost[0] > best.cost[0] - _IMPROVEMENT:
            break
        best = found
        if best.chi2 < _GOOD:
            break
    assert best is not None
    result = fit_sweep(fine, best.gamma[:_KEPT], prior, _POLISH)
    progress(1.0)
    return result


def _points(problem: SweepProblem, prior: SweepPrior) -> torch.Tensor:
    """Return coefficients (S, P): along the focus, then at random by the prior."""
    root = torch.linalg.cholesky(prior.covariance)
    generator = torch.Generator().manual_seed(0)
    shape = (_TRIED, len(prior.mean))
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    points: torch.Tensor = prior.mean + normal @ root.T
    # Along the direction in which the planes differ, by the prior's own deviation.
    along = problem.offsets[-1] - problem.offsets[0]
    length = (along @ torch.linalg.solve(prior.covariance, along)).sqrt()
    steps = torch.linspace(-_REACH, _REACH, _ALONG, dtype=torch.float64)
    points[:_ALONG] = prior.mean + steps[:, None] * along / length
    return points


def _cost(problem: SweepProblem, gamma: torch.Tensor) -> torch.Tensor:
    """Return a cheap misfit (S,) of coefficients (S, P).

    The specimen is the median over the planes.
    """
    transfer = problem.transfer(gamma) + _NULL
    signal = torch.maximum(problem.power - problem.noise, _LEAST_SIGNAL * problem.noise)
    specimen = (torch.log(signal) - torch.log(transfer)).median(1).values
    model = torch.exp(specimen)[:, None] * transfer + problem.noise
    residual = (problem.log_power - torch.log(model)) / _ROBUST
    cost: torch.Tensor = torch.sqrt(1 + residual**2).sum((1, 2))
    return cost
