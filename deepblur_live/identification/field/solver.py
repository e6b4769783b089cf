"""Solves the problem of a field: searched for, or near the last one."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.blur.symmetry import ResolvedBy, orbit
from deepblur_live.identification.field.fit import FieldFit, FieldFitter, FieldModel
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
    variation,
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
# A field must vary by at least this share of its stated error
# (docs/decisions/0226-uncertain-variation.md).
_CERTAIN = 0.5
# Steps of a fit with phases after a search, and of one that follows another; parts of
# the cells whose phases are evaluated with one frame, as all of them take longer than
# the rest of the fit.
_PHASE_STEPS, _WARM_STEPS, _PHASE_PARTS = 8, 1, 9
# The share of edges in a cell, a property of its specimen, is kept for so many seconds.
_EDGES_S = 60.0
# Share by which the number of averages may change until the curvature in specimens and
# noises is computed again.
_AS_MANY = 0.1
# A prediction so far from the last fit, relative to the prior scale, is of a tracker
# that has not accepted that fit; a field after a step that fits so much worse than the
# one before it is searched for (docs/decisions/0225-changed-field.md).
_REJECTED, _WORSE = 0.3, 1.2
_NOT_ORIENTED = "the 180° orientation is ambiguous"
_ONE_PSF = (
    "one PSF for the whole frame: the frames do not show that the blur varies over the "
    "field"
)


def _finite(image: torch.Tensor) -> bool:
    """Return whether an image is finite; quicker than looking at each pixel."""
    return math.isfinite(float(image.sum()))


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
        certain = variation(family, field, stated) > _CERTAIN
        if gain < _EARNED or not certain:
            note = _ONE_PSF
        elif against:
            note = f"one PSF for the whole frame: of the field, {against}"
        else:
            now, gamma = problem.one.time, model.at(field).float()
            last: list[CellPhase | None] = [None] * len(cells.cells)
            for cell, phase in enumerate(phases):
                last[cell] = CellPhase(phase.local(gamma[cell, None]), now, now)
            tracked = Tracked(
                found.used,
                fit.nuisance,
                scatter,
                tuple(last),
                coefficients=field,
                quality=fit.quality,
            )
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
        if not (self.phases and _finite(image)):
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
        """Return the field near the tracker's prediction.

        Or near the last one, if the tracker has not accepted that.
        """
        family, cells = self.family, problem.cells
        assert cells is not None and problem.start is not None
        every = model_of(family, cells.cells.positions)
        model = every.within(tracked.used)
        start = problem.start @ tracked.used
        if tracked.coefficients is not None:
            last = aligned(family, tracked.coefficients, problem.start)[0]
            last = last @ tracked.used
            if self._away(model, last - start) > _REJECTED:
                start = last
        phases, following = self._newest_phases(problem, tracked, model.at(start))
        gamma, linear = model.at(start).float(), tracked.linear
        curvature, averages = tracked.curvature, tracked.averages
        if abs(cells.data.averages - averages) > _AS_MANY * averages:
            curvature = None
        if linear is None or not linear.covers(gamma):
            linear = LinearOtf.near(family.local, gamma, cells.data.keep)
            curvature = None
        if curvature is None:
            averages = cells.data.averages
        fitter = FieldFitter(self.refiner, cells.data, linear, curvature)
        fit = fitter.fit(model, start, _WARM_STEPS, phases, tracked.nuisance)
        field = tracked.used @ fit.coefficients
        stated = covariance(family, self.errors, every, fit, tracked.competing)
        estimate = judge_field(family, self.errors, field, stated, fit.quality)
        tracked = replace(
            following,
            nuisance=fit.nuisance,
            linear=linear,
            coefficients=field,
            quality=fit.quality,
            curvature=fit.curvature,
            averages=averages,
        )
        return FieldSolution(problem, estimate, tracked=tracked)

    def stepped(self, problem: FieldProblem, before: Tracked) -> FieldSolution | None:
        """Return the field after a step, by a fit that starts from the one before it.

        None if it fits worse than that one did: then a search is needed.
        """
        family, cells = self.family, problem.cells
        assert cells is not None and problem.start is not None
        every = model_of(family, cells.cells.positions)
        model = every.within(before.used)
        start = before.coefficients
        start = problem.start if start is None else start
        start = aligned(family, start, problem.start)[0] @ before.used
        fit = FieldFitter(self.refiner, cells.data).fit(model, start)
        field = before.used @ fit.coefficients
        stated = covariance(family, self.errors, every, fit, before.competing)
        estimate = judge_field(family, self.errors, field, stated, fit.quality)
        if not estimate.trusted or fit.quality > _WORSE * before.quality:
            return None
        tracked = replace(
            before,
            nuisance=fit.nuisance,
            phases=(None,) * len(before.phases),
            linear=LinearOtf.near(
                family.local, model.at(fit.coefficients).float(), cells.data.keep
            ),
            coefficients=field,
            quality=fit.quality,
            curvature=None,
        )
        return FieldSolution(problem, estimate, tracked=tracked)

    def _away(self, model: FieldModel, change: torch.Tensor) -> float:
        """Return the largest change of a cell's γ, relative to the prior scale."""
        scale = torch.as_tensor(self.family.local.prior.scale)
        return float((model.at(change) / scale).norm(dim=1).max())

    def _newest_phases(
        self, problem: FieldProblem, tracked: Tracked, gamma: torch.Tensor
    ) -> tuple[list[LocalPhase | None], Tracked]:
        """Return each cell's phase model, some of them of the newest frame."""
        now, image, cells = problem.one.time, problem.image, problem.cells
        assert image is not None and cells is not None
        if not (self.phases and _finite(image)):
            return [], tracked
        gamma, count = gamma.float(), len(cells.cells)
        terms_of = CellPhases(
            self.family.local, image, cells.cells, problem.one.noise_sigma
        )
        last: list[CellPhase | None] = list(tracked.phases)
        number = math.ceil(count / _PHASE_PARTS)
        chosen = [(tracked.next_cell + k) % count for k in range(number)]
        for cell in chosen:
            known, measured, edges = last[cell], now, None
            if known is not None and 0 <= now - known.edges_time <= _EDGES_S:
                edges, measured = known.model.edges, known.edges_time
            model = terms_of.local(cell, gamma[cell], edges)
            last[cell] = CellPhase(model, now, measured)
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
