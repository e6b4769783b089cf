"""The joint fit of a focus sweep: γ, with the specimen's spectrum free.

Damped Gauss–Newton with Huber weights over several starts at once. The specimen's
spectrum is a free number in each bin, determined for each trial γ by Newton's method,
and projected out of the derivatives (the Schur complement).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from deepblur_live.identification.sweep.problem import CORRELATED

if TYPE_CHECKING:
    from deepblur_live.identification.sweep.problem import SweepProblem

__all__ = ["SweepFit", "SweepPrior", "fit_sweep"]

_HUBER = 1.5
# Newton steps for the specimen: from scratch, and after a step of γ.
_SPECIMEN_STEPS = 5
# Least share of signal in a bin, for the start of the specimen's spectrum.
_LEAST_SIGNAL = 0.02
# Longest step, relative to the prior's standard deviations.
_LONGEST = 1.0
_TINY = 1e-12


class SweepPrior(NamedTuple):
    """Mean (P,) and covariance (P, P) of γ at z = 0."""

    mean: torch.Tensor
    covariance: torch.Tensor


@dataclass(frozen=True, eq=False)
class SweepFit:
    """The ends of S starts, the best first.

    Parameters
    ----------
    gamma
        (S, P).
    cost
        (S,) misfit, half the sum of squares, prior included.
    information
        (P, P) curvature of the best one's misfit in γ, without the prior.
    chi2
        The best one's mean square of weighted residuals per degree of freedom.
    residual
        (K, N) the best one's weighted residuals.
    """

    gamma: torch.Tensor
    cost: torch.Tensor
    information: torch.Tensor
    chi2: float
    residual: torch.Tensor


def fit_sweep(
    problem: SweepProblem, starts: torch.Tensor, prior: SweepPrior, steps: int
) -> SweepFit:
    """Refine starts (S, P) by a number of steps."""
    precision = torch.linalg.inv(prior.covariance)
    scale = prior.covariance.diagonal().sqrt()

    def evaluate(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        residual, slopes = _residuals(problem, x)
        size = residual.abs()
        cost = torch.where(size < _HUBER, size**2 / 2, _HUBER * (size - _HUBER / 2))
        offset = x - prior.mean
        total = (
            cost.sum((1, 2)) / CORRELATED + ((offset @ precision) * offset).sum(1) / 2
        )
        return total, residual, slopes

    x = starts.double()
    cost, residual, slopes = evaluate(x)
    damping = torch.full((len(x),), 1e-2, dtype=torch.float64)
    for _ in range(steps):
        robust = (_HUBER / residual.abs().clamp(min=_HUBER)) / CORRELATED
        hessian, gradient = _equations(residual, slopes, robust)
        hessian = hessian + precision
        gradient = gradient + (x - prior.mean) @ precision
        damped = hessian + torch.diag_embed(
            damping[:, None] * hessian.diagonal(dim1=-2, dim2=-1)
        )
        step = -torch.linalg.solve(damped, gradient)
        length = (step / scale).norm(dim=1, keepdim=True)
        step = step * (_LONGEST / length.clamp(min=_LONGEST))
        trial = evaluate(x + step)
        better = trial[0] < cost
        x = torch.where(better[:, None], x + step, x)
        cost = torch.where(better, trial[0], cost)
        residual = torch.where(better[:, None, None], trial[1], residual)
        slopes = torch.where(better[:, None, None, None], trial[2], slopes)
        damping *= torch.where(better, 1 / 5, 6.0)
    order = torch.argsort(cost)
    x, cost = x[order], cost[order]
    best, slopes = residual[order[0]], slopes[order[0]]
    robust = (_HUBER / best.abs().clamp(min=_HUBER)) / CORRELATED
    hessian, _ = _equations(best[None], slopes[None], robust[None])
    free = max(1, (len(best) - 1) * best.shape[1])
    chi2 = float((best**2 * robust).sum()) * CORRELATED / free
    return SweepFit(x, cost, hessian[0], chi2, best)


def _equations(
    residual: torch.Tensor, slopes: torch.Tensor, robust: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the normal matrix (S, Q, Q) and the gradient (S, Q)."""
    weighted = (slopes * robust[:, :, None]).movedim(2, 1).flatten(2)
    plain = slopes.movedim(2, 1).flatten(2)
    hessian = weighted @ plain.transpose(1, 2)
    gradient = (weighted @ residual.flatten(1)[..., None])[..., 0]
    return hessian, gradient


def _residuals(
    problem: SweepProblem, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weighted residuals (S, K, N) and their derivatives (S, K, P, N) in γ.

    The specimen's spectrum is eliminated from both.
    """
    transfer, slopes = problem.transfer_and_slopes(x)
    weight = problem.weight
    specimen = _specimen(problem, transfer)
    mean = specimen[:, None] * transfer + problem.noise
    signal = (1 - problem.noise / mean) * weight
    slopes = slopes * signal[:, :, None]
    # The Schur complement: what the specimen's spectrum can take up is removed.
    projection = (signal[:, :, None] * slopes).sum(1)
    projection /= (signal**2).sum(1)[:, None] + _TINY
    slopes -= signal[:, :, None] * projection[:, None]
    return (torch.log(mean) - problem.log_power) * weight, slopes


def _specimen(problem: SweepProblem, light: torch.Tensor) -> torch.Tensor:
    """Return S_x (S, N) that fits planes of transfer a_k·M_k (S, K, N) best."""
    weight = problem.weight
    signal = torch.maximum(problem.power - problem.noise, _LEAST_SIGNAL * problem.noise)
    share = (weight / problem.power) ** 2
    start = (share * signal * light).sum(1) / (share * light**2).sum(1)
    log = torch.log(start)
    for _ in range(_SPECIMEN_STEPS):
        mean = torch.exp(log)[:, None] * light + problem.noise
        slope = (1 - problem.noise / mean) * weight
        pull = slope * (problem.log_power - torch.log(mean)) * weight
        step = pull.sum(1) / ((slope**2).sum(1) + _TINY)
        log = log + step.clamp(-1, 1)
    return torch.exp(log)
