"""Compare what each part of the identification gives: left out, or told the truth.

python tools/compare_parts.py --data FOLDER [--markdown FILE]

One frame each of the pictures of the validation split, which parts were chosen by.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from evaluation.case import Case, Spec, every_frame
from evaluation.plan import Plan
from evaluation.section import Row, grouped, markdown, mean
from held_out import held_out_pictures
from training_data import told_in_one_line

from deepblur_live.identification import Identifier, PowerSpectrum, weighed
from deepblur_live.optics import psf_snr

if TYPE_CHECKING:
    from deepblur_live.identification import FrameSpectrum

SIGMAS = (0.001, 0.01, 0.03, 0.05)


class EveryWindowAlike(PowerSpectrum):
    """An average in which windows with little detail count as much as others."""

    def look(self, image: torch.Tensor) -> FrameSpectrum:
        """Return a frame's spectrum, weighed as if frames had averaged its noise."""
        return weighed(image, self.cutoff, math.inf)


def windows_alike(case: Case) -> Identifier:
    """Return the identifier as shipped, its windows not weighed."""
    identifier = case.identifier()
    average_s = identifier.spectrum.average_s
    identifier.spectrum = EveryWindowAlike(average_s, case.family.cutoff)
    return identifier


def smooth_specimen(case: Case) -> Identifier:
    """Return an identifier that has learned nothing, neither blurs nor specimens."""
    return Identifier(case.family)


PARTS = {
    "as shipped": Case.identifier,
    "no phases": partial(Case.identifier, phases=False),
    "every window alike": windows_alike,
    "no network": partial(Case.identifier, network=False),
    "no network, specimens smooth": smooth_specimen,
    "noise given": Case.identifier,
}


def score(task: tuple[Spec, str]) -> Row:
    """Return the PSF SNR in dB of each way, and whether it answered."""
    torch.set_num_threads(1)
    spec, model = task
    case = Case(spec, model)
    row: Row = {"kind": spec.kind, "sigma": spec.sigma}
    image, variance = case.frame.observed, spec.sigma**2
    for name, made in PARTS.items():
        identifier = made(case)
        identifier.observe(image, 0.0)
        known = (lambda _: variance) if name == "noise given" else None
        estimate = identifier.estimate(image, noise=known)
        row[name] = float(psf_snr(case.psf_of(estimate), case.psf))
        row[f"{name}, answered"] = estimate.trusted
    return row


@told_in_one_line()
def main() -> None:
    """Score every way on every frame, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="with MANIFEST.csv")
    parser.add_argument("--model", default="zernike7", help="its name, or a folder")
    parser.add_argument("--blurs", type=int, default=1, help="a picture")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--markdown", type=Path, help="where to write the table")
    asked = parser.parse_args()
    found = held_out_pictures(asked.data, "validation")
    plan = Plan(found, SIGMAS, asked.blurs, asked.model)
    tasks = [(spec, asked.model) for spec in every_frame(plan)]
    rows = []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(asked.jobs, spawn) as pool:
        for done, row in enumerate(pool.map(score, tasks), 1):
            rows.append(row)
            print(f"\r{done} of {len(tasks)} frames", end="", flush=True)
    lines = [
        [f"{len(part)} {kind}", f"{sigma:g}"]
        + [f"{mean(part, n):.1f} ({mean(part, f'{n}, answered'):.0%})" for n in PARTS]
        for (kind, sigma), part in grouped(rows, "kind", "sigma").items()
    ]
    table = markdown(["pictures", "σ", *PARTS], lines)
    print(f"\n{table}")
    if asked.markdown:
        asked.markdown.write_text(f"{table}\n", "utf-8")


if __name__ == "__main__":
    main()
