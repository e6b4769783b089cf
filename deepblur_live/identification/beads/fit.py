"""Maximum-likelihood fit of one blur to many beads, whose own unknowns are eliminated.

The shared unknowns are the coefficients γ and the variance of a Gaussian blur; each
bead has a position, a brightness and a background. The frame is Gaussian with a
variance that grows with the brightness (Fisher scoring with Levenberg's damping). As a
bead's own unknowns only meet the shared ones in its own pixels, they are eliminated
bead by bead (Schur's complement), and the cost grows linearly with the beads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from deepblur_live.identification.beads.registration import border

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.identification.beads.model import BeadModel

__all__ = ["BeadFit", "BeadNoise", "fit_beads", "restricted", "start_of"]

# Levenberg's damping: first value, factors after a good and a bad step, largest.
_DAMPING, _BETTER, _WORSE, _LARGEST = 1e-3, 0.2, 5.0, 1e6
# A step that improves the objective by less is the last: absolute, and relative, as a
# misfit of the model may exceed the noise a thousand times.
_CONVERGED, _NEGLIGIBLE = 1e-3, 1e-6
# Times that the noise is measured again from the residual.
_REWEIGHTED = 3


class BeadNoise(NamedTuple):
    """Variance of a pixel: `floor` + `gain` · its brightness over the background.

    Parameters
    ----------
    floor
        Variance of the background.
    gain
        Shot noise: variance per brightness.
    known
        Whether the camera is calibrated. If not, `gain` is fitted to the residual.
    """

    floor: float
    gain: float = 0.0
    known: bool = False


@dataclass(frozen=True)
class BeadFit:
    """A blur and the beads that it was fitted to.

    Parameters
    ----------
    coefficients
        (P,) γ.
    blur
        Variance of the Gaussian in addition to the model's `known_blur`, pixels².
    positions
        (n, 2) row and column from the centre of each crop, pixels.
    brightness, background
        (n,) of each bead: the sum of its image, and the level around it.
    covariance
        (P, P) of γ, from the curvature of the likelihood.
    objective
        Half the weighted sum of squares, with the logarithm of the variance, and the
        prior's.
    noise
        Noise by which the residual was weighted.
    chi2
        (n,) mean squared residual of each bead, over its variance.
    residual
        (n, C, C) crop minus model, in the frame's brightness.
    """

    coefficients: NDArray[np.float64]
    blur: float
    positions: NDArray[np.float64]
    brightness: NDArray[np.float64]
    background: NDArray[np.float64]
    covariance: NDArray[np.float64]
    objective: float
    noise: BeadNoise
    chi2: NDArray[np.float64]
    residual: NDArray[np.float64]


class _State(NamedTuple):
    gamma: torch.Tensor  # (P,)
    blur: torch.Tensor  # ()
    own: torch.Tensor  # (n, 4): row, column, brightness, background


def start_of(
    crops: torch.Tensor, gamma: torch.Tensor, blur: float, positions: torch.Tensor
) -> BeadFit:
    """Return a start of `fit_beads` for crops (n, C, C) at (n, 2) positions."""
    background = border(crops)
    brightness = (crops - background[:, None, None]).sum((1, 2))
    # A crop of noise may sum to less than nothing.
    brightness = brightness.clamp(min=1e-6 * float(crops.abs().sum((1, 2)).max()))
    p, n = len(gamma), len(crops)
    return BeadFit(
        gamma.double().numpy(),
        blur,
        positions.double().numpy(),
        brightness.numpy(),
        background.numpy(),
        np.zeros((p, p)),
        np.inf,
        BeadNoise(1.0),
        np.ones(n),
        np.zeros(tuple(crops.shape)),
    )


def fit_beads(
    model: BeadModel,
    crops: torch.Tensor,
    noise: BeadNoise,
    start: BeadFit,
    steps: int = 20,
) -> BeadFit:
    """Fit a blur to beads.

    Parameters
    ----------
    model
        Images of beads.
    crops
        (n, C, C) float64: parts of the frame, a bead near the centre of each.
    noise
        Noise of a pixel. Unless it is known, its gain is measured from the residual,
        and then also contains the errors of the model.
    start
        Where the fit starts: γ, blur and the beads' own unknowns.
    steps
        Largest number of steps between two measurements of the noise.
    """
    family = model.family
    state = _State(
        torch.as_tensor(start.coefficients).double(),
        torch.tensor(start.blur, dtype=torch.float64),
        torch.from_numpy(
            np.column_stack([start.positions, start.brightness, start.background])
        ),
    )
    precision = torch.from_numpy(np.linalg.inv(family.prior.covariance))
    mean = torch.from_numpy(np.asarray(family.prior.mean, dtype=np.float64))
    rounds = 1 if noise.known else _REWEIGHTED
    for number in range(rounds):
        state = _descend(model, crops, noise, state, (mean, precision), steps)
        if not noise.known and number + 1 < rounds:
            noise = _measured(crops, _predicted(model, state), state, noise)
    return _finished(model, crops, noise, state, (mean, precision))


_Prior = tuple[torch.Tensor, torch.Tensor]


def _predicted(model: BeadModel, state: _State) -> torch.Tensor:
    image = model.images(state.gamma, float(state.blur), state.own[:, :2])
    brightness, background = state.own[:, 2:].T[..., None, None]
    predicted: torch.Tensor = brightness * image + background
    return predicted


def _variance(predicted: torch.Tensor, state: _State, noise: BeadNoise) -> torch.Tensor:
    signal = (predicted - state.own[:, 3, None, None]).clamp(min=0)
    return noise.floor + noise.gain * signal


def _measured(
    crops: torch.Tensor, predicted: torch.Tensor, state: _State, noise: BeadNoise
) -> BeadNoise:
    """Return the noise whose variance explains the residual of all beads."""
    signal = (predicted - state.own[:, 3, None, None]).clamp(min=0)
    excess = (crops - predicted).square() - noise.floor
    gain = float(excess.sum() / signal.sum())
    return noise._replace(gain=max(gain, 0.0))


def _objective(
    crops: torch.Tensor,
    predicted: torch.Tensor,
    variance: torch.Tensor,
    state: _State,
    prior: _Prior,
) -> float:
    mean, precision = prior
    off = state.gamma - mean
    weighted = (crops - predicted).square() / variance
    return 0.5 * float(weighted.sum() + off @ precision @ off)


def _equations(
    model: BeadModel,
    crops: torch.Tensor,
    noise: BeadNoise,
    state: _State,
    prior: _Prior,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the normal equations of each bead, and its pixels' means and variances.

    (n, P+5, P+5) and (n, P+5): γ, blur, row, column, brightness, background. The prior
    is divided among the beads.
    """
    n, p = len(crops), len(state.gamma)
    shapes = model.shapes(state.gamma, float(state.blur), state.own[:, :2])
    brightness, background = state.own[:, 2:].T[..., None, None]
    predicted = brightness * shapes.image + background
    variance = _variance(predicted, state, noise)
    slopes = torch.cat(
        [
            brightness[:, None] * shapes.by_shared,
            brightness[:, None] * shapes.by_position,
            shapes.image[:, None],
            torch.ones_like(shapes.image[:, None]),
        ],
        1,
    ).flatten(2)
    weighted = slopes / variance.flatten(1)[:, None]
    hessian = weighted @ slopes.transpose(1, 2)
    gradient = (weighted @ (crops - predicted).flatten(1)[..., None])[..., 0]
    mean, precision = prior
    hessian[:, :p, :p] += precision / n
    gradient[:, :p] -= precision @ (state.gamma - mean) / n
    return hessian, gradient, predicted, variance


