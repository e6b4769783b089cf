"""Measure how often a blur outside the calibrated set is noticed, on single frames.

    python tools/measure_outside.py --data data --out outside.md

A simulated microscope is calibrated from some states.
Held-out states are moved out of the admissible set, in a random direction, until they
lie at a given distance from it, and identified from one frame of a validation
micrograph each (docs/decisions/0214-outside-the-calibration.md).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from evaluation.calibrated_prior import Microscope, modes_of, score
from evaluation.held_out import SIDE, blurred, held_out_pictures, scene
from evaluation.table import markdown

from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.calibration.learning import WIDE_MODES, learn_family
from deepblur_live.identification import Identifier
from deepblur_live.runtime.pack import load_pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from deepblur_live.blur.calibrated import CalibratedZernikeFamily

    Array = NDArray[np.float64]

_NOLL = tuple(range(4, 16))
_DISTANCES_NM = (0.0, 20.0, 40.0, 65.0, 100.0)
# Change that is assumed between states, nm, as a session does.
_ASSUMED_NM = 40.0


class Outcome(NamedTuple):
    """One identification: PSF SNR in dB, gain of the wide fit, and the verdict."""

    snr: float
    gain: float
    trusted: bool
    left: bool


def moved_out(
    family: CalibratedZernikeFamily, truth: Array, direction: Array, distance: float
) -> Array:
    """Return modes (M,) at a distance, waves rms, from the admissible set.

    From the state `truth` (M,), or the nearest admissible one, along `direction` (M,).
    """
    learned, admissible = family.learned, family.prior.admissible
    start = admissible.project(learned.coefficients(truth))
    if distance <= 0:
        return learned.modes(start)
    way, low, high = direction @ learned.basis, 0.0, 2.0
    for _ in range(40):
        middle = (low + high) / 2
        here = start + middle * way
        away = float(np.linalg.norm(here - admissible.project(here)))
        low, high = (middle, high) if away < distance else (low, middle)
    return learned.modes(start + low * way)


def outcomes(
    family: CalibratedZernikeFamily,
    truths: Array,
    distance_nm: float,
    sigma: float,
    paths: Sequence[Path],
) -> list[Outcome]:
    """Identify one frame of each picture, with a state at a distance from the set."""
    pack, local = load_pack("zernike7"), family.local
    errors, specimen = pack.manifest.error_model, pack.specimen
    learned = [k for k, noll in enumerate(local.noll) if noll not in WIDE_MODES]
    rng, found = np.random.default_rng(11), []
    for number, (path, truth) in enumerate(zip(paths, truths, strict=True)):
        direction = np.zeros(len(truth))
        direction[learned] = rng.normal(size=len(learned))
        direction /= np.linalg.norm(direction)
        distance = distance_nm / local.wavelength_nm
        state = moved_out(family, truth, direction, distance)
        sharp = scene(path, SIDE + local.window - 1)
        noise = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(number))
        frame = blurred(sharp, local, torch.from_numpy(state).float()) + sigma * noise
        identifier = Identifier(family, errors, None, 5.0, specimen)
        assert identifier.outside is not None
        identifier.observe(frame, 0.0)
        problem = identifier.prepare(frame, noise=lambda _: sigma**2)
        estimate = identifier.solve(problem).estimate
        gain = identifier.outside.compare(problem, estimate.coefficients).gain
        snr = score(local, state, modes_of(family, estimate.coefficients)).snr
        left = "outside the calibrated set" in estimate.reason
        found.append(Outcome(snr, gain, estimate.trusted, left))
        print(f"{distance_nm:g} nm, σ {sigma:g}:", *found[-1], flush=True)
    return found


def _row(found: Sequence[Outcome]) -> list[str]:
    left = [one for one in found if one.left]
    other = [one for one in found if not one.trusted and not one.left]
    kept = [one.snr for one in found if one.trusted]
    return [
        f"{len(left)} of {len(found)}",
        str(len(other)),
        f"{np.median([one.snr for one in left]):.0f}" if left else "–",
        f"{np.median(kept):.0f}, {min(kept):.0f}" if kept else "–",
        f"{np.median([one.gain for one in found]):.1f}, "
        f"{max(one.gain for one in found):.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="held-out pictures")
    parser.add_argument("--out", type=Path, required=True, help="Markdown file")
    parser.add_argument("--states", type=int, nargs="+", default=[6, 20])
    parser.add_argument("--sigma", type=float, nargs="+", default=[0.001, 0.01])
    parser.add_argument("--pictures", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    local = ZernikeFamily(noll=_NOLL)
    microscope = Microscope(local, True)
    paths = held_out_pictures(options.data, "validation")["micrographs"]
    paths = paths[:: max(1, len(paths) // options.pictures)][: options.pictures]
    truths, rows = microscope.states(len(paths), seed=3), []
    for count in options.states:
        family = learn_family(
            microscope.measured(count), local, assumed=_ASSUMED_NM / local.wavelength_nm
        )
        for sigma in options.sigma:
            for distance in _DISTANCES_NM:
                found = outcomes(family, truths, distance, sigma, paths)
                rows.append([str(count), f"{sigma:g}", f"{distance:g}", *_row(found)])
    head = ["states", "σ", "outside, nm", "said", "refused for another reason"]
    head += ["PSF where said, dB", "PSF where trusted, dB: median, least"]
    head += ["gain: median, largest"]
    options.out.write_text(markdown(head, rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
