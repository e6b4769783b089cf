"""Measure how the shipped identification errs over time: what drift is simulated from.

Frames of held-out specimens stream through the real identification, with the live
running average and the real tracker's predictions, in four parts: still; noisier
(bleached); after a change of the optics; after a stage move. Kept are the whole error
of each still estimate in order, for its scatter, hops and memory all count, and the
mean error of the other parts.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from error_streams import Part, Stream
from held_out import held_out_pictures, scene
from training_data import DataError

from deepblur_live.drift import Tracker, nearest_twin, twin_signs
from deepblur_live.identification import Identifier
from deepblur_live.optics import Convolution, Estimate, ZernikeFamily
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.pack import load_pack

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["MEASURED", "measure"]

SIDE = 512
SIGMAS = (0.005, 0.02)
FRAME_S, ESTIMATE_S, AVERAGE_S = 0.25, 1.0, 5.0
# Left out at the beginning of each part: the average still fills, or holds the last.
SETTLE_S, STILL_S, OTHER_S = 10, 50, 8
# A specimen of which not even this share of the first estimates is answered is left
# there: it takes the longest, and there is no drift to follow on it.
PROBE_S, LEAST_ANSWERED = 12, 0.2
CHANGE_WAVES = 0.072
BLEACHED = 2.0
# What a kept file must have been measured under. The version is raised by whoever
# changes what the estimates are like, in identification or tracker, or what is kept.
MEASURED: dict[str, object] = {
    "version": 13,
    "side": SIDE,
    "sigmas": list(SIGMAS),
    "frame_s": FRAME_S,
    "estimate_s": ESTIMATE_S,
    "average_s": AVERAGE_S,
    "still_s": STILL_S,
}


@dataclass(frozen=True)
class _Task:
    path: Path
    number: int
    sigma: float
    model: str


def _blur(
    sharp: torch.Tensor, family: ZernikeFamily, gamma: NDArray[np.float64]
) -> torch.Tensor:
    psf = family.psf(torch.as_tensor(gamma, dtype=torch.float32))
    whole = Convolution(psf, (sharp.shape[0], sharp.shape[1])).forward(sharp)
    cut = (family.window - 1) // 2
    return whole[cut:-cut, cut:-cut]


class _Live:
    """The live way from frames to estimates, on a clock of its own."""

    def __init__(self, model: str, family: ZernikeFamily, seed: int) -> None:
        pack = load_pack(model)
        executor = TorchExecutor(pack, family, torch.device("cpu"))
        self._identifier = Identifier(
            family, executor.identify, AVERAGE_S, specimen=pack.specimen
        )
        self._tracker = Tracker(family, averaging_s=AVERAGE_S)
        self._noise = torch.Generator().manual_seed(seed)
        self._now = 0.0

    def run(self, image: torch.Tensor, sigma: float, keep_s: int) -> list[Estimate]:
        """Stream frames of an image; return the estimates of the last `keep_s`."""
        frames = round(ESTIMATE_S / FRAME_S)
        estimates = []
        for _ in range(round((SETTLE_S + keep_s) / ESTIMATE_S)):
            for _ in range(frames):
                noise = torch.randn(image.shape, generator=self._noise)
                frame = image + sigma * noise
                self._identifier.observe(frame, self._now)
                self._now += FRAME_S
            predicted = self._tracker.predict(self._now)
            estimate = self._identifier.estimate(
                frame, None if predicted is None else predicted.coefficients
            )
            self._tracker.update(self._now, estimate)
            estimates.append(estimate)
            if len(estimates) == SETTLE_S + PROBE_S and _silent(estimates[SETTLE_S:]):
                break
        return estimates[SETTLE_S:]


def _silent(estimates: list[Estimate]) -> bool:
    answered = sum(estimate.trusted for estimate in estimates)
    return answered < LEAST_ANSWERED * len(estimates)


def _work(task: _Task) -> Stream:
    torch.set_num_threads(1)
    family = ZernikeFamily()
    signs = twin_signs(family)
    rng = np.random.default_rng(task.number)
    generator = torch.Generator().manual_seed(7000 + task.number)
    gamma = family.sample_rms(1, generator)[0].double().numpy()
    change = rng.normal(size=family.n_coefficients)
    change *= CHANGE_WAVES / np.linalg.norm(change)
    side = SIDE + family.window - 1
    sharp = scene(task.path, side)
    # Another place of the same specimen: its mirror image, shifted by half.
    elsewhere = torch.roll(sharp.flip(1), side // 2, 0).clone()
    live = _Live(task.model, family, 9000 + task.number)

    def errors(
        image: torch.Tensor, truth: NDArray[np.float64], sigma: float, keep_s: int
    ) -> tuple[list[Estimate], NDArray[np.float64], float]:
        found = live.run(_blur(image, family, truth), sigma, keep_s)
        trusted = [e for e in found if e.trusted]
        nearest = [nearest_twin(signs, e.coefficients, truth) for e in trusted]
        error = np.array(nearest).reshape(-1, len(truth)) - truth
        return trusted, error, len(trusted) / len(found)

    trusted, still, answered = errors(sharp, gamma, task.sigma, STILL_S)
    parts: list[Part | None] = []
    for image, moved, sigma in (
        (sharp, 0.0, task.sigma * BLEACHED),
        (sharp, 1.0, task.sigma),
        (elsewhere, 0.0, task.sigma),
    ):
        if answered < LEAST_ANSWERED:
            parts.append(None)
            continue
        found, part, _ = errors(image, gamma + moved * change, sigma, OTHER_S)
        parts.append(Part(part.mean(0), _stated(found)) if found else None)
    return Stream(
        task.path.name,
        task.sigma,
        gamma,
        change,
        still,
        _stated(trusted) if trusted else np.zeros(len(gamma)),
        answered,
        *parts,
    )


def _stated(estimates: list[Estimate]) -> NDArray[np.float64]:
    """Return (P,) the root of the mean stated variance."""
    variances = [np.diag(estimate.covariance) for estimate in estimates]
    deviation: NDArray[np.float64] = np.sqrt(np.mean(variances, axis=0))
    return deviation


def measure(
    data: Path, model: str, split: str = "test", *, specimens: int = 10, jobs: int = 2
) -> list[Stream]:
    """Measure a model on so many photographs and micrographs of a split."""
    tasks = []
    for kind, paths in held_out_pictures(data, split).items():
        if not paths:
            raise DataError(f"{data}: no {kind} of the {split} split, both kinds count")
        chosen = np.linspace(0, len(paths) - 1, specimens).round().astype(int)
        for picture in chosen:
            sigma = SIGMAS[len(tasks) % len(SIGMAS)]
            tasks.append(_Task(paths[picture], len(tasks), sigma, model))
    spawn = multiprocessing.get_context("spawn")
    streams = []
    with ProcessPoolExecutor(jobs, spawn) as pool:
        for stream in pool.map(_work, tasks):
            streams.append(stream)
            print(f"\r{len(streams)} of {len(tasks)} streams", end="", flush=True)
    print()
    return streams
