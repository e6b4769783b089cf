"""Measures how the shipped identification errs over time, and stores it.

Frames of held-out specimens stream through the real identification, with the live
running average and the real tracker's predictions, in four parts: still; noisier
(bleached); after a change of the optics; after a stage move. Stored are every error of
the still part, in order, because its scatter, outliers and correlation all matter, and
the mean error of the other parts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from evaluation.held_out import SIDE, blurred, held_out_pictures, scene
from evaluation.parallel import parallel
from training.pictures import DataError

from deepblur_live.blur import (
    BlurFamily,
    ErrorModel,
    Estimate,
    ResolvedBy,
    family_from_profile,
    nearest,
    orbit,
)
from deepblur_live.drift import Tracker
from deepblur_live.identification import Identifier
from deepblur_live.profile import Profile
from deepblur_live.runtime.executor import TorchExecutor
from deepblur_live.runtime.pack import find_packs, load_manifest, load_pack

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "AVERAGE_S",
    "BLEACHED",
    "ESTIMATE_S",
    "FILE_NAME",
    "LEAST_ANSWERED",
    "Part",
    "StaleMeasurementError",
    "Stream",
    "keep_streams",
    "load_streams",
    "measure",
]

SIGMAS = (0.005, 0.02)
FRAME_S, ESTIMATE_S, AVERAGE_S = 0.25, 1.0, 5.0
# Left out at the beginning of each part, until the average is of this part alone.
SETTLE_S, STILL_S, OTHER_S = 10, 50, 8
# A specimen of which not even this share of the first estimates is trusted is left
# there: it takes the longest, and there is no drift to follow on it.
_PROBE_S, _LEAST_PROBED = 12, 0.2
# A specimen that is identified less often than this has no drift to follow.
LEAST_ANSWERED = 0.3
CHANGE_WAVES = 0.072
BLEACHED = 2.0
# What a stored file must have been measured under. The version is raised by whoever
# changes what the estimates are like, in identification or tracker, or what is stored.
_MEASURED: dict[str, object] = {
    "version": 14,
    "side": SIDE,
    "sigmas": list(SIGMAS),
    "frame_s": FRAME_S,
    "estimate_s": ESTIMATE_S,
    "average_s": AVERAGE_S,
    "still_s": STILL_S,
}
FILE_NAME = "identification_error.json"
# Errors are stored as multiples of this, in waves.
_UNIT = 1e-4
_COMMAND = "python tools/simulate_drift.py --measure DATA"


class StaleMeasurementError(ValueError):
    """What is stored was measured otherwise; the text says what differs."""


class Part(NamedTuple):
    """One part of a stream: (P,) mean error, and (P,) the standard deviation stated."""

    error: NDArray[np.float64]
    stated: NDArray[np.float64]


@dataclass(frozen=True)
class Stream:
    """The errors of one specimen's estimates, in waves rms, symmetries removed.

    Parameters
    ----------
    specimen, sigma
        The picture, and its noise over its range.
    coefficients, change
        (P,) true γ, and the change of the optics applied, 0.072 waves rms.
    still
        (n, P) errors of the trusted still estimates, in order, one a second.
    stated
        (P,) root mean square of the standard deviations that the still estimates state.
    answered
        Share of the still estimates that were trusted.
    bleached, changed, moved
        The other parts; None where nothing was trusted.
    """

    specimen: str
    sigma: float
    coefficients: NDArray[np.float64]
    change: NDArray[np.float64]
    still: NDArray[np.float64]
    stated: NDArray[np.float64]
    answered: float
    bleached: Part | None
    changed: Part | None
    moved: Part | None


@dataclass(frozen=True)
class _Task:
    path: Path
    number: int
    sigma: float
    model: str
    errors: ErrorModel


class _Live:
    """Frames → estimates as live, on a simulated clock."""

    def __init__(self, task: _Task, family: BlurFamily, seed: int) -> None:
        pack, errors = load_pack(task.model), task.errors
        executor = TorchExecutor(pack, family, torch.device("cpu"))
        self._identifier = Identifier(
            family, errors, executor.identify, AVERAGE_S, specimen=pack.specimen
        )
        self._tracker = Tracker(family, errors, averaging_s=AVERAGE_S)
        self._noise = torch.Generator().manual_seed(seed)
        self._now = 0.0

    def run(self, image: torch.Tensor, sigma: float, keep_s: int) -> list[Estimate]:
        """Stream frames of an image; return the estimates of the last `keep_s`."""
        estimates: list[Estimate] = []
        for _ in range(round((SETTLE_S + keep_s) / ESTIMATE_S)):
            for _ in range(round(ESTIMATE_S / FRAME_S)):
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
            kept = estimates[SETTLE_S:]
            if len(kept) == _PROBE_S:
                if sum(e.trusted for e in kept) < _LEAST_PROBED * _PROBE_S:
                    break
        return estimates[SETTLE_S:]


def _measure_one(task: _Task) -> Stream:
    torch.set_num_threads(1)
    family = family_from_profile(Profile())
    equivalents = orbit(family, ResolvedBy.NEVER)
    rng = np.random.default_rng(task.number)
    generator = torch.Generator().manual_seed(7000 + task.number)
    gamma = family.search_points(1, generator)[0].double().numpy()
    change = rng.normal(size=family.n_coefficients)
    change *= CHANGE_WAVES / np.linalg.norm(change)
    side = SIDE + family.window - 1
    sharp = scene(task.path, side)
    # Another place of the same specimen: its mirror image, shifted by half.
    elsewhere = torch.roll(sharp.flip(1), side // 2, 0).clone()
    live = _Live(task, family, 9000 + task.number)

    def run(
        image: torch.Tensor, truth: NDArray[np.float64], sigma: float, keep_s: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Return errors (n, P), the stated deviation (P,), and the share trusted."""
        sample = blurred(image, family, torch.as_tensor(truth, dtype=torch.float32))
        found = live.run(sample, sigma, keep_s)
        trusted = [e for e in found if e.trusted]
        errors = [nearest(e.coefficients, truth, equivalents) - truth for e in trusted]
        variances = [np.diag(e.covariance) for e in trusted]
        stated = (
            np.sqrt(np.mean(variances, axis=0)) if trusted else np.zeros(len(truth))
        )
        return np.reshape(errors, (-1, len(truth))), stated, len(trusted) / len(found)

    still, stated, answered = run(sharp, gamma, task.sigma, STILL_S)
    parts: list[Part | None] = []
    for image, moved, sigma in (
        (sharp, 0.0, task.sigma * BLEACHED),
        (sharp, 1.0, task.sigma),
        (elsewhere, 0.0, task.sigma),
    ):
        part = None
        if answered >= _LEAST_PROBED:
            found, deviation, _ = run(image, gamma + moved * change, sigma, OTHER_S)
            part = Part(found.mean(0), deviation) if len(found) else None
        parts.append(part)
    name = task.path.name
    return Stream(name, task.sigma, gamma, change, still, stated, answered, *parts)


