"""Where a frame ends: the outermost pixels, whose blur depends on what was not seen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from deepblur_live.optics import psnr
from evaluation.case import Case, Spec, every_frame
from evaluation.deblurring import BORDER, INNER
from evaluation.section import Row, Section, markdown, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evaluation.plan import Plan

__all__ = ["SECTION", "rim_and_interior"]

SIGMAS = (0.001, 0.01)
# A camera's region of interest: no side even, no two alike, no power of two.
CROP = (401, 307)


def specs(plan: Plan) -> list[Spec]:
    """Return one frame for each picture and noise level."""
    return every_frame(replace(plan, blurs=1).limited(SIGMAS))


def rim_and_interior(
    name: str, image: torch.Tensor, truth: torch.Tensor
) -> dict[str, object]:
    """Return the PSNR in dB of the outermost pixels, and of all others."""
    rim = torch.ones(truth.shape, dtype=torch.bool)
    rim[INNER] = False
    return {
        f"{name}_rim": psnr(image[rim].numpy(), truth[rim].numpy()),
        f"{name}_inner": psnr(image[~rim].numpy(), truth[~rim].numpy()),
    }


def score(case: Case) -> Row:
    """Return the PSNRs, in dB, of whole frames and of an odd crop; true operator."""
    frame = case.frame
    sigma = max(frame.sigma, 1e-4)
    height, width = CROP
    row: Row = {}
    for name, size in {
        "whole": (slice(None), slice(None)),
        "crop": (slice(height), slice(width)),
    }.items():
        observed, truth = frame.observed[size], frame.truth[size]
        found = case.executor.deblur(observed, frame.coefficients, sigma)
        row |= rim_and_interior(f"{name}_observed", observed, truth)
        row |= rim_and_interior(f"{name}_ours", found, truth)
    return row


NAMES = ("whole_observed", "whole_ours", "crop_observed", "crop_ours")
COLUMNS = tuple(f"{name}_{part}" for name in NAMES for part in ("rim", "inner"))


def table(rows: Sequence[Row]) -> str:
    """Return the Markdown table of a summary."""
    odd = f"{CROP[0]} × {CROP[1]}"
    head = [
        "pictures",
        "σ",
        f"512²: observed, outermost {BORDER} / interior",
        "**512²: ours, true operator**",
        f"{odd}: observed",
        f"**{odd}: ours, true operator**",
    ]
    lines = [
        [
            f"{row['frames']} {row['kind']}",
            f"{row['sigma']:g}",
            *(f"{row[f'{n}_rim']:.1f} / {row[f'{n}_inner']:.1f}" for n in NAMES),
        ]
        for row in rows
    ]
    return markdown(head, lines)


SECTION = Section("borders", specs, score, lambda rows: summary(rows, COLUMNS), table)
