"""Solves the problem of a field: searched for, or near the last one."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.blur.symmetry import ResolvedBy, orbit
from deepblur_live.identification.field.fit import FieldFit, FieldFitter, FieldModel
from deepblur_live.identification.field.phase import (
    CellPhases,
    EachPhase,
    KeptPhases,
    advantage,
    over_one_psf,
)
from deepblur_live.identification.field.problem import (
    FieldProblem,
    FieldSolution,
    Tracked,
)
from deepblur_live.identification.field.search import model_of_cells, search
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
# Steps of a fit with phases after a search, and of one that follows another. Such a
# fit computes the phases, the model of the OTF and the curvature of one of so many
# parts of the cells again (docs/decisions/0249-curvature-of-a-warm-field-fit.md).
_PHASE_STEPS, _WARM_STEPS, _PARTS = 4, 1, 9
# How many times the cells' phases are weighted again after a search.
_ROUNDS = 2
# The share of edges in a cell, a property of its specimen, is kept for so many seconds.
_EDGES_S = 60.0
# Share by which the number of averages may change until the curvature of all cells is
# computed again.
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
        model = model_of_cells(family, cells.cells)
        minima, behind = found.others
        scatter = torch.from_numpy(
            competing_scatter(family, minima, behind, self.errors.competing_temperature)
        )
        fit, alone, phases, oriented = self._with_phases(problem, found.fit, found.used)
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
            # Phases may refute what the spectra say; they do not replace it. The field
            # that was fitted to them they would not refute
            # (docs/decisions/0250-evidence-of-phases.md).
            gain += min(over_one_psf(phases, alone, single), 0.0)
        certain = variation(family, field, stated) > _CERTAIN
        if gain < _EARNED or not certain:
            note = _ONE_PSF
        elif against:
            note = f"one PSF for the whole frame: of the field, {against}"
        else:
            now, gamma = problem.one.time, model.at(field).float()
            last = self._no_phases(problem)
            if phases:
                pairs = zip(phases, gamma, strict=True)
                models = [phase.local(row[None]) for phase, row in pairs]
                every = range(len(models))
                last = last.renewed(every, models, now, every)
            tracked = Tracked(
                found.used,
                fit.nuisance,
                scatter,
                last,
                coefficients=field,
                quality=fit.quality,
            )
            return replace(solved, tracked=tracked)
        constant = one_psf_estimate(family, one.estimate, stated)
        return replace(solved, estimate=constant, note=note if constant.trusted else "")

    def _with_phases(
        self, problem: FieldProblem, fit: FieldFit, used: torch.Tensor
    ) -> tuple[FieldFit, torch.Tensor, list[Phase], bool]:
        """Return a fit oriented and refined by the newest frame's phases.

        With the cells' γ (C, M) before it was refined, the cells' phase terms, and
        whether the orientation is known.
        """
        family, cells, image = self.family, problem.cells, problem.image
        assert cells is not None and image is not None
        model = model_of_cells(family, cells.cells).within(used)
        if not (self.phases and _finite(image)):
            return fit, model.at(fit.coefficients).float(), [], True
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
        alone = model.at(coefficients).float()
        fitter = FieldFitter(self.refiner, cells.data)
        refined = replace(fit, coefficients=coefficients)
        for _ in range(_ROUNDS):
            coefficients = refined.coefficients
            terms = EachPhase(phases, model.at(coefficients).float())
            refined = fitter.fit(
                model, coefficients, _PHASE_STEPS, terms, refined.nuisance
            )
        return refined, alone, phases, problem.orientation.resolved

    def followed(self, problem: FieldProblem, tracked: Tracked) -> FieldSolution:
        """Return the field near the tracker's prediction.

        Or near the last one, if the tracker has not accepted that.
        """
        family, cells = self.family, problem.cells
        assert cells is not None and problem.start is not None
        every = model_of_cells(family, cells.cells)
        model = every.within(tracked.used)
        start = problem.start @ tracked.used
        if tracked.coefficients is not None:
            last = aligned(family, tracked.coefficients, problem.start)[0]
            last = last @ tracked.used
            if self._away(model, last - start) > _REJECTED:
                start = last
        chosen = self._chosen(tracked.next_cell, len(cells.cells))
        phases, following = self._newest_phases(
            problem, tracked, chosen, model.at(start)
        )
        gamma, linear = model.at(start).float(), tracked.linear
        curvature, averages = tracked.curvature, tracked.averages
        renewed: torch.Tensor | None = None
        if linear is None:
            linear = LinearOtf.near(family.local, gamma, cells.data.keep)
            curvature = None
        else:
            # Where the field has moved, and of the others a few in turn.
            renewed = linear.left(gamma)
            renewed[chosen] = True
            linear = linear.renewed(family.local, gamma, cells.data.keep, renewed)
        if abs(cells.data.averages - averages) > _AS_MANY * averages:
            curvature = None
        if curvature is None:
            averages = cells.data.averages
        fitter = FieldFitter(self.refiner, cells.data, linear, curvature, renewed)
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
            next_cell=(chosen[-1] + 1) % len(gamma),
        )
        return FieldSolution(problem, estimate, tracked=tracked)

    def stepped(self, problem: FieldProblem, before: Tracked) -> FieldSolution | None:
        """Return the field after a step, by a fit that starts from the one before it.

        None if it fits worse than that one did: then a search is needed.
        """
        family, cells = self.family, problem.cells
        assert cells is not None and problem.start is not None
        every = model_of_cells(family, cells.cells)
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
            phases=self._no_phases(problem),
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

    def _no_phases(self, problem: FieldProblem) -> KeptPhases:
        assert problem.cells is not None
        scale = torch.as_tensor(self.family.local.prior.scale)
        return KeptPhases.none(len(problem.cells.cells), scale)

    def _chosen(self, first: int, cells: int) -> list[int]:
        """Return the cells whose phases and curvature are new in the next estimate."""
        return [(first + k) % cells for k in range(math.ceil(cells / _PARTS))]

    def _newest_phases(
        self,
        problem: FieldProblem,
        tracked: Tracked,
        chosen: list[int],
        gamma: torch.Tensor,
    ) -> tuple[LocalPhase | None, Tracked]:
        """Return the cells' phase models, those `chosen` of the newest frame."""
        now, image, cells = problem.one.time, problem.image, problem.cells
        assert image is not None and cells is not None
        if not (self.phases and _finite(image)):
            return None, tracked
        gamma = gamma.float()
        terms_of = CellPhases(
            self.family.local, image, cells.cells, problem.one.noise_sigma
        )
        edges = [tracked.phases.edges(cell, now, _EDGES_S) for cell in chosen]
        models = terms_of.local(chosen, gamma, edges)
        new = [cell for cell, share in zip(chosen, edges, strict=True) if share is None]
        phases = tracked.phases.renewed(chosen, models, now, new)
        usable = phases.usable(now, self.phase_age_s, gamma)
        return usable, replace(tracked, phases=phases)
