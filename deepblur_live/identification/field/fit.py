"""The joint fit of a field's coefficients to the spectra and phases of all cells.

Every cell has a specimen and a noise of its own, which are eliminated from its normal
equations (Schur complement); what is left is added up over the cells in the field's
coefficients c, as a cell's γ = Φ·c is linear in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

from deepblur_live.identification.normal_equations import (
    Slopes,
    downhill,
    normal_equations,
)

if TYPE_CHECKING:
    from deepblur_live.identification.observed import ObservedSpectrum
    from deepblur_live.identification.otf import LinearOtf
    from deepblur_live.identification.refine import SpectralRefiner

__all__ = ["CellCurvature", "CellTerms", "FieldFit", "FieldFitter", "FieldModel"]

# Damping of the first step, relative to the curvature.
_DAMPING = 1e-3
# Longest step of a cell's γ, relative to the prior scale: further away the model is not
# linear.
_LONGEST_STEP = 1.0
# A fit has converged when a step is expected to lower the misfit by less than this.
_IMPROVEMENT = 0.05
# Steps in which the specimens and noises of a start are fitted.
_BEGIN_STEPS = 3


class CellTerms(Protocol):
    """The phase terms of C cells; a `LocalPhase` of all of them is one too."""

    def cost(self, gamma: torch.Tensor) -> torch.Tensor:
        """Return each cell's term (C,) at its γ (C, M)."""

    def slope(self, gamma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the terms' slopes (C, M) and curvatures (C, M, M)."""


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


class CellCurvature(NamedTuple):
    """The curvature of C cells' misfit, in double precision.

    Parameters
    ----------
    gamma
        (C, M, M), in γ with specimen and noise eliminated.
    carried
        (C, Q+1, M): specimen and noise follow a change of γ by minus this times it.
    factor
        (C, Q+1, Q+1), Cholesky factor of the curvature in specimen and noise.
    """

    gamma: torch.Tensor
    carried: torch.Tensor
    factor: torch.Tensor

    def replaced(self, which: torch.Tensor, by: CellCurvature) -> CellCurvature:
        """Return these with the cells of the mask `which` (C,) replaced `by` theirs."""
        parts = [part.clone() for part in self]
        for part, new in zip(parts, by, strict=True):
            part[which] = new
        return CellCurvature(*parts)


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
        Of the cells; the next fit nearby may use it again.
    """

    coefficients: torch.Tensor
    objective: float
    information: torch.Tensor
    sensitivity: torch.Tensor
    nuisance: torch.Tensor
    quality: float
    curvature: CellCurvature

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

    `hessian` (P, P) and `gradient` (P,) in c; of each cell the `sensitivity` (C, M, M)
    with its phases, its curvature, and its specimen's and noise's own step (C, Q+1).
    """

    hessian: torch.Tensor
    gradient: torch.Tensor
    sensitivity: torch.Tensor
    curvature: CellCurvature
    own_step: torch.Tensor


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
    renewed
        (C,) mask of the cells whose curvature is recomputed all the same.
    """

    def __init__(
        self,
        refiner: SpectralRefiner,
        data: ObservedSpectrum,
        linear: LinearOtf | None = None,
        curvature: CellCurvature | None = None,
        renewed: torch.Tensor | None = None,
    ) -> None:
        self.refiner, self.data, self._linear = refiner, data, linear
        self._curvature, self._renewed = curvature, renewed
        modes = refiner.family.n_coefficients
        self._modes = modes
        # The prior is one of c: it has no part in a cell's γ.
        self._root = refiner.full_root(data, torch.zeros(modes, modes))
        self._precision = (self._root.T @ self._root)[modes:, modes:].double()
        self._scale = torch.as_tensor(refiner.family.prior.scale)

    def begin(self, gamma: torch.Tensor) -> torch.Tensor:
        """Return (C, Q+1): specimens and noises that fit given γ (C, M)."""
        nuisance = self.refiner.first_nuisance(self.data, gamma)
        usual = self.refiner.usual_nuisance(self.data, nuisance)
        precision = self._precision.float()
        for _ in range(_BEGIN_STEPS):
            _, residual, robust, slopes = self._misfit(gamma, nuisance)
            hessian, gradient = normal_equations(self.data, slopes, robust, residual)
            m = self._modes
            curved = hessian[:, m:, m:] + precision
            pull = gradient[:, m:] - (nuisance - usual) @ precision
            nuisance = nuisance + torch.linalg.solve(curved, pull)
        return nuisance

    def fit(
        self,
        model: FieldModel,
        start: torch.Tensor,
        iterations: int = 15,
        phases: CellTerms | None = None,
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
            The cells' phase terms, if they are used.
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
        phases: CellTerms | None,
    ) -> _State:
        gamma = model.at(coefficients).float()
        cost, residual, robust, slopes = self._misfit(gamma, nuisance)
        total = float(cost.double().sum())
        total += 0.5 * float(coefficients @ model.precision @ coefficients)
        if phases is not None:
            total += float(phases.cost(gamma).double().sum())
        return _State(coefficients, gamma, nuisance, total, residual, robust, slopes)

    def _equations(
        self,
        model: FieldModel,
        state: _State,
        phases: CellTerms | None,
    ) -> _Equations:
        m = self._modes
        curvature, gradient = self._of_cells(state)
        usual = self.refiner.usual_nuisance(self.data, state.nuisance)
        pull = gradient[:, m:] - (state.nuisance - usual).double() @ self._precision
        slope = gradient[:, :m] - (curvature.carried.mT @ pull[..., None])[..., 0]
        own_step = torch.cholesky_solve(pull[..., None], curvature.factor)[..., 0]
        sensitivity = curvature.gamma
        if phases is not None:
            push, bend = phases.slope(state.gamma)
            sensitivity, slope = sensitivity + bend, slope - push
        design = model.design
        total = (design.mT @ sensitivity @ design).sum(0) + model.precision
        down = (design.mT @ slope[..., None]).sum(0)[:, 0]
        down -= model.precision @ state.coefficients
        return _Equations(total, down, sensitivity, curvature, own_step)

    def _of_cells(self, state: _State) -> tuple[CellCurvature, torch.Tensor]:
        """Return the cells' curvature, and their gradient (C, M+Q+1)."""
        parts = state.slopes, state.robust, state.residual
        known, renewed = self._curvature, self._renewed
        if known is None:
            hessian, gradient = normal_equations(self.data, *parts)
            return self._eliminated(hessian), gradient.double()
        gradient = downhill(self.data, *parts)
        if renewed is not None and bool(renewed.any()):
            slopes = Slopes(*(part[renewed] for part in state.slopes))
            some = slopes, state.robust[renewed], state.residual[renewed]
            hessian, _ = normal_equations(self.data, *some)
            known = known.replaced(renewed, self._eliminated(hessian))
        return known, gradient.double()

    def _eliminated(self, hessian: torch.Tensor) -> CellCurvature:
        """Return the curvature of S cells from (S, M+Q+1, M+Q+1)."""
        m, hessian = self._modes, hessian.double()
        factor = torch.linalg.cholesky(hessian[:, m:, m:] + self._precision)
        coupling = hessian[:, :m, m:]
        carried = torch.cholesky_solve(coupling.mT, factor)
        gamma = hessian[:, :m, :m] - coupling @ carried
        return CellCurvature(gamma, carried, factor)

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
        carried = equations.curvature.carried @ model.at(step)[..., None]
        return (equations.own_step - carried[..., 0]).float()

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

    Rounding may leave some in a Schur complement, which would be negative variances.
    """
    values, vectors = torch.linalg.eigh(information)
    result: torch.Tensor = (vectors * values.clamp(min=0)[..., None, :]) @ vectors.mT
    return result
