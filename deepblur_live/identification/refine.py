"""From an average spectrum to γ: library start, robust joint fit, covariance.

The logarithm of the model, `SpectralModel`, is fitted by robust least squares in γ, the
specimen's spectrum and the noise jointly.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.blur.symmetry import ResolvedBy
from deepblur_live.identification.fit import Fit
from deepblur_live.identification.minima import competing_scatter, most_central_first
from deepblur_live.identification.normal_equations import Slopes, normal_equations
from deepblur_live.identification.observed import ObservedSpectrum, observe
from deepblur_live.identification.otf import LinearOtf, library
from deepblur_live.identification.spectral_model import CORRELATED, SpectralModel
from deepblur_live.identification.starts import best_of_library

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily, ErrorModel
    from deepblur_live.identification.phase import LocalPhase, Phase
    from deepblur_live.identification.specimen import SpecimenSpectrum

__all__ = ["SpectralRefiner"]

# A start has converged when a step is expected to lower the misfit by less than this
# (docs/decisions/0091-convergence.md); a misfit of 0.5 is one standard deviation.
_IMPROVEMENT = 0.003
# A start this far behind the best is given up, unless this many steps like its last
# would catch up.
_HOPELESS, _CATCH_UP = 12.0, 20.0
# Steps in which specimen and noise of a known blur are fitted.
_FIXED_STEPS = 10
# Nearer than this to a fixed point of a symmetry, relative to the prior scale, the
# spectrum determines coefficients by its curvature, not its slope.
_NEAR_FIXED = 0.2
# Longest step, relative to the prior scale: further away the model is not linear.
_LONGEST_STEP = 1.0
# Radius, relative to the prior scale, of the linear models of log|ĥ|² in a fit that
# continues from the last frame's (docs/decisions/0242-linear-otf-in-a-warm-fit.md).
_LINEAR = 0.01
# Damping of the first step, relative to the curvature: from anywhere, and from the last
# frame's fit, which is near (docs/decisions/0164-cost-of-a-warm-estimate.md).
_DAMPING, _DAMPING_NEAR = 1e-2, 1e-3


class SpectralRefiner(SpectralModel):
    """Robust joint fit of γ, the specimen's spectrum and the noise.

    Parameters
    ----------
    family, errors, specimen
        As for `SpectralModel`.
    library
        Number of random PSFs that a start without prior knowledge is chosen from.

    Raises
    ------
    ValueError
        When the PSF does not fit into the spectrum's window.
    """

    def __init__(
        self,
        family: BlurFamily,
        errors: ErrorModel,
        specimen: SpecimenSpectrum | None = None,
        *,
        library: int = 12_000,
    ) -> None:
        super().__init__(family, errors, specimen)
        self._library_size = library
        # Symmetries that a spectrum does not resolve.
        self._blind = [
            symmetry
            for symmetry in family.symmetries
            if symmetry.resolved_by is not ResolvedBy.SPECTRUM
        ]

    def prepare(
        self,
        spectrum: torch.Tensor,
        averages: float | torch.Tensor,
        frames: float,
        noise_variance: float | None = None,
    ) -> ObservedSpectrum:
        """Take the logarithm of an average spectrum and weight its bins."""
        cutoff = self.family.cutoff
        return observe(
            spectrum, averages, frames, cutoff, self.specimen, noise_variance
        )

    def starts(
        self, data: ObservedSpectrum, count: int, stride: int = 1
    ) -> torch.Tensor:
        """Return the (count, P) of a library that fit a spectrum best.

        Only every `stride`-th point is evaluated, in proportionally less time.
        """
        gamma, logs = library(self.family, self._library_size)
        return best_of_library(gamma[::stride], logs[::stride], data, count, CORRELATED)

    def fit(
        self,
        data: ObservedSpectrum,
        starts: torch.Tensor,
        prior: tuple[torch.Tensor, torch.Tensor] | None = None,
        iterations: int = 15,
        hysteresis: float = 0.0,
        phase: Phase | LocalPhase | None = None,
        nuisance: torch.Tensor | None = None,
        improvement: float = _IMPROVEMENT,
    ) -> Fit:
        """Refine (S, P) starts by damped Gauss–Newton with Huber weights.

        Parameters
        ----------
        data
            The spectrum.
        starts
            (S, P).
        prior
            Mean (P,), or of each start (S, P), and standard deviation (P,) of γ, up to
            symmetries that a spectrum does not resolve; the family's prior when None.
        iterations
            Largest number of steps.
        hysteresis
            Misfit by which the minimum of the first start is favoured.
        phase
            Phase term of a frame, for a single start (1, P).
        nuisance
            `Fit.nuisance` of the last frame, to start from. Such a fit begins near its
            end: it takes linear models of the OTF, and the curvature in specimen and
            noise where each of them was made.
        improvement
            A start has converged when a step is expected to improve it by less.
        """
        p = starts.shape[1]
        gamma = starts.clone()
        continued = nuisance is not None
        initial = _DAMPING_NEAR if continued else _DAMPING
        nuisance = (
            self.first_nuisance(data, starts) if nuisance is None else nuisance.clone()
        )
        centre, root = self.prior_of(prior, starts)
        anchor = torch.cat([centre, self.usual_nuisance(data, nuisance)], 1)
        root = self.full_root(data, root)
        precision = root.T @ root
        damping = torch.full((len(gamma),), initial)
        linear: LinearOtf | None = None
        curvature: torch.Tensor | None = None

        def evaluate(
            gamma: torch.Tensor, nuisance: torch.Tensor, anchor: torch.Tensor
        ) -> tuple[torch.Tensor, ...]:
            nonlocal linear, curvature
            if continued and (linear is None or not linear.covers(gamma, _LINEAR)):
                # Cloned: a fit may change its γ in place.
                linear = LinearOtf.near(self.family, gamma.clone(), data.keep)
                curvature = None
            cost, residual, robust, slopes = self.misfit(
                data, gamma, nuisance, anchor, root, linear
            )
            cost = cost + self.smallness(gamma)[0]
            if phase is not None:
                cost = cost + phase.cost(gamma)
            return cost, residual, robust, *slopes

        state = evaluate(gamma, nuisance, anchor)
        bend, better = gamma.new_zeros(1, p, p), torch.ones(1, dtype=torch.bool)
        # Starts that have not converged.
        rows = torch.arange(len(gamma))
        for _ in range(iterations):
            all_rows = len(rows) == len(gamma)
            objective, residual, robust, *slopes = (
                part if all_rows else part[rows] for part in state
            )
            hessian, gradient = normal_equations(
                data, Slopes(*slopes), robust, residual, curvature
            )
            if continued and curvature is None:
                curvature = hessian[:, p:, p:].clone()
            hessian += precision
            offset = torch.cat([gamma[rows], nuisance[rows]], 1) - anchor[rows]
            gradient -= offset @ precision
            _, small = self.smallness(gamma[rows])
            hessian[:, :p, :p] += torch.diag_embed(small)
            gradient[:, :p] -= small * (gamma[rows] - self._mean)
            if phase is not None:
                if better.any():
                    pull, bend = phase.slope(gamma[rows])
                hessian[:, :p, :p] += bend
                gradient[:, :p] -= pull
            diagonal = torch.diag_embed(hessian.diagonal(dim1=-2, dim2=-1))
            damped = hessian + damping[rows, None, None] * diagonal
            step = torch.linalg.solve(damped, gradient)
            length = (step[:, :p] / self._scale).norm(dim=1, keepdim=True)
            step = step * (_LONGEST_STEP / length.clamp(min=_LONGEST_STEP))
            expected = 0.5 * (step * gradient).sum(1)
            new_gamma = gamma[rows] + step[:, :p]
            new_nuisance = nuisance[rows] + step[:, p:]
            trial = evaluate(new_gamma, new_nuisance, anchor[rows])
            better = trial[0] < objective
            if all_rows and better.all():
                gamma, nuisance, state = new_gamma, new_nuisance, trial
            else:
                improved = rows[better]
                gamma[improved] = new_gamma[better]
                nuisance[improved] = new_nuisance[better]
                for old, new in zip(state, trial, strict=True):
                    old[improved] = new[better]
            damping[rows] *= torch.where(better, 1 / 5, 6.0)
            # A rejected step is tried shorter, until that would not improve the fit.
            finite = state[0].nan_to_num(torch.inf)
            behind = state[0][rows] - finite.min()
            rows = rows[
                (expected > improvement) & (behind < _HOPELESS + _CATCH_UP * expected)
            ]
            if not len(rows):
                break
        return self._ranked(data, gamma, nuisance, state, bend, precision, hysteresis)

    def _ranked(
        self,
        data: ObservedSpectrum,
        gamma: torch.Tensor,
        nuisance: torch.Tensor,
        state: tuple[torch.Tensor, ...],
        bend: torch.Tensor,
        precision: torch.Tensor,
        hysteresis: float,
    ) -> Fit:
        """Return the refined starts, the chosen one first, with its uncertainty.

        Parameters
        ----------
        gamma, nuisance
            (S, P) and (S, Q+1), where the starts have ended.
        state
            Objective (S,), residual and weights (S, N), and the parts of `Slopes`.
        bend
            (1, P, P) curvature of the phase term; 0 without one.
        precision
            (P+Q+1, P+Q+1) of the prior.
        hysteresis
            As for `fit`.
        """
        objective, residual, robust, *slopes = state
        favoured = objective.clone()
        favoured[0] -= hysteresis
        order = torch.argsort(favoured)
        order = most_central_first(self.family, gamma, favoured, order)
        best = int(order[0])
        errors = self.errors
        size, factor = self.residual_size(
            data, residual[best], robust[best], nuisance[best, -1:]
        )
        quality = float(size)
        weights = robust[best] / factor**2
        there = Slopes(*(part[best, None] for part in slopes))
        _, small = self.smallness(gamma[best, None])
        information = self._information(
            data, gamma[best], nuisance[best], there, weights, precision
        )
        information += bend[0].double() + torch.diag(small[0]).double()
        return Fit(
            gamma[order].double().numpy(),
            objective[order].double().numpy(),
            torch.linalg.inv(information).numpy(),
            competing_scatter(
                self.family,
                gamma[order],
                objective[order],
                errors.competing_temperature,
            ),
            quality,
            errors,
            self.family.prior.scale,
            nuisance[best, None],
        )

    def known(
        self,
        data: ObservedSpectrum,
        gamma: torch.Tensor,
        prior: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> float:
        """Return the objective of a known γ (P,), as `fit` has it without phases."""
        _, _, _, cost = self._fitted_nuisance(data, gamma, prior)
        return cost + float(self.smallness(gamma[None])[0])

    def bound(self, data: ObservedSpectrum, gamma: torch.Tensor) -> NDArray[np.float64]:
        """Return the Cramér–Rao bound (P, P) at a known γ (P,), including the prior.

        Specimen and noise are fitted with γ fixed, then all count as unknown.
        """
        nuisance, robust, precision, _ = self._fitted_nuisance(data, gamma)
        _, slopes = self.predict(data, gamma[None], nuisance)
        information = self._information(
            data, gamma, nuisance[0], slopes, robust[0], precision
        )
        bound: NDArray[np.float64] = torch.linalg.inv(information).numpy()
        return bound

    def _fitted_nuisance(
        self,
        data: ObservedSpectrum,
        gamma: torch.Tensor,
        prior: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
        """Fit specimen and noise with γ (P,) fixed.

        Returns them (1, Q+1), the weights (1, N) of the bins, the prior's precision
        (P+Q+1, P+Q+1) and the misfit.
        """
        p, nuisance = len(gamma), self.first_nuisance(data, gamma[None])
        usual = self.usual_nuisance(data, nuisance)
        centre, root = self.prior_of(prior, gamma[None])
        anchor = torch.cat([centre, usual], 1)
        root = self.full_root(data, root)
        precision = root.T @ root
        least = math.inf
        for _ in range(_FIXED_STEPS):
            cost, residual, robust, slopes = self.misfit(
                data, gamma[None], nuisance, anchor, root
            )
            least = min(least, float(cost))
            hessian, gradient = normal_equations(data, slopes, robust, residual)
            curved = hessian[0, p:, p:] + precision[p:, p:]
            pull = gradient[0, p:] - precision[p:, p:] @ (nuisance - usual)[0]
            nuisance = nuisance + torch.linalg.solve(curved, pull)
        return nuisance, robust, precision, least

    def _information(
        self,
        data: ObservedSpectrum,
        gamma: torch.Tensor,
        nuisance: torch.Tensor,
        slopes: Slopes,
        weights: torch.Tensor,
        precision: torch.Tensor,
    ) -> torch.Tensor:
        """Return the information (P, P) on one γ (P,), averaged over nearby γ.

        Specimen and noise are unknown. `slopes` are the derivatives at γ, `weights`
        (N,) those of the bins, `precision` (P+Q+1, P+Q+1) the prior's. A spectrum
        that does not resolve a symmetry has no slope at its fixed points (Zernike:
        where all even, or all odd, coefficients are zero), and yet determines that γ is
        near them. There the derivatives are taken a little off, along each coefficient
        that the symmetry changes.
        """
        points = []
        for symmetry in self._blind:
            moved = gamma - symmetry.apply_rows(gamma[None])[0]
            if float((moved / self._scale).norm()) < 2 * _NEAR_FIXED:
                changed = symmetry.matrix != np.eye(len(gamma))
                steps = torch.diag(_NEAR_FIXED * self._scale)
                points += list(gamma + steps[torch.from_numpy(changed.any(0))])
        if points:
            nearby = torch.stack(points)
            _, slopes = self.predict(data, nearby, nuisance.expand(len(nearby), -1))
        weights = weights.expand_as(slopes.signal)
        information, _ = normal_equations(
            data, slopes, weights, torch.zeros_like(weights)
        )
        information = information.double() + precision
        # At each of the points on its own: specimen and noise take up other parts of
        # its derivatives.
        p = len(gamma)
        shared = information[:, :p, p:]
        taken = shared @ torch.linalg.solve(information[:, p:, p:], shared.mT)
        averaged: torch.Tensor = (information[:, :p, :p] - taken).mean(0)
        return averaged
