"""From an average spectrum to γ: library start, robust joint fit, covariance.

The model of a spectrum is ``S(f) = exp(μ(f) + Σ b_q B_q(f))·|ĥ_γ(f)|² + σ²``: the
specimen's own spectrum looks like other specimens' (`SpecimenSpectrum`), and the noise
is white. Its logarithm is fitted by robust least squares in (γ, b, log σ²) together,
over all frequencies: what drowns in noise then counts for as much as it says.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from deepblur_live.identification.fit import Fit
from deepblur_live.identification.minima import (
    aligned,
    most_central_first,
    rival_spread,
)
from deepblur_live.identification.observed import ObservedSpectrum, observe
from deepblur_live.identification.otf import (
    library,
    log_otf,
    log_otf_and_slopes,
)
from deepblur_live.identification.specimen import SpecimenSpectrum
from deepblur_live.identification.spectrum import WINDOW
from deepblur_live.identification.starts import best_of_library, fitted_specimen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deepblur_live.identification.phase import NearbyPhase, Phase
    from deepblur_live.optics import ZernikeFamily

__all__ = ["Slopes", "SpectralRefiner"]

_HUBER = 1.5
# Neighbouring bins stray together: so many of them count as one.
_CORRELATED = 4.0
# A step that promises to lower the misfit by less is the last: 0.5 is one deviation. In
# a long valley all are small: beside this, one of 33 drifting validation pictures loses
# 10 dB with 0.01 and 15 dB with 0.03.
_WORTH = 0.003
# So far behind the best, nobody believes a minimum; a step promises so many like it.
_HOPELESS, _SLOW = 12.0, 20.0
# What small frames' squared misfit is more than that of 512², times their windows, and
# the most of it: simulated frames of 64² to 256² then read 0.6 to 0.7 as those do.
_FEW_LOOKS, _MANY_LOOKS, _MOST_EXCESS = 1.4, 200.0, 0.6
# Specimen and noise of a known blur are found in so many steps.
_HELD_STEPS = 10
# Below this, in waves, a block of modes is told by the spectrum's curvature, not slope.
_NEAR_ZERO = 0.03
# Root mean square of the residuals, clipped as they are, of a fit whose errors are as
# large as its model says, and the least that they are scaled by. Where the misfit is
# above 0.75 errors have been larger by as much again.
_USUAL_SCATTER, _LEAST_SCALE, _USUAL_MISFIT = 0.88, 0.5, 0.75


class Slopes(NamedTuple):
    """Weighted slopes of S log-spectra in γ, the specimen's b and the noise's log σ².

    Parameters
    ----------
    by_gamma
        (S, P, N), those of log|ĥ|²: the spectrum's are these times `signal`.
    signal
        (S, N): the specimen's share of the power, times the weight of each bin. Those
        in b are the basis times this.
    noise
        (S, N): the noise's share, times the weight: those in log σ².
    """

    by_gamma: torch.Tensor
    signal: torch.Tensor
    noise: torch.Tensor


class SpectralRefiner:
    """Robust joint fit of γ, the specimen's spectrum and the noise.

    Parameters
    ----------
    family
        The blurs to choose among.
    specimen
        What is known of specimens' own spectra; when None, that they are smooth.
    library
        Number of random PSFs that a start without knowledge is chosen from.
    prior_sigma
        Prior standard deviation of a coefficient over its half-range.

    Raises
    ------
    ValueError
        When the PSF does not fit into the spectrum's window.
    """

    def __init__(
        self,
        family: ZernikeFamily,
        specimen: SpecimenSpectrum | None = None,
        *,
        library: int = 12_000,
        prior_sigma: float = 0.6,
    ) -> None:
        if family.window > WINDOW:
            raise ValueError(
                f"the PSF window of {family.window} pixels exceeds the spectrum's "
                f"{WINDOW}: λ/(NA·px) of {1 / family.cutoff:.1f} pixels is too fine"
            )
        self.family = family
        self.specimen = specimen or SpecimenSpectrum.smooth()
        self._library_size = library
        self._prior = 1 / (prior_sigma * torch.tensor(family.half_ranges))

    def prepare(
        self,
        spectrum: torch.Tensor,
        looks: float | torch.Tensor,
        frames: float,
        noise_variance: float | None = None,
    ) -> ObservedSpectrum:
        """Take the logarithm and weigh the bins of an average spectrum."""
        cutoff = self.family.cutoff
        return observe(spectrum, looks, frames, cutoff, self.specimen, noise_variance)

    def starts(
        self, data: ObservedSpectrum, count: int, every: int = 1
    ) -> torch.Tensor:
        """Return the (count, P) of a library that fit a spectrum best.

        With `every`, of every second, third … of it, in as much less time.
        """
        gamma, logs = library(self.family, self._library_size)
        return best_of_library(gamma[::every], logs[::every], data, count, _CORRELATED)

    def _predict(
        self, data: ObservedSpectrum, gamma: torch.Tensor, rest: torch.Tensor
    ) -> tuple[torch.Tensor, Slopes]:
        """Return the model's log-spectrum (S, N) and its slopes.

        `rest` is (S, Q+1): the specimen's b and the noise's log σ².
        """
        logs, slopes = log_otf_and_slopes(self.family, gamma)
        log_signal = logs[:, data.keep] + data.mean + rest[:, :-1] @ data.basis.T
        log_noise = rest[:, -1:].expand_as(log_signal)
        mean = torch.logaddexp(log_signal, log_noise)
        signal = torch.exp(log_signal - mean).mul_(data.weight)
        noise = torch.exp(log_noise - mean).mul_(data.weight)
        return mean, Slopes(slopes[..., data.keep], signal, noise)

    def _misfit(
        self,
        data: ObservedSpectrum,
        gamma: torch.Tensor,
        rest: torch.Tensor,
        anchor: torch.Tensor,
        penalty: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Slopes]:
        """Return objective (S,), residual (S, N), weights (S, N) and slopes.

        `anchor` (S, P+Q+1) and `penalty`, one over its standard deviation, are the
        prior of γ, b and log σ².
        """
        mean, slopes = self._predict(data, gamma, rest)
        residual = (data.log_power - mean) * data.weight
        size = residual.abs()
        cost = torch.where(size < _HUBER, 0.5 * size**2, _HUBER * (size - 0.5 * _HUBER))
        robust = (_HUBER / size.clamp(min=_HUBER)) / _CORRELATED
        offset = torch.cat([gamma, rest], 1) - anchor
        prior = 0.5 * (offset * penalty).square().sum(1)
        return cost.sum(1) / _CORRELATED + prior, residual, robust, slopes

    def _begin(self, data: ObservedSpectrum, gamma: torch.Tensor) -> torch.Tensor:
        """Return (S, Q+1): the specimen and noise that fit given γ best, roughly."""
        weight = data.reliable.weight.flatten()[data.keep]
        logs = log_otf(self.family, gamma)[:, data.keep]
        rows = data.reliable.log_signal.flatten()[data.keep] - data.mean - logs
        b = fitted_specimen(rows * weight, data.basis * weight[:, None], _CORRELATED)
        return torch.cat([b, torch.full((len(gamma), 1), data.log_floor)], 1)

    def fit(
        self,
        data: ObservedSpectrum,
        starts: torch.Tensor,
        prior: tuple[torch.Tensor, torch.Tensor] | None = None,
        iterations: int = 15,
        credit: float = 0.0,
        phase: Phase | NearbyPhase | None = None,
        rest: torch.Tensor | None = None,
        worth: float = _WORTH,
    ) -> Fit:
        """Refine (S, P) starts by damped Gauss–Newton with Huber weights.

        `prior` is a mean and standard deviation (P,) of γ, up to the signs of the even
        and of the odd block; the family's range around zero when None. What the first
        start has led to is taken to fit better by `credit`, in misfit, than it does.
        With a frame's `phase` one start (1, P) is fitted to that as well. `rest` is the
        `Fit.rest` of a frame before, to begin one start at. A step that promises to
        lower the misfit by less than `worth` is a start's last.
        """
        p = starts.shape[1]
        gamma = starts.clone()
        rest = self._begin(data, starts) if rest is None else rest.clone()
        centre, tight = torch.zeros_like(starts), self._prior
        if prior is not None:
            centre, tight = aligned(self.family, prior[0], starts), 1 / prior[1]
        usual = torch.zeros_like(rest)
        usual[:, -1] = data.log_floor
        anchor = torch.cat([centre, usual], 1)
        ones = torch.ones(data.basis.shape[1])
        penalty = torch.cat([tight, ones, torch.tensor([1 / data.floor_sigma])])
        curvature = penalty**2
        damping = torch.full((len(gamma),), 1e-2)

        def look(
            gamma: torch.Tensor, rest: torch.Tensor, anchor: torch.Tensor
        ) -> tuple[torch.Tensor, ...]:
            cost, residual, robust, slopes = self._misfit(
                data, gamma, rest, anchor, penalty
            )
            if phase is not None:
                cost = cost + phase.cost(gamma)
            return cost, residual, robust, *slopes

        state = look(gamma, rest, anchor)
        bend, better = gamma.new_zeros(1, p, p), torch.ones(1, dtype=torch.bool)
        # Those that have not arrived.
        rows = torch.arange(len(gamma))
        for _ in range(iterations):
            everyone = len(rows) == len(gamma)
            objective, residual, robust, *slopes = (
                part if everyone else part[rows] for part in state
            )
            hessian, gradient = _equations(data, Slopes(*slopes), robust, residual)
            hessian += torch.diag(curvature)
            offset = torch.cat([gamma[rows], rest[rows]], 1) - anchor[rows]
            gradient -= offset * curvature
            if phase is not None:
                if better.any():
                    pull, bend = phase.slope(gamma[rows])
                hessian[:, :p, :p] += bend
                gradient[:, :p] -= pull
            diagonal = torch.diag_embed(hessian.diagonal(dim1=-2, dim2=-1))
            damped = hessian + damping[rows, None, None] * diagonal
            step = torch.linalg.solve(damped, gradient)
            # A step longer than the family's scale leaves the linear range.
            length = step[:, :p].norm(dim=1, keepdim=True)
            step = step * (0.15 / length.clamp(min=0.15))
            expected = 0.5 * (step * gradient).sum(1)
            new_gamma, new_rest = gamma[rows] + step[:, :p], rest[rows] + step[:, p:]
            trial = look(new_gamma, new_rest, anchor[rows])
            better = trial[0] < objective
            improved = rows[better]
            gamma[improved], rest[improved] = new_gamma[better], new_rest[better]
            for old, new in zip(state, trial, strict=True):
                old[improved] = new[better]
            damping[rows] *= torch.where(better, 1 / 5, 6.0)
            # A step refused is tried shorter, until it is not worth it either. Who
            # could no longer come near the best does not matter.
            finite = state[0].nan_to_num(torch.inf)
            behind = state[0][rows] - finite.min()
            rows = rows[(expected > worth) & (behind < _HOPELESS + _SLOW * expected)]
            if not len(rows):
                break
        objective, residual, robust, *slopes = state
        credited = objective.clone()
        credited[0] -= credit
        order = torch.argsort(credited)
        order = most_central_first(self.family, gamma, credited, order)
        best = int(order[0])
        square = residual[best] ** 2 * robust[best] * _CORRELATED
        # The specimen's share of the power, bin by bin.
        predicted = data.log_power - residual[best] / data.weight
        signal = (1 - torch.exp(rest[best, -1] - predicted)).clamp(min=0)
        misfit = float((square * signal).sum() / signal.sum().clamp(min=1e-6))
        # Noise of few windows is all of its expected size, the specimen's is not.
        few = _FEW_LOOKS * max(0.0, 1 / data.looks - 1 / _MANY_LOOKS)
        quality = math.sqrt(max(0.0, misfit - min(few, _MOST_EXCESS)))
        # A poor fit knows less than its curvature says, a good one more.
        scatter = float(square.mean().sqrt())
        scale = max(_LEAST_SCALE, scatter / _USUAL_SCATTER)
        trust = robust[best] / (scale * max(1.0, quality / _USUAL_MISFIT)) ** 2
        there = Slopes(*(part[best, None] for part in slopes))
        information = self._information(data, gamma[best], rest[best], there, trust)
        information = information + torch.diag(curvature.double())
        information[:p, :p] += bend[0].double()
        return Fit(
            gamma[order].double().numpy(),
            objective[order].double().numpy(),
            torch.linalg.inv(information)[:p, :p].numpy(),
            rival_spread(self.family, gamma[order], objective[order]),
            quality,
            rest[best, None],
        )

    def bound(self, data: ObservedSpectrum, gamma: torch.Tensor) -> NDArray[np.float64]:
        """Return the Cramér–Rao bound (P, P) at a known γ (P,), its range as prior.

        Specimen and noise are fitted with γ held, then all are unknown together.
        """
        p, rest = len(gamma), self._begin(data, gamma[None])
        usual = torch.zeros_like(rest)
        usual[:, -1] = data.log_floor
        anchor = torch.cat([gamma[None], usual], 1)
        ones = torch.ones(data.basis.shape[1])
        penalty = torch.cat([self._prior, ones, torch.tensor([1 / data.floor_sigma])])
        for _ in range(_HELD_STEPS):
            _, residual, robust, slopes = self._misfit(
                data, gamma[None], rest, anchor, penalty
            )
            hessian, gradient = _equations(data, slopes, robust, residual)
            curved = hessian[0, p:, p:] + torch.diag(penalty[p:] ** 2)
            pull = gradient[0, p:] - (rest - usual)[0] * penalty[p:] ** 2
            rest = rest + torch.linalg.solve(curved, pull)
        _, slopes = self._predict(data, gamma[None], rest)
        information = self._information(data, gamma, rest[0], slopes, robust[0])
        information = information + torch.diag(penalty.double() ** 2)
        bound: NDArray[np.float64] = torch.linalg.inv(information)[:p, :p].numpy()
        return bound

    def _information(
        self,
        data: ObservedSpectrum,
        gamma: torch.Tensor,
        rest: torch.Tensor,
        slopes: Slopes,
        trust: torch.Tensor,
    ) -> torch.Tensor:
        """Return the information (P+Q+1, P+Q+1) at one γ (P,), averaged over nearby γ.

        `slopes` are those of the one γ, `trust` (N,) what each bin counts. The spectrum
        is even in the even modes, and in the odd ones: where all of a block are zero it
        has no slope in them, and yet tells that they are small. There the slopes are
        taken a little off zero, along each mode in turn.
        """
        points = []
        even = torch.from_numpy(self.family.even)
        for block in (even, ~even):
            if float(gamma[block].norm()) < _NEAR_ZERO:
                points += [
                    gamma + _NEAR_ZERO * row for row in torch.eye(len(gamma))[block]
                ]
        if points:
            nearby = torch.stack(points)
            _, slopes = self._predict(data, nearby, rest.expand(len(nearby), -1))
        double = Slopes(*(part.double() for part in slopes))
        weights = trust.double().expand_as(double.signal)
        return _equations(data, double, weights, torch.zeros_like(weights))[0].mean(0)


def _equations(
    data: ObservedSpectrum,
    slopes: Slopes,
    weights: torch.Tensor,
    residual: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the normal equations of weighted least squares, of each of S starts.

    With J (P+Q+1, N) the slopes of one, w its weights and r its residual (S, N), that
    are J w Jᵀ (S, P+Q+1, P+Q+1) and J w r (S, P+Q+1). One start after another: the
    slopes of one stay in the processor's cache, those of forty do not, and take twice
    as long.
    """
    by_gamma, signal, noise = slopes
    starts, p, bins = by_gamma.shape
    basis = data.basis.T.to(signal.dtype)
    unknowns = p + len(basis) + 1
    hessian = signal.new_empty(starts, unknowns, unknowns)
    gradient = signal.new_empty(starts, unknowns)
    root = weights.sqrt()
    signal, noise, residual = signal * root, noise * root, residual * root
    jacobian = signal.new_empty(unknowns, bins)
    for start in range(starts):
        torch.mul(by_gamma[start], signal[start], out=jacobian[:p])
        torch.mul(basis, signal[start], out=jacobian[p:-1])
        jacobian[-1] = noise[start]
        torch.mm(jacobian, jacobian.T, out=hessian[start])
        torch.mv(jacobian, residual[start], out=gradient[start])
    return hessian, gradient