def _eliminated(
    hessian: torch.Tensor, gradient: torch.Tensor, shared: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the equations (S, S), (S,) of the shared unknowns, the rest eliminated.

    And, for the beads' own, (n, 4, S) and (n, 4): own = second - first · shared.
    """
    own = hessian[:, shared:, shared:]
    cross = hessian[:, shared:, :shared]
    solved = torch.linalg.solve(own, torch.cat([cross, gradient[:, shared:, None]], 2))
    coupling, free = solved[..., :shared], solved[..., shared]
    left = hessian[:, :shared, :shared] - cross.transpose(1, 2) @ coupling
    right = gradient[:, :shared] - (cross.transpose(1, 2) @ free[..., None])[..., 0]
    return left.sum(0), right.sum(0), coupling, free


def _descend(
    model: BeadModel,
    crops: torch.Tensor,
    noise: BeadNoise,
    state: _State,
    prior: _Prior,
    steps: int,
) -> _State:
    """Return the minimum that a state leads to, with the noise as it is."""
    damping = _DAMPING
    for _ in range(steps):
        hessian, gradient, predicted, variance = _equations(
            model, crops, noise, state, prior
        )
        before = _objective(crops, predicted, variance, state, prior)
        improvement = 0.0
        while damping < _LARGEST:
            moved = _step(hessian, gradient, state, damping, model)
            # The variance of the last state: Fisher scoring is iteratively
            # reweighted least squares.
            after = _objective(crops, _predicted(model, moved), variance, moved, prior)
            if after < before:
                improvement, state = before - after, moved
                damping *= _BETTER
                break
            damping *= _WORSE
        if improvement < _CONVERGED + _NEGLIGIBLE * abs(before):
            break
    return state


def _step(
    hessian: torch.Tensor,
    gradient: torch.Tensor,
    state: _State,
    damping: float,
    model: BeadModel,
) -> _State:
    p, least, largest = len(state.gamma), model.least_blur, model.largest_blur
    diagonal = torch.diag_embed(hessian.diagonal(dim1=1, dim2=2))
    damped = hessian + damping * diagonal
    left, right, coupling, free = _eliminated(damped, gradient, p + 1)
    step = torch.linalg.solve(left, right)
    blur = float(state.blur)
    if (blur <= least and step[p] < 0) or (blur >= largest and step[p] > 0):
        # It is at its limit: without it as an unknown.
        step = torch.zeros_like(step)
        step[:p] = torch.linalg.solve(left[:p, :p], right[:p])
    own = free - coupling @ step
    return _State(
        state.gamma + step[:p],
        (state.blur + step[p]).clamp(least, largest),
        state.own + own,
    )


def _finished(
    model: BeadModel,
    crops: torch.Tensor,
    noise: BeadNoise,
    state: _State,
    prior: _Prior,
) -> BeadFit:
    p = len(state.gamma)
    hessian, gradient, predicted, variance = _equations(
        model, crops, noise, state, prior
    )
    left, _, _, _ = _eliminated(hessian, gradient, p + 1)
    residual = crops - predicted
    own = state.own.numpy()
    return BeadFit(
        state.gamma.numpy(),
        float(state.blur),
        own[:, :2],
        own[:, 2],
        own[:, 3],
        torch.linalg.inv(left)[:p, :p].numpy(),
        _objective(crops, predicted, variance, state, prior)
        + 0.5 * float(variance.log().sum()),
        noise,
        (residual.square() / variance).mean((1, 2)).numpy(),
        residual.numpy(),
    )


def restricted(fit: BeadFit, keep: NDArray[np.bool_]) -> BeadFit:
    """Return a fit restricted to some of its beads (n,), as a start for the next."""
    return replace(
        fit,
        positions=fit.positions[keep],
        brightness=fit.brightness[keep],
        background=fit.background[keep],
        chi2=fit.chi2[keep],
        residual=fit.residual[keep],
    )
