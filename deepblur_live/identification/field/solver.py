"""Solves the problem of a field: searched for, or near the last one."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.blur.symmetry import ResolvedBy, orbit
from deepblur_live.identification.field.fit import FieldFit, FieldFitter
from deepblur_live.identification.field.phase import CellPhases, advantage, over_one_psf
from deepblur_live.identification.field.problem import (
    CellPhase,
    FieldProblem,
    FieldSolution,
    Tracked,
)
from deepblur_live.identification.field.search import model_of, search
from deepblur_live.identification.field.verdict import (
    covariance,
    judge_field,
    one_psf_estimate,
)
from deepblur_live.identification.minima import aligned, competing_scatter
from deepblur_live.identification.otf import LinearOtf

if TYPE_CHECKING:
    from deepblur_live.blur import ErrorModel
    from deepblur_live.blur.zernike_field import ZernikeField
    from deepblur_live.identification.phase import LocalPhase, Phase
    from deepblur_live.identification.problem import Solution
    from deepblur_live.identification.refine import SpectralRefiner

__all__ = ["FieldSolver"]

# Logarithm of the evidence by which a field must be better than one PSF
# (docs/decisions/0171-terms-of-a-field.md).
_EARNED = 1.0
# Steps of a fit with phases after a search, and of one that follows another; parts of
# the cells whose phases are evaluated with one frame, as all of them take longer than
# the rest of the fit.
_PHASE_STEPS, _WARM_STEPS, _PHASE_PARTS = 8, 1, 9
_NOT_ORIENTED = "the 180° orientation is ambiguous"
_ONE_PSF = (
    "one PSF for the whole frame: the frames do not show that the blur varies over the "
    "field"
)


class FieldSolver:
    """Finds the field that fits a frame best, or one PSF if that is as good.

    Parameters
    ----------
    family, errors
        The fields, and the calibration of stated uncertainties.
    refiner
        Fits spectra of the local family.
    phases
        Whether the newest frame's phases are used in addition to the spectra.
    phase_age_s
        A cell's phases are used for so many seconds.
    """

    def __init__(
        self,
        family: ZernikeField,
        errors: ErrorModel,
        refiner: SpectralRefiner,
        phases: bool,
        phase_age_s: float,
    ) -> None:
        self.family, self.errors, self.refiner = family, errors, refiner
        self.phases, self.phase_age_s = phases, phase_age_s

    def searched(self, problem: FieldProblem, one: Solution) -> FieldSolution:
        """Return the best field, or one PSF if it does not earn its place."""
        family, cells = self.family, problem.cells
        assert cells is not None and one.fit is not None
        constants = [one.fit.coefficients[0]]
        if one.competing is not None:
            constants += list(one.competing.coefficients)
        starts = torch.from_numpy(family.constant(np.stack(constants)))
        if problem.start is not None:
            starts = torch.cat([starts[:1], problem.start[None], starts[1:]])
        found = search(family, self.refiner, cells, starts, problem.one.data)
        model = model_of(family, cells.cells.positions)
        minima, behind = found.others
        scatter = torch.from_numpy(
            competing_scatter(family, minima, behind, self.errors.competing_temperature)
        )
        fit, phases, oriented = self._with_phases(problem, found.fit, found.used)
        field = found.used @ fit.coefficients
        stated = covariance(family, self.errors, model, fit, scatter)
        estimate = judge_field(family, self.errors, field, stated, fit.quality)
        against = estimate.reason if oriented else _NOT_ORIENTED
        solved = FieldSolution(
            problem, estimate, one, found=found, fit=fit, stated=stated
        )
        gain = found.gain
        if phases:
            single = torch.from_numpy(constants[0]).float()
            gain += over_one_psf(phases, model.at(field).float(), single)
        if gain < _EARNED:
            note = _ONE_PSF
        elif against:
            note = f"one PSF for the whole frame: of the field, {against}"
        else:
            now, gamma = problem.one.time, model.at(field).float()
            last: list[CellPhase | None] = [None] * len(cells.cells)
            for cell, phase in enumerate(phases):
                last[cell] = CellPhase(phase.local(gamma[cell, None]), now)
            tracked = Tracked(found.used, fit.nuisance, scatter, tuple(last))
            return replace(solved, tracked=tracked)
        constant = one_psf_estimate(family, one.estimate, stated)
        return replace(solved, estimate=constant, note=note if constant.trusted else "")

    def _with_phases(
        self, problem: FieldProblem, fit: FieldFit, used: torch.Tensor
    ) -> tuple[FieldFit, list[Phase], bool]:
        """Return a fit oriented and refined by the newest frame's phases.

        With the cells' phase terms, and whether the orientation is known.
        """
        family, cells, image = self.family, problem.cells, problem.image
        assert cells is not None and image is not None
        if not (self.phases and image.isfinite().all()):
            return fit, [], True
        model = model_of(family, cells.cells.positions).within(used)
        sigma, coefficients = problem.one.noise_sigma, fit.coefficients
        if problem.start is not None:
            field = used @ coefficients
            coefficients = aligned(family, field, problem.start)[0] @ used
        terms_of = CellPhases(family.local, image, cells.cells, sigma)
        gamma = model.at(coefficients).float()
        phases = terms_of.all(gamma)
        better = advantage(phases, gamma)
        known = problem.start is not None
        rotation = orbit(family, ResolvedBy.IMAGE)[-1]
        if problem.orientation.rotated(better, len(gamma), known):
            field = used @ coefficients
            coefficients = rotation.apply_rows(field[None])[0] @ used
            # |ĥ| is the same: only the terms' starting point changes.
            phases = terms_of.all(model.at(coefficients).float())
        fitter = FieldFitter(self.refiner, cells.data)
        refined = fitter.fit(model, coefficients, _PHASE_STEPS, phases, fit.nuisance)
        return refined, phases, problem.orientation.resolved

    def followed(self, problem: FieldProblem, tracked: Tracked) -> FieldSolution:
        """Return the field near the tracker's prediction."""
        family, cells = self.family, problem.cells
        assert cells is not None and problem.start is not None
        every = model_of(family, cells.cells.positions)
        model = every.within(tracked.used)
        start = problem.start @ tracked.used
        phases, following = self._newest_phases(problem, tracked, model.at(start))
        gamma, linear = model.at(start).float(), tracked.linear
        if linear is None or not linear.covers(gamma):
            linear = LinearOtf.near(family.local, gamma)
        fitter = FieldFitter(self.refiner, cells.data, linear)
        fit = fitter.fit(model, start, _WARM_STEPS, phases, tracked.nuisance)
        field = tracked.used @ fit.coefficients
        stated = covariance(family, self.errors, every, fit, tracked.competing)
        estimate = judge_field(family, self.errors, field, stated, fit.quality)
        tracked = replace(following, nuisance=fit.nuisance, linear=linear)
        return FieldSolution(problem, estimate, tracked=tracked)

    def _newest_phases(
        self, problem: FieldProblem, tracked: Tracked, gamma: torch.Tensor
    ) -> tuple[list[LocalPhase | None], Tracked]:
        """Return each cell's phase model, some of them of the newest frame."""
        now, image, cells = problem.one.time, problem.image, problem.cells
        assert image is not None and cells is not None
        if not (self.phases and image.isfinite().all()):
            return [], tracked
        gamma, count = gamma.float(), len(cells.cells)
        terms_of = CellPhases(
            self.family.local, image, cells.cells, problem.one.noise_sigma
        )
        last: list[CellPhase | None] = list(tracked.phases)
        number = math.ceil(count / _PHASE_PARTS)
        chosen = [(tracked.next_cell + k) % count for k in range(number)]
        for cell in chosen:
            last[cell] = CellPhase(terms_of.local(cell, gamma[cell]), now)
        models: list[LocalPhase | None] = []
        for row, phase in zip(gamma, last, strict=True):
            usable = (
                phase is not None
                and 0 <= now - phase.time <= self.phase_age_s
                and phase.model.covers(row[None])
            )
            models.append(phase.model if phase is not None and usable else None)
        after = (chosen[-1] + 1) % count
        return models, replace(tracked, phases=tuple(last), next_cell=after)
