"""Average run lengths of control charts, and the limits for a given run length.

Without a change the points are independent and standard normal. The average run length
(ARL) is the mean number of points until a chart that starts at zero signals. It solves
a Fredholm equation of the second kind, here by Nyström's method on Gauss–Legendre
nodes.

References
----------
D. Brook & D. A. Evans, *An approach to the probability distribution of CUSUM run
length*, Biometrika 59 (1972). S. E. Rigdon, *An integral equation for the in-control
average run length of a multivariate EWMA control chart*, J. Stat. Comput. Simul. 52
(1995).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["cusum_arl", "cusum_limit", "mewma_arl", "mewma_limit"]

# scipy.stats and scipy.optimize are imported where they are used: a worker, which does
# not need them, imports a fifth less (1 s of CPU).
_NODES = 120
_LONGEST = 1e10


@lru_cache(maxsize=4)
def _gauss_legendre(count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return nodes, weights


def _nodes(low: float, high: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Gauss–Legendre nodes and weights of [low, high]."""
    nodes, weights = _gauss_legendre(_NODES)
    half = (high - low) / 2
    return low + half * (nodes + 1), weights * half


def _one_sided(k: float, h: float, shift: float) -> float:
    from scipy.stats import norm

    x, weight = _nodes(0.0, h)
    # The first unknown is the chart at zero, which has a probability of its own.
    start = np.concatenate([[0.0], x])
    kernel = norm.pdf(x + k - shift - start[:, None]) * weight
    to_zero = norm.cdf(k - shift - start)
    system = np.eye(len(start)) - np.column_stack([to_zero, kernel])
    return float(np.linalg.solve(system, np.ones(len(start)))[0])


def cusum_arl(k: float, h: float, shift: float = 0.0) -> float:
    """Return the ARL of a two-sided CUSUM with reference value `k` and limit `h`.

    Parameters
    ----------
    shift
        Mean of the points, in standard deviations.
    """
    up, down = _one_sided(k, h, shift), _one_sided(k, h, -shift)
    return 1 / (1 / up + 1 / down)


def mewma_arl(p: int, weight: float, limit: float) -> float:
    """Return the in-control ARL of a multivariate EWMA chart.

    Parameters
    ----------
    p
        Number of variables.
    weight
        Weight of the newest point, λ.
    limit
        Limit of T² = zᵀz (2 - λ) / λ.
    """
    from scipy.stats import ncx2

    edge = math.sqrt(limit * weight / (2 - weight))
    # In the length of the average, not its square: there the density is smooth.
    r, width = _nodes(0.0, edge)
    start = np.concatenate([[0.0], r])
    # A non-central χ² of vanishing non-centrality is ill-posed for SciPy.
    centre = np.maximum(((1 - weight) / weight * start[:, None]) ** 2, 1e-9)
    kernel = ncx2.pdf((r / weight) ** 2, p, centre) * 2 * r / weight**2 * width
    lengths = np.linalg.solve(np.eye(len(r)) - kernel[1:], np.ones(len(r)))
    return float(1 + kernel[0] @ lengths)


def _solve(arl: Callable[[float], float], wanted: float, high: float) -> float:
    from scipy.optimize import brentq

    if not 2 <= wanted <= _LONGEST:
        raise ValueError(
            f"an average run length must lie between 2 and {_LONGEST:g} points; "
            f"got {wanted:g}"
        )

    def excess(limit: float) -> float:
        length = arl(limit)
        # The equation becomes singular for extremely long run lengths.
        return math.log(length / wanted) if 0 < length < math.inf else math.inf

    # Approached from below: far above the solution the equation is singular.
    while excess(high) < 0:
        high *= 1.5
    root: float = brentq(excess, 0.05, high, xtol=1e-4)
    return root


@lru_cache(maxsize=64)
def cusum_limit(k: float, arl: float) -> float:
    """Return the limit h of a two-sided CUSUM with an ARL of `arl` points.

    Raises
    ------
    ValueError
        `arl` is out of range.
    """
    return _solve(lambda h: cusum_arl(k, h), arl, 2 / k)


@lru_cache(maxsize=64)
def mewma_limit(p: int, weight: float, arl: float) -> float:
    """Return the limit of T² of a multivariate EWMA with an ARL of `arl` points.

    Raises
    ------
    ValueError
        `arl` is out of range.
    """
    return _solve(lambda limit: mewma_arl(p, weight, limit), arl, 4.0 + p)
