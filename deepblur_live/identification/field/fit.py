"""The joint fit of a field's coefficients to the spectra and phases of all cells.

Every cell has a specimen and a noise of its own, which are eliminated from its normal
equations (Schur complement); what is left is added up over the cells in the field's
coefficients c, as a cell's γ = Φ·c is linear in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from deepblur_live.identification.refine import Slopes, normal_equations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepblur_live.identification.observed import ObservedSpectrum
    from deepblur_live.identification.otf import LinearOtf
    from deepblur_live.identification.phase import LocalPhase, Phase
    from deepblur_live.identification.refine import SpectralRefiner

__all__ = ["FieldFit", "FieldFitter", "FieldModel"]

# Damping of the first step, relative to the curvature.
_DAMPING = 1e-3
# Longest step of a cell's γ, relative to the prior scale: further away the model is not
# linear.
_LONGEST_STEP = 1.0
# A fit has converged when a step is expected to lower the misfit by less than this.
_IMPROVEMENT = 0.05
# Steps in which the specimens and noises of a start are fitted.
_BEGIN_STEPS = 3


@dataclass(frozen=True)
class FieldModel:
    """How the coefficients of cells depend on those that are fitted.

    Parameters
    ----------
    design
        Φ, (C, M, P): γ = Φ·c in each cell.
    precision
        (P, P), inverse covariance of the prior of c, whose mean is zero.
    """

    design: torch.Tensor
    precision: torch.Tensor

    def at(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Return γ (C, M) of c (P,)."""
        return self.design @ coefficients

    def within(self, into: torch.Tensor) -> FieldModel:
        """Return the model of fewer coefficients a, c = into·a, with `into` (P, A)."""
        return FieldModel(self.design @ into, into.T @ self.precision @ into)


@dataclass(frozen=True)
class FieldFit:
    """A fit of a field.

    Parameters
    ----------
    coefficients
        (P,) c.
    objective
        Penalised robust misfit.
    information
        (P, P) curvature of the objective, specimens and noises eliminated.
    sensitivity
        (C, M, M) information on each cell's γ, less where the residuals are large.
    nuisance
        (C, Q+1) specimens and noises; the next fit starts from them.
    quality
        Root mean square over the cells of `Fit.quality`.
    curvature
        (C, Q+1, Q+1) in specimens and noises; the next fit nearby may use it again.
    """

    coefficients: torch.Tensor
    objective: float
    information: torch.Tensor
    sensitivity: torch.Tensor
    nuisance: torch.Tensor
    quality: float
    curvature: torch.Tensor

    def log_evidence(self, model: FieldModel) -> float:
        """Return the logarithm of the data's probability under a model (Laplace)."""
        volume = torch.logdet(model.precision) - torch.logdet(self.information)
        return -self.objective + 0.5 * float(volume)

    def covariance(self, model: FieldModel) -> torch.Tensor:
        """Return (P, P) of c, from the curvature alone."""
        design = model.design
        total = (design.mT @ self.sensitivity @ design).sum(0) + model.precision
        result: torch.Tensor = torch.linalg.inv(total)
        return result


class _State(NamedTuple):
    """The fit at one point."""

    coefficients: torch.Tensor
    gamma: torch.Tensor
    nuisance: torch.Tensor
    objective: float
    residual: torch.Tensor
    robust: torch.Tensor
    slopes: Slopes


class _Equations(NamedTuple):
    """Normal equations of one step, in double precision.

    `hessian` (P, P) and `gradient` (P,) in c; of each cell the coupling (C, M, Q+1),
    the nuisance parameters' Cholesky factor (C, Q+1, Q+1) and gradient (C, Q+1, 1), and
    their curvature without the prior (C, Q+1, Q+1), in single precision.
    """

    hessian: torch.Tensor
    gradient: torch.Tensor
    sensitivity: torch.Tensor
    coupling: torch.Tensor
    factor: torch.Tensor
    pull: torch.Tensor
    curvature: torch.Tensor


