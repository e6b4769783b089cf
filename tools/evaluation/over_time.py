"""What watching a still blur for longer gives: one frame, ten, a hundred."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from deepblur_live.identification import PowerSpectrum
from deepblur_live.optics import psf_snr
from evaluation.bound import allowed_snr
from evaluation.case import Case, Spec, every_frame
from evaluation.section import Row, Section, markdown, summary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evaluation.plan import Plan

__all__ = ["SECTION"]

SIGMAS = (0.01, 0.03, 0.05)
# Live, one asks again and again: the rotation's votes add up, and an answer is where
# the next fit starts. The first, the middle and the last of these are reported.
ASKED = (1, 3, 10, 30, 100)
REPORTED = (1, 10, 100)
# PSF SNR in dB to be had after a hundred frames.
GOALS = {
    "photographs": dict(zip(SIGMAS, (22, 16, 12), strict=True)),
    "micrographs": dict(zip(SIGMAS, (18, 12, 8), strict=True)),
}
_INTERVAL_S = 0.05
# Long against a hundred frames: none of them is forgotten.
_AVERAGE_S = 1e6


def first_blurs(plan: Plan) -> list[Spec]:
    """Return one frame for each picture and noise level."""
    return every_frame(replace(plan, blurs=1).limited(SIGMAS))


def still_frames(case: Case) -> Iterator[torch.Tensor]:
    """Yield a hundred frames of the case's scene, each with noise of its own."""
    clean, sigma = case.frame.blurred, case.frame.sigma
    noise = torch.Generator().manual_seed(case.spec.number)
    for _ in range(ASKED[-1]):
        yield clean + sigma * torch.randn(clean.shape, generator=noise)


def score(case: Case) -> Row:
    """Return the PSF SNR in dB after so many frames, and whether it was answered.

    Each frame is the same still scene with noise of its own, as real frames are: the
    average is of real spectra, not of a noise made smaller.
    """
    identifier = case.identifier(average_s=_AVERAGE_S)
    row: Row = {}
    prediction = None
    for count, image in enumerate(still_frames(case), 1):
        identifier.observe(image, count * _INTERVAL_S)
        if count not in ASKED:
            continue
        estimate = identifier.estimate(image, prediction)
        if estimate.trusted:
            prediction = estimate.coefficients
        if count in REPORTED:
            row[f"after_{count}"] = float(psf_snr(case.psf_of(estimate), case.psf))
            row[f"answered_{count}"] = estimate.trusted
    seen = identifier.spectrum
    if seen.frames < ASKED[-1]:
        # The identifier forgets what it refuses; the frames hold it still.
        seen = PowerSpectrum(_AVERAGE_S, case.family.cutoff)
        for count, image in enumerate(still_frames(case), 1):
            seen.add(image, count * _INTERVAL_S)
    row["allowed"] = allowed_snr(case, seen)
    return row


COLUMNS = (
    *(f"{what}_{n}" for what in ("after", "answered") for n in REPORTED),
    "allowed",
)


def table(rows: Sequence[Row]) -> str:
    """Return the Markdown table of a summary."""
    head = [
        "pictures",
        "σ",
        "1 frame",
        "10 frames",
        "**100 frames**",
        "goal",
        "Cramér–Rao, spectrum",
    ]
    lines = []
    for row in rows:
        cells = [
            f"{row[f'after_{n}']:.1f} ({row[f'answered_{n}']:.0%})" for n in REPORTED
        ]
        goal = GOALS[str(row["kind"])].get(row["sigma"], "–")  # type: ignore[call-overload]
        lines.append(
            [
                f"{row['frames']} {row['kind']}",
                f"{row['sigma']:g}",
                *cells[:-1],
                f"**{cells[-1]}**",
                str(goal),
                f"{row['allowed']:.1f}",
            ]
        )
    return markdown(head, lines)


SECTION = Section(
    "time", first_blurs, score, lambda rows: summary(rows, COLUMNS), table
)
