"""Global search for the blur: library, local minima, basin hopping, phases.

Local minima of the spectrum's misfit are reached from a library of blurs, the network's
estimate and the last search's minima, and then by basin hopping. The phases of the
newest frame rank them. As the true blur need not be a minimum of the spectrum's misfit
alone, the best of all rough fits are also refined with spectrum and phases together.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.blur.symmetry import ResolvedBy, orbit
from deepblur_live.identification.minima import (
    best_first,
    distinct,
    rank_by_phase,
    relative,
)
from deepblur_live.identification.problem import SearchConfig
from deepblur_live.identification.verdict import features

if TYPE_CHECKING:
    from deepblur_live.identification.fit import Fit
    from deepblur_live.identification.phase import Phase
    from deepblur_live.identification.problem import Problem
    from deepblur_live.identification.refine import SpectralRefiner

__all__ = ["HYSTERESIS", "LOCAL", "WIDE", "Search"]

WIDE = SearchConfig(stride=1, tried=40, kept=5, hops=16, hops_kept=4, phase_starts=4)
LOCAL = SearchConfig(stride=3, tried=4, kept=2, hops=8, hops_kept=2, phase_starts=1)
"""Without prior knowledge, and in addition to a prediction."""

HYSTERESIS = 4.0
"""The last blur is favoured over others that fit as well by this misfit, unless the
average has only now become long enough to distinguish them."""

_LIBRARY_STEPS = 5
# Number of minima of the last search that are tried in the next.
_REMEMBERED = 2
# Basin hopping: largest stated relative error where it is done, number of minima it
# starts from, and step size relative to the prior scale
# (docs/decisions/0092-search.md).
_NARROW, _HOP_FROM, _HOP = 0.1, 4, 0.5
# Least relative distance of the starts that are refined with phases, number of steps,
# and the improvement of the misfit below which a step is the last.
_APART, _PHASE_STEPS, _PHASE_IMPROVEMENT = 0.2, 10, 0.1


class Search:
    """Finds the local minima of a spectrum's fit, ranked by spectrum and phases.

    Parameters
    ----------
    refiner
        Fits the spectrum.
    """

    def __init__(self, refiner: SpectralRefiner) -> None:
        self.refiner = refiner
        self._similar = orbit(refiner.family, ResolvedBy.SPECTRUM)[1:]
        self._random = torch.Generator().manual_seed(0)

    def minima(self, problem: Problem) -> Fit:
        """Return the minima of a problem's spectrum and phases, best first."""
        data, prior, search = problem.data, problem.prior, problem.search
        starts, rough = list(problem.starts), []
        starts += [s.apply_rows(start) for s in self._similar for start in starts]
        if search is not None:
            tried = self.refiner.starts(data, search.tried, search.stride)
            rough.append(self.refiner.fit(data, tried, prior, _LIBRARY_STEPS))
            starts.append(_first(rough[0], search.kept))
            if problem.competing is not None:
                starts.append(_first(problem.competing, _REMEMBERED))
        begin = torch.cat(starts)
        fit = self.refiner.fit(data, begin, prior, hysteresis=problem.hysteresis)
        thorough = None if problem.hysteresis else search
        if thorough is not None:
            fit, hops = self._basin_hopping(problem, thorough, fit)
            rough += hops
        family = self.refiner.family
        phase = problem.phase(family, _first(fit, 1)[0])
        if phase is None:
            return self._with_centre(problem, fit, None)
        fit = rank_by_phase(family, fit, phase, problem.hysteresis)
        if thorough is not None:
            fit = self._with_phases(problem, thorough, fit, rough, phase)
        return self._with_centre(problem, fit, phase)

    def _with_centre(self, problem: Problem, fit: Fit, phase: Phase | None) -> Fit:
        """Return a fit with the objective of the prior's mean added."""
        prior = self.refiner.family.prior
        if prior.small is None:
            return fit
        mean = torch.as_tensor(prior.mean, dtype=torch.float32)
        centre = self.refiner.known(problem.data, mean, problem.prior)
        if phase is not None:
            centre += float(phase.cost(mean[None])[0])
        return replace(fit, centre=centre)

    def _basin_hopping(
        self, problem: Problem, search: SearchConfig, fit: Fit
    ) -> tuple[Fit, list[Fit]]:
        """Return a fit, or the clearly better one that basin hopping leads to.

        And the rough fits on the way, if any were made.
        """
        family, minima = self.refiner.family, _first(fit, _HOP_FROM)
        verdict = fit.error_model.verdict
        error, _ = features(family, fit.coefficients[0], fit.curvature, verdict)
        if error > math.log(_NARROW):
            return fit, []
        step = torch.randn((search.hops, minima.shape[1]), generator=self._random)
        step *= _HOP * torch.as_tensor(family.prior.scale).to(step)
        hops = minima[torch.arange(search.hops) % len(minima)] + step
        data, prior = problem.data, problem.prior
        rough = self.refiner.fit(data, hops, prior, _LIBRARY_STEPS)
        begin = torch.cat([minima[:_REMEMBERED], _first(rough, search.hops_kept)])
        further = self.refiner.fit(data, begin, prior)
        better = further.objective.min() < fit.objective.min() - HYSTERESIS
        return further if better else fit, [rough]

    def _with_phases(
        self,
        problem: Problem,
        search: SearchConfig,
        fit: Fit,
        rough: list[Fit],
        phase: Phase,
    ) -> Fit:
        """Return a fit with the minima of spectrum and phases together added.

        Starts are the fit's minimum and the best of the rough fits; another minimum
        than the fit's own must be better by `HYSTERESIS`.
        """
        family = self.refiner.family
        tried = rank_by_phase(family, self._merged(rough), phase, within=math.inf)
        order = torch.argsort(torch.from_numpy(tried.objective))
        starts = torch.cat([_first(fit, 1), _first(tried, None)[order]])
        data, prior = problem.data, problem.prior
        chosen = distinct(relative(family, starts), _APART)[: 1 + search.phase_starts]
        refined = [
            self.refiner.fit(
                data,
                start[None],
                prior,
                _PHASE_STEPS,
                phase=phase,
                improvement=_PHASE_IMPROVEMENT,
            )
            for start in starts[chosen]
        ]
        found = torch.cat([_first(one, 1) for one in refined] + [_first(fit, None)[1:]])
        objective = torch.tensor(
            [one.objective[0] for one in refined] + fit.objective[1:].tolist()
        )
        return best_first(family, fit, found, objective, HYSTERESIS)

    def _merged(self, fits: list[Fit]) -> Fit:
        """Return the minima of several fits, only the best of those close together."""
        gamma = np.concatenate([fit.coefficients for fit in fits])
        objective = np.concatenate([fit.objective for fit in fits])
        order = np.argsort(objective)
        points = relative(self.refiner.family, torch.from_numpy(gamma[order]))
        kept = order[distinct(points, _APART)]
        return replace(fits[0], coefficients=gamma[kept], objective=objective[kept])


def _first(fit: Fit, count: int | None) -> torch.Tensor:
    return torch.as_tensor(fit.coefficients[:count], dtype=torch.float32)
