"""Fit the constants by which a model's uncertainty is stated, and write them.

python tools/fit_error_model.py --data FOLDER [--quick] [--write]

They are the manifest's ``error_model``, fitted on pictures of the training and
validation splits. Three fits follow one another:

1. Size and tails of the errors of single estimates: ``curvature``, ``competing``,
   ``floor`` and ``tail_dof``, by maximum likelihood of Student's t.
2. The verdict's log-odds that an estimate is right: ``intercept``, ``misfit``,
   ``error`` and ``beyond``, by logistic regression; and ``poor_misfit``, a quantile.
   Frames under the conditions of the realism table (validation pictures) and the planes
   of the real stacks count, too.
3. What estimates of one specimen have in common, over time: ``systematic``,
   ``fluctuating`` and ``light_creep``, from streams of frames.

The other constants of `ErrorModel` were chosen, not fitted: see docs/decisions.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from evaluation.case import Case, Spec
from evaluation.effects import MARGIN
from evaluation.held_out import SIDE, blurred, held_out_pictures, scene
from evaluation.parallel import parallel
from evaluation.realism import CONDITIONS as REALISM
from evaluation.realism import expose
from evaluation.realism_scores import aligned_snr, cropped
from evaluation.stacks import STACKS, TOLERANCE
from evaluation.table import markdown
from evaluation.troubles import TROUBLES
from scipy.optimize import minimize, minimize_scalar
from scipy.stats import t as student
from simulation.error_streams import BLEACHED, LEAST_ANSWERED, Stream, measure
from training.pictures import DataError, one_line_errors

from deepblur_live.blur import BlurFamily, ErrorModel, nearest, orbit
from deepblur_live.identification.verdict import features
from deepblur_live.optics import psf_snr
from deepblur_live.profile import Model, Profile
from deepblur_live.runtime.build import build_pipeline
from deepblur_live.runtime.calibration import BadFrame
from deepblur_live.runtime.calibration import scale as scaled
from deepblur_live.runtime.pack import find_packs, load_pack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from deepblur_live.identification import Fit

# Noise, and frames that are averaged.
CONDITIONS = ((0.001, 1), (0.01, 1), (0.03, 1), (0.05, 1), (0.01, 30), (0.05, 30))
PARTS = ("errors", "verdict", "streams")
TROUBLED_SIGMAS = (0.001, 0.01)
TROUBLED_KINDS = ("moved by 15 pixels", "±0.45 waves", "equal beads", "periodic")
TROUBLED_PICTURES = 16
# Every fourth picture is blurred beyond the range, by this factor.
WIDE_EVERY, WIDE = 4, 1.4
# PSF SNR in dB of a right estimate and of a wrong one; those between are left out.
RIGHT, WRONG = 8.0, 5.5
# Troubled frames together weigh so much, over the others.
TROUBLE_SHARE = 0.3
# Ridge of the regression: one over the squared deviation of a standardised weight.
RIDGE = 1.0
# The fitted intercept is lowered by this: of the fits that are wrong far fewer are then
# trusted, for a few more right ones refused.
CAUTION = 1.2
# So many of a stream's still estimates represent all, whatever their number.
SPREAD = 50


@dataclass(frozen=True)
class Task:
    """One frame, or average of frames, to identify."""

    spec: Spec
    frames: int
    trouble: str
    wide: bool
    model: str


@dataclass(frozen=True)
class Fitted:
    """One fit, whatever the verdict on it.

    Parameters
    ----------
    coefficients, error
        (P,) the estimate, and its difference from the nearest of all equivalents of the
        truth; None where there is no true γ.
    fit
        Its parts.
    snr
        PSF SNR in dB.
    troubled
        Whether the frame is one from which the blur is not identifiable.
    """

    coefficients: NDArray[np.float64]
    error: NDArray[np.float64] | None
    fit: Fit
    snr: float
    troubled: bool


def identify(task: Task) -> Fitted | None:
    """Identify one frame or average; None when there was nothing to fit."""
    torch.set_num_threads(1)
    case = Case(task.spec, task.model)
    family, sigma = case.family, task.spec.sigma
    identifier = case.identifier(average_s=1e6)
    truth = error = None
    if task.trouble:
        trouble = TROUBLES[task.trouble](case)
        psf, image = trouble.psf, scaled(trouble.pixels, cutoff=family.cutoff).image
        identifier.observe(image, 0.0)
    else:
        truth = (WIDE if task.wide else 1.0) * case.frame.coefficients
        psf = family.psf(truth)
        sharp = scene(task.spec.path, SIDE + family.window - 1)
        clean = blurred(sharp, family, truth)
        generator = torch.Generator().manual_seed(task.spec.number)
        for k in range(task.frames):
            image = clean + sigma * torch.randn(clean.shape, generator=generator)
            identifier.observe(image, 0.1 * k)
    solution = identifier.solve(identifier.prepare(image))
    found, fit = solution.estimate, solution.fit
    if fit is None or not math.isfinite(found.quality):
        return None
    snr = -math.inf
    if psf is not None:
        h = family.psf(torch.as_tensor(found.coefficients).float())
        snr = float(max(psf_snr(h, psf), psf_snr(h.flip((0, 1)), psf)))
    if truth is not None:
        exact, equivalents = truth.double().numpy(), orbit(family)
        error = found.coefficients - nearest(exact, found.coefficients, equivalents)
    return Fitted(found.coefficients, error, fit, snr, bool(task.trouble))


@dataclass(frozen=True)
class RealTask:
    """One frame under a condition of the realism table, or one plane of a real stack.

    Parameters
    ----------
    source
        The condition, or the name of the stack.
    path
        The picture; the data folder of a stack.
    number
        Seed of blur and noise; the plane of a stack.
    model
        Name or folder of the model.
    """

    source: str
    path: Path
    number: int
    model: str


def identify_real(task: RealTask) -> Fitted | None:
    """Identify one realistic or real frame; None when there was nothing to fit."""
    torch.set_num_threads(1)
    stack = STACKS.get(task.source)
    if stack is None:
        rig = Profile(model=Model(name=task.model, device="cpu", threads=1))
        sharp = scene(task.path, SIDE + 2 * MARGIN).double().numpy()
        frame = expose(REALISM[task.source], sharp, task.number)
        pixels: NDArray[np.generic] = frame.pixels
    else:
        rig = stack.profile(task.model, bead_size=False)
        planes = stack.read(task.path)
        pixels = planes[task.number]
    pipeline = build_pipeline(rig, asynchronous=False)
    try:
        image = scaled(pixels, cutoff=pipeline.family.cutoff).image
        identifier = pipeline.identifier
        identifier.observe(image, 0.0)
        solution = identifier.solve(identifier.prepare(image))
    except BadFrame:
        return None
    finally:
        pipeline.close()
    found, fit = solution.estimate, solution.fit
    if fit is None or not math.isfinite(found.quality):
        return None
    family = pipeline.family
    if stack is None:
        psf = family.psf(torch.as_tensor(found.coefficients)).double().numpy()
        snr, _ = aligned_snr(psf, cropped(frame.psf, len(psf)))
    else:
        stage = stack.theory.waves_per_um * abs(stack.z_um(len(planes))[task.number])
        defocus = abs(found.coefficients[family.names.index("defocus")])
        snr = math.inf if abs(defocus - stage) <= TOLERANCE else -math.inf
    return Fitted(found.coefficients, None, fit, snr, True)


def real_tasks(data: Path, model: str, pictures: int) -> list[RealTask]:
    """Return realistic frames of validation pictures, and the planes of the stacks."""
    paths = held_out_pictures(data, "validation")["micrographs"]
    places = np.arange(min(pictures, len(paths))) * len(paths) // pictures
    found = [
        RealTask(condition, paths[place], number, model)
        for number, place in enumerate(places)
        for condition in REALISM
    ]
    for name, stack in STACKS.items():
        planes = range(0, len(stack.read(data)), 1 if pictures > 1 else 8)
        found += [RealTask(name, data, plane, model) for plane in planes]
    return found


def tasks(data: Path, model: str, pictures: int | None, most: int | None) -> list[Task]:
    """Return the frames to identify, of validation and of training pictures."""
    chosen: list[tuple[str, Path]] = []
    for split, limit in (("validation", most), ("train", pictures)):
        for kind, paths in held_out_pictures(data, split).items():
            share = {"photographs": 2 / 3, "micrographs": 1 / 3}[kind]
            count = len(paths)
            if limit is not None:
                count = min(count, round(limit * share))
            places = np.arange(count) * len(paths) // max(count, 1)
            chosen += [(kind, paths[place]) for place in places]
    found = [
        Task(
            Spec(path, kind, number, sigma), frames, "", not number % WIDE_EVERY, model
        )
        for number, (kind, path) in enumerate(chosen)
        for sigma, frames in CONDITIONS
    ]
    troubled = TROUBLED_PICTURES if most is None else max(1, most // 3)
    for trouble in TROUBLED_KINDS:
        for number in range(troubled):
            kind, path = chosen[number * len(chosen) // troubled]
            found += [
                Task(Spec(path, kind, number, sigma), 1, trouble, False, model)
                for sigma in TROUBLED_SIGMAS
            ]
    return found


def fit_errors(fits: Sequence[Fitted], errors: ErrorModel) -> dict[str, float]:
    """Return scales and tail of the errors of right estimates: Student's t."""
    right = [f for f in fits if f.error is not None and f.snr > RIGHT]
    error = np.concatenate([f.error for f in right if f.error is not None])
    curvature = np.concatenate([np.diag(f.fit.curvature) for f in right])
    competing = np.concatenate([np.diag(f.fit.competing) for f in right])
    scale = np.concatenate([f.fit.scale for f in right])

    def loss(logarithms: NDArray[np.float64]) -> float:
        a, b, floor, dof = np.exp(logarithms)
        stated = np.sqrt(a * curvature + b * competing + (floor * scale) ** 2)
        # A stated deviation is to contain 68 % of the errors, whatever the tail.
        unit = student.ppf((1 + 0.6827) / 2, dof)
        return -float(student.logpdf(error * unit / stated, dof).sum()) + float(
            np.log(stated / unit).sum()
        )

    names = ("curvature", "competing", "floor", "tail_dof")
    start = np.log([getattr(errors, name) for name in names])
    found = np.exp(minimize(loss, start, method="Nelder-Mead").x)
    return dict(zip(names, found.tolist(), strict=True))


