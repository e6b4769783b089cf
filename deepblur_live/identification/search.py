"""Where the blur may be when more than a prediction is tried: the minima of a fit.

The spectrum leads from a library, the network's answer and the last search's minima to
the nearest minima, and hops lead on from those. The newest frame's phases then tell
them apart; and lead themselves from the best of all that was roughly tried, for the
true blur need not be a minimum of the spectrum's misfit alone.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.identification.minima import best_first, distinct, told_apart
from deepblur_live.identification.question import Breadth
from deepblur_live.identification.verdict import features

if TYPE_CHECKING:
    from deepblur_live.identification.fit import Fit
    from deepblur_live.identification.phase import Phase
    from deepblur_live.identification.question import Question
    from deepblur_live.identification.refine import SpectralRefiner

__all__ = ["FEW", "KEPT", "MANY", "Search"]

MANY = Breadth(every=1, tried=40, kept=5, hops=16, hops_kept=4, led=4)
FEW = Breadth(every=3, tried=4, kept=2, hops=8, hops_kept=2, led=1)
"""Where nothing is known, and beside a prediction."""

KEPT = 4.0
"""A blur is more likely what it was than another that fits as well, by this in misfit,
unless the average has only just told them apart."""

_LIBRARY_STEPS = 5
# So many minima of the last search are tried in the next.
_REMEMBERED = 2
# The library is sparse, and where noise is low minima are narrow: the best of it may
# lead elsewhere. Where the fit claims errors below so much of the half-range, hops are
# made from so many minima, by so much of the half-range; none while a prediction is all
# there is to doubt. What they find must fit better by `KEPT`. Without, 2 of 132
# validation frames at σ = 0.001 were lost, and none of 396 in more noise.
_NARROW, _HOP_FROM, _HOP = 0.1, 4, 0.5
# Phases lead from rough fits that are so far from each other, in waves, in so many
# steps, and no further where one promises to lower the misfit by less: they are ranked
# here, not told. (132 validation frames are answered as well as with the fit's own end,
# in a fifth less time.) Of 640 frames of training pictures 97 were poorly answered
# without; of those 11 gain more than 3 dB, and none loses as much; of 59 others 3 gain
# and 3 lose as much. Leading from eight does no better, nor 15 steps, nor ten of the
# library kept.
_APART, _LED_STEPS, _LED_WORTH = 0.03, 10, 0.1


class Search:
    """Finds the minima of a spectrum's fit, and those its newest frame's phases add.

    Parameters
    ----------
    refiner
        Fits the spectrum.
    """

    def __init__(self, refiner: SpectralRefiner) -> None:
        self.refiner = refiner
        self._random = torch.Generator().manual_seed(0)

    def minima(self, question: Question) -> Fit:
        """Return the minima that a question's spectrum and phases have, best first."""
        data, prior, breadth = question.data, question.prior, question.breadth
        starts, rough = list(question.starts), []
        if breadth is not None:
            tried = self.refiner.starts(data, breadth.tried, breadth.every)
            rough.append(self.refiner.fit(data, tried, prior, _LIBRARY_STEPS))
            starts.append(_first(rough[0], breadth.kept))
            if question.rivals is not None:
                starts.append(_first(question.rivals, _REMEMBERED))
        begin = torch.cat(starts)
        fit = self.refiner.fit(data, begin, prior, credit=question.credit)
        anew = None if question.credit else breadth
        if anew is not None:
            fit, hops = self._hopped(question, anew, fit)
            rough += hops
        family = self.refiner.family
        phase = question.phase(family, _first(fit, 1)[0])
        if phase is None:
            return fit
        fit = told_apart(family, fit, phase, question.credit)
        return fit if anew is None else self._led(question, anew, fit, rough, phase)

    def _hopped(
        self, question: Question, breadth: Breadth, fit: Fit
    ) -> tuple[Fit, list[Fit]]:
        """Return a fit, or the clearly better one that hops from its minima lead to.

        And the rough fits of the hops, if any were made.
        """
        family, minima = self.refiner.family, _first(fit, _HOP_FROM)
        narrow = features(family, fit.coefficients[0], fit.curvature)[0]
        if narrow > math.log(_NARROW):
            return fit, []
        away = torch.randn((breadth.hops, minima.shape[1]), generator=self._random)
        away *= _HOP * torch.tensor(family.half_ranges)
        hops = minima[torch.arange(breadth.hops) % len(minima)] + away
        data, prior = question.data, question.prior
        rough = self.refiner.fit(data, hops, prior, _LIBRARY_STEPS)
        begin = torch.cat([minima[:_REMEMBERED], _first(rough, breadth.hops_kept)])
        further = self.refiner.fit(data, begin, prior)
        better = further.objective.min() < fit.objective.min() - KEPT
        return further if better else fit, [rough]

    def _led(
        self,
        question: Question,
        breadth: Breadth,
        fit: Fit,
        rough: list[Fit],
        phase: Phase,
    ) -> Fit:
        """Return a fit with the minima that phases lead to, from it and rough fits.

        They must be better by `KEPT` than where it leads itself.
        """
        family = self.refiner.family
        tried = told_apart(family, _together(rough), phase, looked_at=math.inf)
        order = torch.argsort(torch.from_numpy(tried.objective))
        starts = torch.cat([_first(fit, 1), _first(tried, None)[order]])
        data, prior = question.data, question.prior
        led = [
            self.refiner.fit(
                data, one[None], prior, _LED_STEPS, phase=phase, worth=_LED_WORTH
            )
            for one in starts[distinct(starts, _APART)[: 1 + breadth.led]]
        ]
        found = torch.cat([_first(one, 1) for one in led] + [_first(fit, None)[1:]])
        objective = torch.tensor(
            [one.objective[0] for one in led] + fit.objective[1:].tolist()
        )
        return best_first(family, fit, found, objective, KEPT)


def _together(fits: list[Fit]) -> Fit:
    """Return what some fits have found, of those that are near each other the best."""
    gamma = np.concatenate([fit.coefficients for fit in fits])
    objective = np.concatenate([fit.objective for fit in fits])
    order = np.argsort(objective)
    kept = order[distinct(torch.from_numpy(gamma[order]), _APART)]
    return replace(fits[0], coefficients=gamma[kept], objective=objective[kept])


def _first(fit: Fit, count: int | None) -> torch.Tensor:
    return torch.as_tensor(fit.coefficients[:count], dtype=torch.float32)
