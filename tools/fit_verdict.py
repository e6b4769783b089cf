"""Fit what an answer must be like to be believed: the weights in `verdict.py`.

python tools/fit_verdict.py --data FOLDER [--pictures 108]

Pictures of the training and validation splits, blurred within the family's range (one
in four beyond it), noisy, and frames that cannot tell, are identified as shipped,
whatever the verdict. A logistic regression then says how misfit, stated error and
distance from the range tell right answers from wrong ones.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from evaluation.case import Case, Spec
from evaluation.troubles import TROUBLES
from held_out import SIDE, blurred, held_out_pictures, scene
from scipy.optimize import minimize
from training_data import told_in_one_line

from deepblur_live.identification.verdict import features
from deepblur_live.optics import psf_snr
from deepblur_live.runtime.calibration import scale

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.identification import Identifier

# Noise, and frames that are averaged.
CONDITIONS = ((0.001, 1), (0.01, 1), (0.03, 1), (0.05, 1), (0.01, 30), (0.05, 30))
TROUBLED = (0.001, 0.01)
KINDS = ("moved by 15 pixels", "±0.45 waves", "equal beads", "periodic")
# One picture in so many is blurred beyond the range, by this.
WIDE_EVERY, WIDE = 4, 1.4
# PSF SNR in dB of a right answer and of a wrong one; those between are left out.
RIGHT, WRONG = 8.0, 5.5
# Frames that cannot tell count for so much of the others.
TROUBLE_SHARE = 0.3
# Where the regression is held back: one over a weight's standard deviation, squared.
RIDGE = 1.0


@dataclass(frozen=True)
class _Task:
    spec: Spec
    frames: int
    trouble: str
    wide: bool
    model: str


@dataclass(frozen=True)
class Answer:
    """One fit: features (3,), its PSF SNR in dB, and whether the frame cannot tell."""

    features: tuple[float, float, float]
    snr: float
    troubled: bool


def _work(task: _Task) -> Answer | None:
    torch.set_num_threads(1)
    case = Case(task.spec, task.model)
    family, sigma = case.family, task.spec.sigma
    identifier = case.identifier(average_s=1e6)
    if task.trouble:
        trouble = TROUBLES[task.trouble](case)
        psf, image = trouble.psf, scale(trouble.pixels).image
        identifier.observe(image, 0.0)
    else:
        psf = family.psf((WIDE if task.wide else 1) * case.frame.coefficients)
        clean = blurred(scene(task.spec.path, SIDE + family.window - 1), psf)
        image = _observed(identifier, clean, sigma, task)
    answer = identifier.answer(identifier.ask(image))
    found = answer.estimate
    if not math.isfinite(found.quality):
        return None
    told = (found.quality, *features(family, found.coefficients, found.covariance))
    snr = -math.inf
    if psf is not None:
        both = family.psf(torch.as_tensor(found.coefficients).float())
        snr = float(max(psf_snr(h, psf) for h in (both, both.flip((0, 1)))))
    return Answer(told, snr, bool(task.trouble))


def _observed(
    identifier: Identifier, clean: torch.Tensor, sigma: float, task: _Task
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(task.spec.number)
    image = clean
    for k in range(task.frames):
        image = clean + sigma * torch.randn(clean.shape, generator=generator)
        identifier.observe(image, 0.1 * k)
    return image


def tasks(data: Path, model: str, pictures: int) -> list[_Task]:
    """Return the frames to identify: so many training pictures, all of validation."""
    chosen: list[tuple[str, Path]] = []
    for split, most in (("validation", None), ("train", pictures)):
        for kind, paths in held_out_pictures(data, split).items():
            share = {"photographs": 2 / 3, "micrographs": 1 / 3}[kind]
            count = len(paths) if most is None else min(len(paths), round(most * share))
            places = np.arange(count) * len(paths) // max(count, 1)
            chosen += [(kind, paths[place]) for place in places]
    made = [
        _Task(
            Spec(path, kind, number, sigma),
            frames,
            "",
            number % WIDE_EVERY == 0,
            model,
        )
        for number, (kind, path) in enumerate(chosen)
        for sigma, frames in CONDITIONS
    ]
    for trouble in KINDS:
        for number in range(16):
            kind, path = chosen[number * len(chosen) // 16]
            made += [
                _Task(Spec(path, kind, number, sigma), 1, trouble, False, model)
                for sigma in TROUBLED
            ]
    return made


def regression(
    told: NDArray[np.float64],
    right: NDArray[np.bool_],
    weight: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the constant and the weights (1 + F,) of the log-odds of being right.

    Parameters
    ----------
    told, right, weight
        (N, F) features, (N,), and how much each counts, (N,).
    """
    mean, spread = told.mean(0), told.std(0)
    columns = np.column_stack([np.ones(len(told)), (told - mean) / spread])

    def loss(b: NDArray[np.float64]) -> float:
        odds = columns @ b
        each = np.logaddexp(0, odds) - right * odds
        return float((weight * each).sum() + RIDGE / 2 * (b[1:] ** 2).sum())

    b = minimize(loss, np.zeros(columns.shape[1])).x
    weights = b[1:] / spread
    return np.concatenate([[b[0] - weights @ mean], weights])


@told_in_one_line()
def main() -> None:
    """Identify, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="zernike7")
    parser.add_argument("--pictures", type=int, default=108, help="for training")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    todo = tasks(options.data, options.model, options.pictures)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, spawn) as pool:
        found = [a for a in pool.map(_work, todo, chunksize=8) if a is not None]
    clear = [a for a in found if a.snr > RIGHT or a.snr < WRONG]
    told = np.array([a.features for a in clear])
    right = np.array([a.snr > RIGHT for a in clear])
    troubled = np.array([a.troubled for a in clear])
    share = TROUBLE_SHARE * (~troubled).sum() / max(troubled.sum(), 1)
    constant, *weights = regression(told, right, np.where(troubled, share, 1.0))
    print(f"{len(clear)} fits, {right.sum()} right")
    print(f"log-odds: {constant:.2f}")
    for name, weight in zip(("misfit", "log error", "beyond"), weights, strict=True):
        print(f"  {weight:+.2f} × {name}")
    believed = constant + told @ np.array(weights) > 0
    print(f"right and believed {np.mean(believed[right]):.0%}")
    print(f"wrong and believed {np.mean(believed[~right]):.0%}")


if __name__ == "__main__":
    main()