class FieldFitter:
    """Fits c to the spectra of cells by damped Gauss–Newton with Huber weights.

    Parameters
    ----------
    refiner
        The fit of single spectra, which gives misfits and derivatives.
    data
        The spectra of C cells.
    linear
        A model of their OTFs near the start, to save time.
    curvature
        `FieldFit.curvature` of a fit nearby, to save time.
    """

    def __init__(
        self,
        refiner: SpectralRefiner,
        data: ObservedSpectrum,
        linear: LinearOtf | None = None,
        curvature: torch.Tensor | None = None,
    ) -> None:
        self.refiner, self.data, self._linear = refiner, data, linear
        self._curvature = curvature
        modes = refiner.family.n_coefficients
        self._modes = modes
        # The prior is one of c: it has no part in a cell's γ.
        self._root = refiner.full_root(data, torch.zeros(modes, modes))
        self._precision = (self._root.T @ self._root)[modes:, modes:]
        self._scale = torch.as_tensor(refiner.family.prior.scale)

    def begin(self, gamma: torch.Tensor) -> torch.Tensor:
        """Return (C, Q+1): specimens and noises that fit given γ (C, M)."""
        nuisance = self.refiner.first_nuisance(self.data, gamma)
        usual = self.refiner.usual_nuisance(self.data, nuisance)
        for _ in range(_BEGIN_STEPS):
            _, residual, robust, slopes = self._misfit(gamma, nuisance)
            hessian, gradient = normal_equations(self.data, slopes, robust, residual)
            m = self._modes
            curved = hessian[:, m:, m:] + self._precision
            pull = gradient[:, m:] - (nuisance - usual) @ self._precision
            nuisance = nuisance + torch.linalg.solve(curved, pull)
        return nuisance

    def fit(
        self,
        model: FieldModel,
        start: torch.Tensor,
        iterations: int = 15,
        phases: Sequence[Phase | LocalPhase | None] = (),
        nuisance: torch.Tensor | None = None,
    ) -> FieldFit:
        """Return the fit from a start (P,).

        Parameters
        ----------
        model
            The coefficients that are fitted.
        start
            (P,).
        iterations
            Largest number of steps.
        phases
            Phase term of each cell, if they are used; None for a cell without one.
        nuisance
            `FieldFit.nuisance` of a fit nearby.
        """
        start = start.double()
        if nuisance is None:
            nuisance = self.begin(model.at(start).float())
        state = self._evaluate(model, start, nuisance, phases)
        equations = self._equations(model, state, phases)
        damping = _DAMPING
        for left in range(iterations, 0, -1):
            step = self._step(model, equations, damping)
            expected = 0.5 * float(step @ equations.gradient)
            trial = self._evaluate(
                model,
                state.coefficients + step,
                state.nuisance + self._nuisance_step(model, equations, step),
                phases,
            )
            better = trial.objective < state.objective
            state = trial if better else state
            damping *= 1 / 5 if better else 6.0
            if expected < _IMPROVEMENT:
                break
            if better and left > 1:
                equations = self._equations(model, state, phases)
        return self._result(state, equations)

    def _misfit(
        self, gamma: torch.Tensor, nuisance: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Slopes]:
        """Return each cell's misfit (C,), residuals, weights and derivatives."""
        usual = self.refiner.usual_nuisance(self.data, nuisance)
        anchor = torch.cat([gamma, usual], 1)
        return self.refiner.misfit(
            self.data, gamma, nuisance, anchor, self._root, self._linear
        )

    def _evaluate(
        self,
        model: FieldModel,
        coefficients: torch.Tensor,
        nuisance: torch.Tensor,
        phases: Sequence[Phase | LocalPhase | None],
    ) -> _State:
        gamma = model.at(coefficients).float()
        cost, residual, robust, slopes = self._misfit(gamma, nuisance)
        total = float(cost.double().sum())
        total += 0.5 * float(coefficients @ model.precision @ coefficients)
        for row, phase in zip(gamma, phases, strict=False):
            if phase is not None:
                total += float(phase.cost(row[None]))
        return _State(coefficients, gamma, nuisance, total, residual, robust, slopes)

    def _equations(
        self,
        model: FieldModel,
        state: _State,
        phases: Sequence[Phase | LocalPhase | None],
    ) -> _Equations:
        m = self._modes
        single, gradient = normal_equations(
            self.data, state.slopes, state.robust, state.residual, self._curvature
        )
        hessian, gradient = single.double(), gradient.double()
        usual = self.refiner.usual_nuisance(self.data, state.nuisance)
        precision = self._precision.double()
        pull = gradient[:, m:] - (state.nuisance - usual).double() @ precision
        coupling = hessian[:, :m, m:]
        factor = torch.linalg.cholesky(hessian[:, m:, m:] + precision)
        right = torch.cat([coupling.mT, pull[..., None]], 2)
        solved = torch.cholesky_solve(right, factor)
        sensitivity = hessian[:, :m, :m] - coupling @ solved[..., :m]
        slope = gradient[:, :m] - (coupling @ solved[..., m:])[..., 0]
        for row, phase in enumerate(phases):
            if phase is not None:
                push, bend = phase.slope(state.gamma[row, None])
                sensitivity[row] += bend[0]
                slope[row] -= push[0]
        design = model.design
        total = (design.mT @ sensitivity @ design).sum(0) + model.precision
        down = (design.mT @ slope[..., None]).sum(0)[:, 0]
        down -= model.precision @ state.coefficients
        return _Equations(
            total,
            down,
            sensitivity,
            coupling,
            factor,
            pull[..., None],
            single[:, m:, m:],
        )

    def _step(
        self, model: FieldModel, equations: _Equations, damping: float
    ) -> torch.Tensor:
        """Return the damped step (P,) of c, no longer than the model is linear."""
        diagonal = torch.diag(equations.hessian.diagonal())
        damped = equations.hessian + damping * diagonal
        step: torch.Tensor = torch.linalg.solve(damped, equations.gradient)
        length = float((model.at(step) / self._scale).norm(dim=1).max())
        return step * (_LONGEST_STEP / max(length, _LONGEST_STEP))

    def _nuisance_step(
        self, model: FieldModel, equations: _Equations, step: torch.Tensor
    ) -> torch.Tensor:
        """Return the step (C, Q+1) of specimens and noises that goes with one of c."""
        moved = equations.coupling.mT @ model.at(step)[..., None]
        solved = torch.cholesky_solve(equations.pull - moved, equations.factor)
        return solved[..., 0].float()

    def _result(self, state: _State, equations: _Equations) -> FieldFit:
        log_noise = state.nuisance[:, -1:]
        quality, factor = self.refiner.residual_size(
            self.data, state.residual, state.robust, log_noise
        )
        return FieldFit(
            state.coefficients,
            state.objective,
            equations.hessian,
            _positive(equations.sensitivity) / factor.double()[:, None, None] ** 2,
            state.nuisance,
            float(quality.square().mean().sqrt()),
            equations.curvature,
        )


def _positive(information: torch.Tensor) -> torch.Tensor:
    """Return symmetric matrices (..., M, M) without their negative eigenvalues.

    A Schur complement with the curvature of another point may have some, and would
    give negative variances.
    """
    values, vectors = torch.linalg.eigh(information)
    result: torch.Tensor = (vectors * values.clamp(min=0)[..., None, :]) @ vectors.mT
    return result
