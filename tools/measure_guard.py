"""Measure what the guard of deblurred frames shows, and what it withholds.

python tools/measure_guard.py --data FOLDER --weights training/live/deblurring
python tools/measure_guard.py --data FOLDER --identified --first 6 --exposures 2 4

Held-out pictures under the conditions of the deblurring table, and some more that are
hard to judge. The noise is measured from each frame, as live without a calibration.
With ``--identified`` the blur too is measured from the frames, by the whole live
pipeline with the shipped weights, and nothing is known of it beforehand.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from evaluation.deblurring_frames import (
    CONDITIONS,
    SIDE,
    Condition,
    dark,
    expose,
    filled,
    grey_values,
    light_of,
    nuclei,
    sharp_already,
    spherical,
)
from evaluation.deblurring_methods import deblurred, networks
from evaluation.effects import MARGIN
from evaluation.held_out import held_out_pictures, scene
from scipy import ndimage
from training.pictures import one_line_errors

from deepblur_live.blur import family_from_profile
from deepblur_live.optics import measure_noise, psnr
from deepblur_live.profile import Profile
from deepblur_live.runtime.build import build_pipeline
from deepblur_live.runtime.device import tune_process
from deepblur_live.runtime.frame import Frame as CameraFrame
from deepblur_live.runtime.guard import FrameGuard, Verdict, untreatable
from deepblur_live.runtime.pack import load_pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evaluation.deblurring_frames import Frame
    from numpy.typing import NDArray

    from deepblur_live.blur import Estimate
    from deepblur_live.blur.zernike import ZernikeFamily
    from deepblur_live.deblurring import UnrolledFista
    from deepblur_live.runtime.frame import FrameResult

# Strength above which a result counts as shown whole.
_WHOLE = 0.75
# Decibels below the raw frame from which a result is harmful, and above it from which
# it is good.
_HARM = _GOOD = 0.2
_MODEL = Path(__file__).parents[1] / "engines" / "zernike7"


def beads(
    picture: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    chance: np.random.Generator,
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return points of different brightness, a little larger than a pixel."""
    light = np.zeros_like(picture)
    count = int(chance.uniform(20, 200) * picture.size / SIDE**2)
    places = tuple(chance.integers(0, side, count) for side in picture.shape)
    light[places] = chance.uniform(0.3, 1, count)
    light = ndimage.gaussian_filter(light, 0.8, mode="wrap")
    return light / light.max()


MORE = {
    "beads, 500 e": Condition("beads", beads),
    "beads, 5000 e": Condition("beads", beads, 5000),
    "beads, white noise 0.003": Condition("beads", beads, None, 0.003),
    "beads, γ off by 0.06": Condition("beads", beads, 2000, error=0.06),
    "nuclei, γ off by 0.06": Condition("wrong", nuclei, 1000, error=0.06),
    "filled, white noise 0.002": Condition("little noise", filled, None, 0.002),
    "filled, white noise 0.003, γ off by 0.06": Condition(
        "little noise", filled, None, 0.003, error=0.06
    ),
    "filled, γ off by 0.15": Condition("wrong", filled, 1000, error=0.15),
    "mostly dark, γ off by 0.20": Condition("wrong", dark, 1000, error=0.2),
    "filled, spherical 0.10 not stated": Condition(
        "wrong", filled, 2000, psf=partial(spherical, waves=0.1)
    ),
    "mostly dark, sharp already": Condition(
        "processed already", dark, 5000, psf=sharp_already
    ),
}
"""Conditions besides those of the deblurring table."""


class Judged(NamedTuple):
    """PSNR of a result and of what is shown over the raw frame's, and the verdict."""

    gain: float
    shown: float
    verdict: Verdict


def judged(
    frame: Frame, network: UnrolledFista, family: ZernikeFamily, guard: FrameGuard
) -> Judged:
    """Deblur a frame as live and judge it."""
    noise = measure_noise(frame.image, family.cutoff, float(frame.noise.least))
    assert noise is not None, "the default optics leave room beyond the cut-off"
    sharp = deblurred(network, frame, family, noise)
    if reason := untreatable(frame.image, noise):
        verdict = Verdict(0.0, reason)
    else:
        verdict = guard.verdict(
            frame.image, sharp, frame.gamma, frame.covariance, noise
        )
    shown = frame.image.lerp(sharp, verdict.strength)
    raw, full, mixed = (
        psnr(frame.light(image), frame.truth) for image in (frame.image, sharp, shown)
    )
    return Judged(full - raw, mixed - raw, verdict)


def identified(
    condition: Condition,
    picture: NDArray[np.float64],
    number: int,
    family: ZernikeFamily,
    network: UnrolledFista,
    exposures: Sequence[int],
) -> list[Judged]:
    """Identify the blur of exposures, one a second, and deblur them as live.

    Those after which so many have been seen are judged.
    """
    pipeline = build_pipeline(Profile(), asynchronous=False)
    estimate: Estimate | None = None
    found = []
    try:
        for exposure in range(max(exposures)):
            frame = expose(condition, picture, number, family, exposure)
            grey = grey_values(frame.light(frame.image))
            live = CameraFrame(grey, exposure, float(exposure), "live")
            result = pipeline.submit(live).result()
            estimate = result.estimate or estimate
            if exposure + 1 in exposures:
                found.append(_as_shown(frame, result, estimate, family, network))
    finally:
        pipeline.close()
    return found