def measure(
    data: Path,
    model: str,
    split: str = "test",
    *,
    errors: ErrorModel | None = None,
    specimens: int = 10,
    jobs: int = 2,
) -> list[Stream]:
    """Measure a model on some photographs and as many micrographs of a split.

    `errors` is the error model that states its uncertainty, if not its own.
    """
    errors = errors or load_manifest(model)[1].error_model
    tasks = []
    for kind, paths in held_out_pictures(data, split).items():
        if not paths:
            raise DataError(f"{data}: no {kind} of the {split} split; both are needed")
        chosen = np.linspace(0, len(paths) - 1, specimens).round().astype(int)
        for picture in chosen:
            sigma = SIGMAS[len(tasks) % len(SIGMAS)]
            tasks.append(_Task(paths[picture], len(tasks), sigma, model, errors))
    return list(parallel(_measure_one, tasks, jobs, "streams"))


def _conditions(model: str) -> dict[str, object]:
    """Return the conditions that a measurement of the model as it is would state."""
    manifest = json.loads((find_packs()[model] / "manifest.json").read_text("utf-8"))
    # Everything that identification reads; deblurring comes after it.
    weights = {
        part["file"]: part["sha256"]
        for name, part in manifest.items()
        if isinstance(part, dict)
        and "sha256" in part
        and not name.startswith("deblurring")
    }
    return {**_MEASURED, "weights_sha256": weights}


def keep_streams(model: str, streams: Sequence[Stream]) -> Path:
    """Write the streams next to the model's manifest; return the file."""
    about = {
        "what": "error of the live estimates on held-out pictures, 1e-4 waves rms",
        "command": _COMMAND,
        **_conditions(model),
    }
    rows = ",\n".join(json.dumps(_packed(stream)) for stream in streams)
    header = json.dumps(about, indent=1)[:-2]
    path = find_packs()[model] / FILE_NAME
    path.write_text(f'{header},\n "streams": [\n{rows}\n]}}\n', "utf-8", newline="\n")
    return path


def load_streams(model: str) -> list[Stream]:
    """Return the streams measured for a model.

    Raises
    ------
    FileNotFoundError
        The model was not measured yet; the text says by which command.
    StaleMeasurementError
        It was, with other weights or otherwise.
    """
    path = find_packs()[model] / FILE_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not measured yet; run {_COMMAND}")
    stored = json.loads(path.read_text("utf-8"))
    conditions = _conditions(model)
    other = [key for key, value in conditions.items() if stored.get(key) != value]
    if other:
        raise StaleMeasurementError(
            f"{path}: measured under another {', '.join(other)}; run {_COMMAND}"
        )
    return [_unpacked(row) for row in stored["streams"]]


_VECTORS = ("coefficients", "change", "stated", "still")
_PARTS = ("bleached", "changed", "moved")
_PLAIN = ("specimen", "sigma", "answered")


def _integers(values: NDArray[np.float64]) -> list[object]:
    integers: list[object] = np.rint(values / _UNIT).astype(int).tolist()
    return integers


def _packed(stream: Stream) -> dict[str, object]:
    row: dict[str, object] = {name: getattr(stream, name) for name in _PLAIN}
    row["answered"] = round(stream.answered, 3)
    row |= {name: _integers(getattr(stream, name)) for name in _VECTORS}
    for name in _PARTS:
        part = getattr(stream, name)
        row[name] = None if part is None else _integers(np.stack(part))
    return row


def _unpacked(row: dict[str, Any]) -> Stream:
    values = {name: np.array(row[name], float) * _UNIT for name in _VECTORS}
    values["still"] = values["still"].reshape(-1, len(row["coefficients"]))
    parts = {
        name: None if row[name] is None else Part(*np.array(row[name], float) * _UNIT)
        for name in _PARTS
    }
    return Stream(**{name: row[name] for name in _PLAIN}, **values, **parts)
