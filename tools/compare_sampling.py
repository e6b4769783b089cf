"""Compare ways to sample a convex set of blurs: how even, how fast, what it is worth.

    python tools/compare_sampling.py --out sampling.md

Writes two tables (docs/decisions/0187-sampling.md): the mean distance of points to
their nearest neighbour, by set and method; and how well a library of blurs drawn in
each way matches blurs inside the range and near its corners.
"""

from __future__ import annotations

import argparse
import resource
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from evaluation.table import markdown
from scipy.special import ndtri
from scipy.stats import qmc

from deepblur_live.blur import Box
from deepblur_live.blur.convex import Ellipsoid, Hull
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.calibration.sampling import (
    mean_nearest,
    nearest_neighbours,
    single_pass,
    sweeps,
)
from deepblur_live.optics import psf_snr

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from deepblur_live.blur import AdmissibleSet

    Points = NDArray[np.float64]

# Points of the farthest-point method to choose from, over those chosen.
_POOL = 8
# Sets of the first table: kind, dimension, vertices of a hull, sweeps.
_SETS = (
    ("box", 7, 0, 60),
    ("box", 16, 0, 60),
    ("box", 100, 0, 60),
    ("ellipsoid", 16, 0, 60),
    ("ellipsoid", 100, 0, 60),
    ("hull", 16, 100, 10),
)
_VERTICES_SEED, _TEST_SEED = 7, 99
# Test blurs near the corners: each coefficient over the end of its range.
_NEAR_CORNERS = (0.85, 1.0)


def the_set(kind: str, size: int, vertices: int) -> AdmissibleSet:
    """Return the cube [-1, 1], a ball of radius √P, or a hull of normal vertices."""
    if kind == "box":
        return Box(np.zeros(size), np.ones(size))
    if kind == "ellipsoid":
        return Ellipsoid(np.zeros(size), np.eye(size), size**0.5)
    rng = np.random.default_rng(_VERTICES_SEED)
    return Hull(rng.normal(size=(vertices, size)), tolerance=1e-2)


def mapped(
    kind: str, unit: Points, normal: Points, admissible: AdmissibleSet
) -> Points:
    """Return points of a set from even ones: (n, P + 1) in [0, 1] and their normals.

    A hull's are means of its vertices with even weights, which are not even points.
    """
    if kind == "box":
        return 2 * unit[:, :-1] - 1
    if kind == "ellipsoid":
        size = unit.shape[1] - 1
        direction = normal[:, :-1]
        direction = direction / np.linalg.norm(direction, axis=1, keepdims=True)
        return direction * size**0.5 * unit[:, -1:] ** (1 / size)
    assert isinstance(admissible, Hull)
    weights = -np.log(unit[:, : len(admissible.vertices)].clip(1e-9, 1))
    return weights / weights.sum(1, keepdims=True) @ admissible.vertices


def uniform(
    kind: str, admissible: AdmissibleSet, size: int, n: int, seed: int
) -> Points:
    """Draw (n, P) points of a set at random."""
    rng = np.random.default_rng(seed)
    shape = (n, _columns(size, admissible))
    return mapped(kind, rng.uniform(size=shape), rng.normal(size=shape), admissible)


def sobol(kind: str, admissible: AdmissibleSet, size: int, n: int) -> Points:
    """Return (n, P) points of a set from a scrambled Sobol' sequence."""
    columns = _columns(size, admissible)
    unit = qmc.Sobol(columns, seed=0).random_base2((n - 1).bit_length())[:n]
    return mapped(kind, unit, ndtri(unit.clip(1e-6, 1 - 1e-6)), admissible)


def _columns(size: int, admissible: AdmissibleSet) -> int:
    count = len(admissible.vertices) if isinstance(admissible, Hull) else 0
    return max(size + 1, count)


def farthest(pool: Points, n: int) -> Points:
    """Return n points of a pool, each the farthest from those chosen before."""
    rows = pool.astype(np.float32)
    squares = np.square(rows).sum(1)
    nearest = np.full(len(rows), np.inf, np.float32)
    chosen, last = np.empty(n, dtype=np.intp), 0
    for place in range(n):
        chosen[place] = last
        distance = squares - 2 * (rows @ rows[last]) + squares[last]
        np.minimum(nearest, distance, out=nearest)
        last = int(nearest.argmax())
    return pool[chosen]