def regression(
    predictors: NDArray[np.float64],
    right: NDArray[np.bool_],
    weight: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the intercept and the weights (1 + F,) of the log-odds of being right.

    Parameters
    ----------
    predictors, right, weight
        (N, F) features, (N,), and how much each counts, (N,).
    """
    mean, spread = predictors.mean(0), predictors.std(0) + 1e-12
    columns = np.column_stack([np.ones(len(predictors)), (predictors - mean) / spread])

    def loss(b: NDArray[np.float64]) -> float:
        odds = columns @ b
        each = np.logaddexp(0, odds) - right * odds
        return float((weight * each).sum() + RIDGE / 2 * (b[1:] ** 2).sum())

    b = minimize(loss, np.zeros(columns.shape[1])).x
    weights = b[1:] / spread
    return np.concatenate([[b[0] - weights @ mean], weights])


def fit_verdict(
    fits: Sequence[Fitted], family: BlurFamily, errors: ErrorModel
) -> dict[str, float]:
    """Return the log-odds that an estimate is right, and the largest usual misfit."""
    clear = [f for f in fits if f.snr > RIGHT or f.snr < WRONG]
    stated = [replace(f.fit, error_model=errors).covariance for f in clear]
    predictors = np.array(
        [
            (
                f.fit.quality,
                *features(family, f.coefficients, covariance, errors.verdict),
            )
            for f, covariance in zip(clear, stated, strict=True)
        ]
    )
    right = np.array([f.snr > RIGHT for f in clear])
    troubled = np.array([f.troubled for f in clear])
    share = TROUBLE_SHARE * (~troubled).sum() / max(troubled.sum(), 1)
    intercept, *weights = regression(predictors, right, np.where(troubled, share, 1.0))
    poor = float(np.quantile(predictors[right, 0], 0.95))
    trusted = intercept - CAUTION + predictors @ np.array(weights) > 0
    trusted &= predictors[:, 0] <= poor
    print(f"{len(clear)} fits, {right.sum()} right")
    print(f"right and trusted {np.mean(trusted[right]):.0%}")
    print(f"wrong and trusted {np.mean(trusted[~right]):.0%}")
    names = ("misfit", "error", "beyond")
    return {
        "intercept": intercept - CAUTION,
        **{name: -weight for name, weight in zip(names, weights, strict=True)},
        "poor_misfit": poor,
    }


def student_scale(scores: NDArray[np.float64], errors: ErrorModel) -> float:
    """Return the factor of the stated deviation at which scores are likeliest."""
    unit = student.ppf((1 + 0.6827) / 2, errors.tail_dof)

    def loss(logarithm: float) -> float:
        scaled = scores * unit / math.exp(logarithm)
        return len(scores) * logarithm - float(
            student.logpdf(scaled, errors.tail_dof).sum()
        )

    return math.exp(minimize_scalar(loss, bounds=(-5, 5), method="bounded").x)


def fit_streams(streams: Sequence[Stream], errors: ErrorModel) -> dict[str, float]:
    """Return what errors have in common over time, and what fluctuates.

    Specimens count alike, and so do the parts of a stream and its coefficients.
    """
    alike, fluctuating, creep = [], [], []
    usable = [s for s in streams if s.answered >= LEAST_ANSWERED and len(s.still)]
    if not usable:
        raise DataError("no specimen was identified often enough to fit its stream")
    for stream in usable:
        mean = stream.still.mean(0)
        spread = np.linspace(0, len(stream.still) - 1, SPREAD).round().astype(int)
        fluctuating.append(((stream.still - mean)[spread] / stream.stated).ravel())
        parts = (stream.bleached, stream.changed, stream.moved)
        alike.append(mean / stream.stated)
        alike += [p.error / p.stated for p in parts if p is not None]
        if (bleached := stream.bleached) is not None:
            stated = (
                np.linalg.norm(stream.stated) + np.linalg.norm(bleached.stated)
            ) / 2
            creep.append(np.linalg.norm(bleached.error - mean) / stated)
    systematic = student_scale(np.concatenate(alike), errors) ** 2
    # Noise twice as large is a quarter of the light; the track states the systematic
    # part.
    dimmed = 2 * math.log(BLEACHED) * math.sqrt(systematic)
    found = {
        "systematic": systematic,
        "fluctuating": student_scale(np.concatenate(fluctuating), errors) ** 2,
    }
    if creep:
        found["light_creep"] = float(np.sqrt(np.mean(np.square(creep)))) / dimmed
    return found


def updated(
    errors: ErrorModel,
    found: Mapping[str, float],
    verdict: Mapping[str, float] | None = None,
) -> ErrorModel:
    """Return an error model with new constants, of three significant digits."""
    content = errors.model_dump()
    for part, new in ((content, found), (content["verdict"], verdict or {})):
        part |= {name: float(f"{value:.3g}") for name, value in new.items()}
    return ErrorModel.model_validate(content)


@one_line_errors()
def main() -> None:
    """Identify, fit, print, and write if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="zernike7")
    parser.add_argument("--pictures", type=int, default=108, help="of the train split")
    parser.add_argument("--validation", type=int, help="of that split; all if left out")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--realistic", type=int, default=8, help="pictures for each condition"
    )
    parser.add_argument("--quick", action="store_true", help="try it on a few pictures")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="into the manifest")
    asked = parser.parse_args()
    if asked.quick and asked.write:
        parser.error("--write publishes the constants: leave --quick out")
    pack = load_pack(asked.model)
    before = errors = pack.manifest.error_model
    todo = tasks(
        asked.data,
        asked.model,
        3 if asked.quick else asked.pictures,
        3 if asked.quick else asked.validation,
    )
    real = real_tasks(asked.data, asked.model, 1 if asked.quick else asked.realistic)
    results = [
        *parallel(identify, todo, asked.jobs, "frames", chunk=4),
        *parallel(identify_real, real, asked.jobs, "realistic frames", chunk=4),
    ]
    fits = [fitted for fitted in results if fitted is not None]
    if "errors" in asked.only:
        errors = updated(errors, fit_errors(fits, errors))
    if "verdict" in asked.only:
        errors = updated(errors, {}, fit_verdict(fits, pack.family, errors))
    if "streams" in asked.only:
        streams = measure(
            asked.data,
            asked.model,
            "validation",
            errors=errors,
            specimens=1 if asked.quick else 10,
            jobs=asked.jobs,
        )
        errors = updated(errors, fit_streams(streams, errors))
    old, content = before.model_dump(), errors.model_dump()
    names = [name for name in old if name != "verdict"]
    lines = [[name, f"{old[name]:g}", f"{content[name]:g}"] for name in names]
    lines += [
        [f"verdict: {name}", f"{value:g}", f"{content['verdict'][name]:g}"]
        for name, value in old["verdict"].items()
    ]
    print(f"\n{markdown(['constant', 'now', 'fitted'], lines)}")
    if asked.write:
        path = find_packs().get(asked.model, Path(asked.model)) / "manifest.json"
        manifest = json.loads(path.read_text("utf-8")) | {"error_model": content}
        path.write_text(json.dumps(manifest, indent=1) + "\n", "utf-8", newline="\n")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
