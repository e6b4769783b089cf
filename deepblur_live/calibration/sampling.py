"""Well-spread blurs of a convex set: MaxiSumMin, by projected subgradient ascent.

It maximises the sum over L points of the distance of each to its nearest neighbour,
over points of the admissible set: training sets and libraries then have no gaps, and
reach the border. Half of a set should be drawn from the prior nevertheless:
docs/decisions/0187-sampling.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur import AdmissibleSet

__all__ = [
    "mean_nearest",
    "nearest_neighbours",
    "single_pass",
    "spread_and_prior",
    "sweeps",
]

# Numbers of a block of distances: 64 MB in float32.
_BLOCK = 16_000_000
# Step of a sweep over the mean distance of neighbours.
_SWEEP_STEP = 0.5
# Single pass: steps of each point and their size over its distance from its nearest
# neighbour; the new points that move at a time, over those placed, and at most.
_PASS_STEPS, _PASS_STEP = 8, 0.7
_TOGETHER, _MOST_TOGETHER = 0.02, 256


def nearest_neighbours(
    points: NDArray[np.float64], others: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return index (n,) and distance (n,) of the nearest of `others` to each point.

    By brute force, exact up to rounding in float32: squares |x|² - 2 x·y + |y|² in
    blocks that fit into memory, then the distance of the nearest. No index structure
    is faster beyond about ten dimensions.

    Parameters
    ----------
    points, others
        (n, P) and (m, P). Without `others` the nearest other one of the points.
    """
    own = others is None
    # About the mean, so that the squares lose no digits.
    centre = points.mean(0)
    rows = (points - centre).astype(np.float32)
    columns = rows if others is None else (others - centre).astype(np.float32)
    squares = np.square(columns).sum(1)
    index = np.empty(len(rows), dtype=np.intp)
    block = max(1, _BLOCK // len(columns))
    for begin in range(0, len(rows), block):
        part = rows[begin : begin + block]
        distances = part @ columns.T
        distances *= -2
        distances += squares
        if own:
            place = np.arange(len(part))
            distances[place, begin + place] = np.inf
        index[begin : begin + block] = distances.argmin(1)
    reference = points if others is None else others
    return index, np.sqrt(np.square(points - reference[index]).sum(1))


def mean_nearest(points: NDArray[np.float64]) -> float:
    """Return MaxiSumMin's objective over the number of points (L, P), L ≥ 2."""
    return float(nearest_neighbours(points)[1].mean())


def sweeps(
    points: NDArray[np.float64], admissible: AdmissibleSet, count: int = 60
) -> NDArray[np.float64]:
    """Return points (L, P) after sweeps of projected subgradient ascent; the best.

    With u_l the unit vector from its nearest neighbour to point l, the subgradient of
    the objective is g_l = u_l - Σ u_m over the points m of which l is the nearest.

    Parameters
    ----------
    points
        (L, P) to begin with, in the set; L ≥ 2.
    admissible
        The set.
    count
        Number of sweeps.
    """
    now = best = np.array(points, dtype=np.float64)
    largest = 0.0
    for sweep in range(count + 1):
        index, distance = nearest_neighbours(now)
        mean = float(distance.mean())
        if mean > largest:
            largest, best = mean, now
        if sweep == count:
            break
        away = (now - now[index]) / np.maximum(distance, 1e-12)[:, None]
        ascent = away.copy()
        np.subtract.at(ascent, index, away)
        step = _SWEEP_STEP * mean / np.sqrt(1 + sweep / 4)
        now = admissible.project(now + step * ascent)
    return best


def single_pass(
    points: NDArray[np.float64], admissible: AdmissibleSet
) -> NDArray[np.float64]:
    """Return points (L, P) of which each has moved away from those before it.

    A point climbs away from its nearest neighbour among those placed, and then stays.
    A few points at a time do, which also keep away from each other. The end of the set
    is as well spread as its beginning: it can be extended.

    Parameters
    ----------
    points
        (L, P) to begin with, in the set.
    admissible
        The set.
    """
    placed = np.array(points, dtype=np.float64)
    begin = 1
    while begin < len(placed):
        end = begin + int(min(_MOST_TOGETHER, max(1, _TOGETHER * begin)))
        end = min(end, len(placed))
        placed[begin:end] = _climbed(placed[begin:end], placed[:begin], admissible)
        begin = end
    return placed


def _climbed(
    new: NDArray[np.float64], placed: NDArray[np.float64], admissible: AdmissibleSet
) -> NDArray[np.float64]:
    """Return new points (n, P), each where it was farthest from its nearest one."""
    best, farthest = new, np.full(len(new), -1.0)
    for step in range(_PASS_STEPS + 1):
        index, distance = nearest_neighbours(new, placed)
        neighbour = placed[index]
        if len(new) > 1:
            among, nearer = nearest_neighbours(new)
            closer = nearer < distance
            neighbour[closer] = new[among[closer]]
            distance = np.minimum(distance, nearer)
        better = distance > farthest
        best = np.where(better[:, None], new, best)
        farthest = np.where(better, distance, farthest)
        if step < _PASS_STEPS:
            new = admissible.project(
                new + _PASS_STEP / (1 + step / 2) * (new - neighbour)
            )
    return best


def spread_and_prior(
    draws: NDArray[np.float64], admissible: AdmissibleSet, count: int = 20
) -> NDArray[np.float64]:
    """Return points (L, P): one half the draws of a prior, one half well spread.

    The second half of the draws is spread by `sweeps`. Then both halves are mixed in
    turn, so that any part of the set has both.
    """
    half = len(draws) // 2
    spread = sweeps(draws[half:], admissible, count)
    points = np.empty_like(draws, dtype=np.float64)
    points[: 2 * half : 2] = draws[:half]
    points[1 : 2 * half : 2] = spread[:half]
    points[2 * half :] = spread[half:]
    return points