def _as_shown(
    frame: Frame,
    result: FrameResult,
    estimate: Estimate | None,
    family: ZernikeFamily,
    network: UnrolledFista,
) -> Judged:
    """Judge a result of the pipeline; `estimate` is its last one."""
    raw = psnr(frame.light(frame.image), frame.truth)
    # A raw frame has no track; judge what its last estimate would have given.
    used = result.track or estimate
    if used is None:
        return Judged(0.0, 0.0, Verdict(0.0, result.reason))
    noise = measure_noise(frame.image, family.cutoff, float(frame.noise.least))
    assert noise is not None, "the default optics leave room beyond the cut-off"
    found = replace(
        frame,
        gamma=torch.from_numpy(used.coefficients).float(),
        covariance=torch.from_numpy(used.covariance).float(),
    )
    full = psnr(frame.light(deblurred(network, found, family, noise)), frame.truth)
    shown = raw
    if result.deblurred is not None:
        shown = psnr(light_of(result.deblurred), frame.truth)
    return Judged(full - raw, shown - raw, Verdict(result.strength, result.reason))


def row(name: str, found: Sequence[Judged]) -> str:
    """Return a line of the table."""
    strengths = [judged.verdict.strength for judged in found]
    good = [judged for judged in found if judged.gain >= _GOOD]
    refused = sum(judged.verdict.strength == 0 for judged in good)
    cells = (
        name,
        f"{np.mean([judged.gain for judged in found]):+.2f}",
        f"{np.mean([judged.shown for judged in found]):+.2f}",
        "/".join(
            str(sum(low < strength <= high for strength in strengths))
            for low, high in ((_WHOLE, 1), (0, _WHOLE), (-1, 0))
        ),
        f"{sum(judged.gain < -_HARM for judged in found)}",
        f"{sum(judged.shown < -_HARM for judged in found)}",
        f"{refused} of {len(good)}",
    )
    return f"| {' | '.join(cells)} |"


@one_line_errors()
def main() -> None:
    """Print a table for each network: conditions × what is shown of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, nargs="*", default=[])
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--first", type=int, default=0, help="skip so many of a kind")
    parser.add_argument("--identified", action="store_true", help="blind, as live")
    parser.add_argument(
        "--exposures",
        type=int,
        nargs="+",
        default=[2],
        help="with --identified: judge the frames with these numbers, from 1 on",
    )
    parser.add_argument("--conditions", nargs="*", help="only those of these names")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    tune_process(options.threads)
    family = family_from_profile(Profile())
    guard = FrameGuard(family)
    kinds = held_out_pictures(options.data, options.split).values()
    half, skipped = -(-options.pictures // 2), options.first
    paths = [path for kind in kinds for path in kind[skipped : skipped + half]]
    print(
        f"{len(paths)} pictures: {', '.join(path.name for path in paths)}", flush=True
    )
    exposures = sorted(set(options.exposures))
    if options.identified:
        live = load_pack(_MODEL.name, ("live",)).deblurring.eval()
        known = {f"live, frame {number}": live for number in exposures}
    else:
        known = networks(_MODEL, tuple(options.weights))
        if options.weights:
            shipped = networks(_MODEL, ())
            known = {name: known[name] for name in known if name not in shipped}
    conditions = {
        name: condition
        for name, condition in (CONDITIONS | MORE).items()
        if options.conditions is None or name in options.conditions
    }
    found: dict[str, dict[str, list[Judged]]] = {
        label: {name: [] for name in conditions} for label in known
    }
    for number, path in enumerate(paths):
        picture = scene(path, SIDE + 2 * MARGIN).double().numpy()
        for name, condition in conditions.items():
            if options.identified:
                seed = skipped + number
                results = identified(condition, picture, seed, family, live, exposures)
                for label, one in zip(found, results, strict=True):
                    found[label][name].append(one)
                    print(f"{path.name}, {name}, {label}: {one}", flush=True)
                continue
            frame = expose(condition, picture, skipped + number, family)
            for label, network in known.items():
                found[label][name].append(judged(frame, network, family, guard))
    for label, rows in found.items():
        print(
            f"\n{label}\n\n| condition | result, dB | shown, dB | all/part/raw | "
            "harmful | harm shown | good refused |\n|" + " --- |" * 7
        )
        for name, frames in rows.items():
            print(row(name, frames))
        print(row("**all**", [one for frames in rows.values() for one in frames]))
        reasons = [
            one.verdict.reason
            for frames in rows.values()
            for one in frames
            if one.verdict.reason
        ]
        for reason in sorted({text.split(" (")[0] for text in reasons}):
            count = sum(text.startswith(reason) for text in reasons)
            print(f"{count} × {reason}")


if __name__ == "__main__":
    main()