def compared(kinds: list[str], n: int, quick: bool) -> list[list[str]]:
    """Return the rows of the first table."""
    rows = []
    chosen = [one for one in _SETS if one[0] in kinds]
    for kind, size, vertices, count in chosen[:1] if quick else chosen:
        admissible = the_set(kind, size, vertices)
        draw = partial(uniform, kind, admissible, size)
        start, test = draw(n, 0), draw(4000, _TEST_SEED)
        count = 2 if quick else count
        methods: dict[str, Callable[[], Points]] = {
            "uniform": partial(draw, n, 1),
            "Sobol'": partial(sobol, kind, admissible, size, n),
            f"farthest of {_POOL} L": lambda d=draw: farthest(d(_POOL * n, 2), n),
            "single pass": partial(single_pass, start, admissible),
            f"{count} sweeps": partial(sweeps, start, admissible, count),
        }
        for name, method in methods.items():
            begin = time.process_time()
            points = method()
            seconds = time.process_time() - begin
            test_distance = nearest_neighbours(test, points)[1].mean()
            label = f"{kind}, P {size}" + (f", {vertices} states" if vertices else "")
            row = [
                label,
                name,
                f"{mean_nearest(points):.2f}",
                f"{test_distance:.2f}",
                f"{seconds:.1f}",
            ]
            print(*row, f"peak {_peak_mb():.0f} MB", flush=True)
            rows.append(row)
    return rows


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def matches(n: int, quick: bool) -> list[list[str]]:
    """Return the rows of the second table: a library's best PSF for a test blur, dB."""
    family = ZernikeFamily()
    half = np.array(family.half_ranges)
    box, size = Box(np.zeros(len(half)), half), len(half)
    rng = np.random.default_rng(0)
    start = rng.uniform(-half, half, (n, size))
    count = 2 if quick else 60
    spread = sweeps(start, box, count)
    libraries = {
        "uniform": start,
        "single pass": single_pass(start, box),
        f"{count} sweeps": spread,
        "half sweeps, half uniform": np.concatenate(
            [start[: n // 2], sweeps(start[n // 2 :], box, count)]
        ),
    }
    inside = rng.uniform(-half, half, (100, size))
    # Not at the very corners, where a library may have points.
    corners = half * rng.choice([-1.0, 1.0], (100, size))
    corners *= rng.uniform(*_NEAR_CORNERS, (100, size))
    rows = []
    for name, library in libraries.items():
        found = [f"{_match(family, library, test):.1f}" for test in (inside, corners)]
        print(name, *found, flush=True)
        rows.append([name, *found])
    return rows


def _match(family: ZernikeFamily, library: Points, test: Points) -> float:
    """Return the median over test blurs of the PSF SNR of the library's best, dB."""
    coarse = family.coarse()
    truth = coarse.psf(torch.from_numpy(test).float())
    best = torch.full((len(test),), -torch.inf)
    for part in torch.from_numpy(library).float().split(200):
        psfs = coarse.psf(part)
        snr = psf_snr(psfs[:, None], truth[None])
        best = torch.maximum(best, snr.amax(0))
    return float(best.median())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="Markdown file")
    parser.add_argument("--points", type=int, default=10_000, help="points L")
    known = sorted({one[0] for one in _SETS})
    parser.add_argument("--kinds", nargs="*", choices=known, default=known)
    parser.add_argument("--quick", action="store_true", help="one set, two sweeps")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sets = compared(options.kinds, options.points, options.quick)
    head = ["set", "method", "mean NN distance", "uniform test point", "CPU s"]
    text = markdown(head, sets) + f"\nPeak memory {_peak_mb():.0f} MB.\n\n"
    head = ["library", "uniform test blurs, dB", "near corners, dB"]
    text += markdown(head, matches(options.points, options.quick)) + "\n"
    options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
