"""Measure focus sweeps on simulated specimens, thin and thick, and on real stacks.

python tools/evaluate_sweep.py --data FOLDER [--pictures N] [--only SECTION ...]

The simulated frames use PSF code of their own (aplanatic, pixel integration, exact
defocus), haze and shot noise, on pictures of the validation split; only the default
profile is the program's. One line a sweep, then a summary of each section.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from evaluation.effects import View as Seen
from evaluation.effects import convolved, haze, shot_noise
from evaluation.held_out import held_out_pictures, scene
from evaluation.stacks import STACKS
from evaluation.true_optics import TrueOptics
from training.pictures import one_line_errors

from deepblur_live.blur import family_from_profile, focus_direction, nearest, orbit
from deepblur_live.blur.symmetry import ResolvedBy
from deepblur_live.identification import SweepError
from deepblur_live.profile import Optics, Profile
from deepblur_live.runtime.focus_sweep import sweep_frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE, MARGIN, HALF = 512, 48, 40
# Positions, noise, share of haze, electrons at the brightest point, range of the modes.
PLANES_UM, SIGMA, HAZE, ELECTRONS, WAVES = (-0.4, 0.0, 0.4), 0.01, 0.3, 1000.0, 0.1
# Thin specimens with the pupil of the simulation (aplanatic), and with the default's.
THIN = {"thin": 1.0, "thin, pupil of the default profile": 0.5}
# Thick: this share of the light comes from other structures, so far above and below.
THICK = {"thick 0.3 µm": (0.5, 0.3), "thick 0.8 µm": (0.5, 0.8)}
# A minimum is the right one if no mode is further off, in waves.
RIGHT = 0.04
# Planes of the real stacks: half-width of a sweep and largest |z| of its middle, µm,
# and every n-th plane.
REAL = {"beads": (0.6, 0.6, 1), "cells": (0.3, 0.6, 4)}


def sharp(path: Path) -> NDArray[np.float64]:
    """Return a picture (H, W) with a margin, its brightest at 1."""
    pixels = scene(path, SIDE + 2 * MARGIN).numpy().astype(np.float64).clip(0)
    return pixels / np.percentile(pixels, 99.9)


def frames(
    paths: list[Path], modes: dict[int, float], thick: tuple[float, float], seed: int
) -> list[NDArray[np.float32]]:
    """Return the planes of a sweep over one picture, with a second one out of focus."""
    optics = TrueOptics(aplanatic=True, pixel_integration=True, exact_defocus=True)
    chance = np.random.default_rng(seed)
    share, depth = thick
    here = sharp(paths[0])
    other = np.rot90(sharp(paths[1])) if share else here
    planes = []
    for z in PLANES_UM:
        image = (1 - share) * convolved(here, optics.psf(modes, z, HALF))
        if share:
            for turn, away in ((0, -depth), (1, depth)):
                psf = optics.psf(modes, z + away, HALF)
                image += share / 2 * convolved(np.rot90(other, turn), psf)
        view = Seen(image, optics.psf(modes, z, HALF), here)
        view = haze(view, chance, share=HAZE, sigma_px=15)
        view = shot_noise(view, chance, electrons=ELECTRONS)
        noisy = view.image + SIGMA * chance.standard_normal(image.shape)
        planes.append(noisy[MARGIN:-MARGIN, MARGIN:-MARGIN].astype(np.float32))
    return planes


def simulated(
    name: str,
    pictures: list[Path],
    thick: tuple[float, float] = (0.0, 0.0),
    apodisation: float = 1.0,
) -> None:
    """Print the sweeps over pictures, and how many were right or recognised."""
    rig = Profile(optics=Optics(apodisation=apodisation))
    family = family_from_profile(rig)
    turns = orbit(family, ResolvedBy.IMAGE)
    even = turns[-1].flipped == np.zeros(family.n_coefficients, bool)
    errors, deviations, known, thin, signs, times = [], [], [], 0, [], []
    for number, path in enumerate(pictures):
        chance = np.random.default_rng(number)
        truth = chance.uniform(-WAVES, WAVES, family.n_coefficients)
        modes = dict(zip(rig.optics.noll, truth, strict=True))
        other = pictures[(number + 3) % len(pictures)]
        planes = frames([path, other], modes, thick, number)
        begun = time.process_time()
        try:
            _, result = sweep_frames(rig, planes, np.array(PLANES_UM))
        except SweepError as error:
            print(f"{name} {path.stem[:24]:24} refused: {error}", flush=True)
            continue
        times.append(time.process_time() - begun)
        found = nearest(result.coefficients, truth, turns)
        error = found - truth
        turn = bool(np.abs(result.coefficients - found).max() < 1e-9)
        print(
            f"{name} {path.stem[:24]:24} error {np.abs(error).max():.3f} "
            f"χ² {result.chi2:.2f} turn {turn} known {result.turn_known} "
            f"refocus {1000 * result.refocus_um:+.0f} nm {result.thick}",
            flush=True,
        )
        thin += not result.thick
        errors.append(error)
        deviations.append(error / result.sigma)
        known.append((turn, result.turn_known))
        even_part = np.flatnonzero(even)
        signs.append(float(found[even_part] @ truth[even_part]) > 0)
    table, share = np.array(errors), np.array(deviations)
    right = np.abs(table).max(1) < RIGHT
    near = table[right]
    print(
        f"\n{name}: {len(table)} of {len(pictures)} answered, {thin} called thin; "
        f"right minimum {right.mean():.2f}, there even modes "
        f"{rms(near[:, even]):.4f}, odd {rms(near[:, ~even]):.4f} waves rms; "
        f"within one stated deviation "
        f"{(np.abs(share) < 1).mean():.2f}, two {(np.abs(share) < 2).mean():.2f}; sign "
        f"of the even modes {np.mean(signs):.2f}; turn right "
        f"{np.mean([t for t, _ in known]):.2f}, where known "
        f"{np.mean([t for t, k in known if k]):.2f} (of "
        f"{np.mean([k for _, k in known]):.2f}); {np.median(times):.1f} s of a core\n",
        flush=True,
    )


def rms(values: NDArray[np.float64]) -> float:
    """Return the root mean square; NaN of nothing."""
    return float(np.sqrt(np.mean(values**2))) if values.size else float("nan")


def real(name: str, data: Path) -> None:
    """Print sweeps about planes of a real stack, and the slope against the stage."""
    stack = STACKS[name]
    rig = Profile(optics=stack.optics)
    planes = stack.read(data)
    z = stack.z_um(len(planes))
    half, furthest, every = REAL[name]
    stride = round(half / stack.spacing_um)
    waves = float(focus_direction(family_from_profile(rig)).max())
    rows, thick = [], 0
    for middle in range(stack.focus % every, len(planes), every):
        chosen = [middle - stride, middle, middle + stride]
        if abs(z[middle]) > furthest + 1e-9 or not 0 <= chosen[0] < chosen[2] < len(z):
            continue
        if z[chosen[0]] > z[chosen[2]]:
            chosen.reverse()
        _, result = sweep_frames(
            rig, [planes[k] for k in chosen], z[chosen] - z[middle]
        )
        rows.append([waves * z[middle], *result.coefficients])
        thick += bool(result.thick)
        print(
            f"{name} z {z[middle]:+.2f} µm refocus {1000 * result.refocus_um:+.0f} ± "
            f"{1000 * result.refocus_sigma_um:.0f} nm χ² {result.chi2:.1f} modes "
            f"{result.coefficients.round(3)} {result.thick}",
            flush=True,
        )
    table = np.array(rows)
    slope, there = np.polyfit(table[:, 0], table[:, 1], 1)
    scatter = np.std(table[:, 1] - slope * table[:, 0] - there)
    print(
        f"\n{name}: {len(table)} sweeps, {thick} called thick; defocus against the "
        f"stage: slope {slope:.2f}, scatter {scatter:.3f} waves, correlation "
        f"{np.corrcoef(table[:, 0], table[:, 1])[0, 1]:.3f}, {there:+.3f} at z = 0; "
        f"median of the other modes {np.median(table[:, 2:], 0).round(3)}\n",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=40)
    sections = [*THIN, *THICK, *REAL]
    parser.add_argument("--only", nargs="+", choices=sections, default=sections)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = held_out_pictures(options.data, "validation")
    both = [path for paths in found.values() for path in paths]
    order = np.random.default_rng(5).permutation(len(both))[: options.pictures]
    pictures = [both[k] for k in order]
    for name in options.only:
        if name in REAL:
            real(name, options.data)
        elif name in THIN:
            simulated(name, pictures, apodisation=THIN[name])
        else:
            simulated(name, pictures[: max(4, len(pictures) // 2)], THICK[name])


if __name__ == "__main__":
    with one_line_errors():
        main()
