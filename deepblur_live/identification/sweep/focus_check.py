"""Whether estimates of single frames follow a known step of the focus drive.

An estimate of one frame rests on a prior of specimens. A step of the focus changes γ by
a known amount on any specimen: estimates that do not change by as much are wrong on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from deepblur_live.blur import ResolvedBy, focus_direction, orbit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily, Estimate

__all__ = ["CheckVerdict", "FocusCheck", "check_focus"]

LEAST_SLOPE, LARGEST_SLOPE = 0.6, 1.4
"""Estimates follow the focus drive if their slope against theory lies between."""

# Probability that the slope lies between, above which it does, and below which it does
# not; and mean square of the residuals over the stated one, above which the estimates
# contradict each other (docs/decisions/0144-limits-of-the-check.md).
_LIKELY, _UNLIKELY, _CONTRADICTORY = 0.8, 0.05, 4.0
# With a smaller deviation of the slope it is not noise that leaves the check undecided.
_SHARP = 0.12
# Frames within this share of the range of positions were taken at the same one.
_SAME_PLACE = 0.1


class CheckVerdict(StrEnum):
    """What a step of the focus drive shows about the estimates."""

    FOLLOWS = "follows the stage"
    NOT_RELIABLE = "not reliable on this specimen"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class FocusCheck:
    """How estimates of single frames follow the focus drive.

    Parameters
    ----------
    verdict
        The outcome.
    reason
        Why, in words for the user.
    slope, slope_sigma
        Change of the estimates over the one that theory gives for the steps, and its
        standard deviation; NaN with fewer than two usable planes. 1 for right
        estimates, 0 for those that do not respond.
    coefficients
        (P,) γ at z = 0 that agrees with all planes, with the sign of the even modes for
        which the slope is positive.
    z_um
        (K,) positions of the planes, µm.
    estimates
        K estimates.
    """

    verdict: CheckVerdict
    reason: str
    slope: float
    slope_sigma: float
    coefficients: NDArray[np.float64]
    z_um: NDArray[np.float64]
    estimates: tuple[Estimate, ...]


@dataclass(frozen=True)
class _Lines:
    """Straight lines γ(z) = γ0 + slope·z·direction through N choices of equivalents.

    `misfit` (N,) is the sum of the weighted squared residuals of its line.
    """

    coefficients: NDArray[np.float64]
    slope: NDArray[np.float64]
    sigma: NDArray[np.float64]
    misfit: NDArray[np.float64]


def _lines(
    family: BlurFamily,
    estimates: Sequence[Estimate],
    z_um: NDArray[np.float64],
    direction: NDArray[np.float64],
) -> _Lines:
    """Fit a line for each choice of the planes' equivalents, the first one's fixed.

    By weighted linear least squares; the modes that do not follow the focus are the
    same in all planes.
    """
    elements = orbit(family, ResolvedBy.NEVER, ResolvedBy.IMAGE)
    p = len(direction)
    choices = np.array(
        [(0, *c) for c in product(range(len(elements)), repeat=len(z_um) - 1)]
    )
    normal = np.zeros((len(choices), p + 1, p + 1))
    right = np.zeros((len(choices), p + 1))
    square = np.zeros(len(choices))
    for plane, (estimate, z) in enumerate(zip(estimates, z_um, strict=True)):
        gamma = np.stack([e.apply(estimate.coefficients) for e in elements])
        weight = np.stack(
            [np.linalg.inv(e.covariance(estimate.covariance)) for e in elements]
        )
        design = np.column_stack([np.eye(p), z * direction])
        weighted = np.einsum("eij,ej->ei", weight, gamma)
        chosen = choices[:, plane]
        normal += (design.T @ weight @ design)[chosen]
        right += (weighted @ design)[chosen]
        square += np.einsum("ei,ei->e", weighted, gamma)[chosen]
    solution = np.linalg.solve(normal, right[..., None])[..., 0].astype(np.float64)
    misfit = np.maximum(square - np.einsum("ni,ni->n", right, solution), 0.0)
    variance = np.linalg.inv(normal)[:, -1, -1]
    start, slope = solution[:, :-1], solution[:, -1]
    # No image shows on which side of the focus it is, but the step does.
    for element in elements:
        if np.allclose(element.matrix @ direction, -direction):
            start = np.where((slope < 0)[:, None], element.apply(start), start)
            slope = np.abs(slope)
            break
    sigma: NDArray[np.float64] = np.sqrt(variance)
    return _Lines(start, slope, sigma, misfit)


def check_focus(
    family: BlurFamily,
    estimates: Sequence[Estimate],
    z_um: NDArray[np.float64],
    *,
    deeper: int = 1,
    steady: bool = True,
) -> FocusCheck:
    """Return whether estimates of single frames follow the focus drive.

    Parameters
    ----------
    family
        The blurs; its ``focus_direction`` is needed.
    estimates
        K estimates of one frame each, none of which has started from another.
    z_um
        (K,) positions of the frames, µm; the estimate at z = 0 is the one in question.
    deeper
        1 if larger positions focus deeper into the specimen, -1 if smaller ones do;
        gives the even modes of the result their sign.
    steady
        False if the frames show that more than the focus has changed during the check:
        then estimates that do not follow are not called unreliable.

    Raises
    ------
    ValueError
        The family cannot be swept.
    """
    direction = deeper * focus_direction(family)
    z_um = np.asarray(z_um, dtype=np.float64)
    usable = np.array([estimate.trusted for estimate in estimates])
    near = np.abs(z_um) < _SAME_PLACE * np.ptp(z_um)
    missing = _refusals(estimates, z_um)
    if not (usable & near).any() or not (usable & ~near).any():
        unknown = np.full(len(direction), np.nan)
        return FocusCheck(
            CheckVerdict.UNDECIDED,
            missing,
            np.nan,
            np.nan,
            unknown,
            z_um,
            tuple(estimates),
        )
    chosen = [estimate for estimate in estimates if estimate.trusted]
    lines = _lines(family, chosen, z_um[usable], direction)
    best = int(np.argmin(lines.misfit))
    freedom = max(1, len(chosen) * len(direction) - len(direction) - 1)
    scatter = max(1.0, float(lines.misfit[best]) / freedom)
    slope, sigma = float(lines.slope[best]), float(lines.sigma[best]) * scatter**0.5
    verdict, reason = _judge(
        _probability(lines, scatter), scatter, sigma, steady, missing
    )
    # In lengths, which a microscopist compares with the stage's.
    step = 1000 * float(np.diff(np.unique(z_um)).max())
    moved = (
        f"the stage moved by {step:.0f} nm, the estimates by {slope * step:.0f} ± "
        f"{sigma * step:.0f} nm"
    )
    reason = "; ".join(part for part in (moved, reason, missing) if part)
    return FocusCheck(
        verdict,
        reason,
        slope,
        sigma,
        lines.coefficients[best],
        z_um,
        tuple(estimates),
    )


def _judge(
    follow: float, scatter: float, sigma: float, steady: bool, missing: str
) -> tuple[CheckVerdict, str]:
    """Return the verdict, and what to add to the statement of the slope.

    From the probability that the estimates follow, their mean squared residual over the
    stated one, the slope's deviation, and which planes have no estimate.
    """
    contradictory = scatter > _CONTRADICTORY
    if contradictory or follow < _UNLIKELY:
        if not steady:
            return (
                CheckVerdict.UNDECIDED,
                "but the frames before and after the steps also differ: the focus or "
                "the specimen drifted during the check; repeat it",
            )
        said = (
            "the estimates contradict each other: they differ by "
            f"{scatter**0.5:.1f} times their stated errors"
        )
        return CheckVerdict.NOT_RELIABLE, said if contradictory else ""
    if follow > _LIKELY:
        return CheckVerdict.FOLLOWS, ""
    if missing:
        return CheckVerdict.UNDECIDED, "too few of the planes have an estimate"
    if sigma < _SHARP:
        return (
            CheckVerdict.UNDECIDED,
            "near the limit for following the stage; check the step and the "
            "profile's optics",
        )
    return (
        CheckVerdict.UNDECIDED,
        "too uncertain: take larger steps, or expose longer",
    )


def _probability(lines: _Lines, scatter: float) -> float:
    """Return the probability that the slope is that of estimates that follow.

    Each choice of equivalents has the weight of its likelihood, relative to the scatter
    of the estimates about the best line.
    """
    weight = np.exp(-(lines.misfit - lines.misfit.min()) / (2 * scatter))
    sigma = lines.sigma * scatter**0.5
    below, above = (
        ndtr((limit - lines.slope) / sigma) for limit in (LEAST_SLOPE, LARGEST_SLOPE)
    )
    return float(weight @ (above - below) / weight.sum())


def _refusals(estimates: Sequence[Estimate], z_um: NDArray[np.float64]) -> str:
    """Return which planes have no estimate, and why; empty if all have."""
    return "; ".join(
        f"no estimate at {1000 * z:+.0f} nm: {estimate.reason}"
        for estimate, z in zip(estimates, z_um, strict=True)
        if not estimate.trusted
    )
