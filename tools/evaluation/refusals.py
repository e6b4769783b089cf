"""Frames that cannot tell their blur: how often the program says so, and else what."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from deepblur_live.optics import psf_snr
from deepblur_live.runtime.calibration import BadFrame, scale
from evaluation.case import Case, Spec
from evaluation.section import Row, Section, figure, grouped, markdown, mean
from evaluation.troubles import TROUBLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evaluation.plan import Plan

__all__ = ["SECTION"]

SIGMA = 0.01
# Frames a kind of trouble, or half as many as there are pictures.
FRAMES = 12


def specs(plan: Plan) -> list[Spec]:
    """Return frames of each kind of trouble, on pictures from all over the list."""
    paths = list(itertools.chain(*plan.pictures.values()))
    count = min(FRAMES, (len(paths) + 1) // 2)
    return [
        Spec(paths[len(paths) * number // count], name, number, SIGMA)
        for name in TROUBLES
        for number in range(count)
    ]


def score(case: Case) -> Row:
    """Return whether it was refused; if not, the misfit and the PSF SNR in dB.

    The frame goes the live way: a camera's counts, scaled as they come.
    """
    trouble = TROUBLES[case.spec.kind](case)
    try:
        image = scale(trouble.pixels).image
    except BadFrame:
        return {"refused": True}
    identifier = case.identifier()
    identifier.observe(image, 0.0)
    estimate = identifier.estimate(image)
    if not estimate.trusted:
        return {"refused": True}
    row: Row = {"refused": False, "misfit": estimate.quality}
    if trouble.psf is not None:
        row["psf"] = float(psf_snr(case.psf_of(estimate), trouble.psf))
    return row


def summarise(rows: Sequence[Row]) -> list[Row]:
    """Return the share refused of each kind, and means over those answered."""
    return [
        {
            "kind": kind,
            "sigma": SIGMA,
            "frames": len(part),
            "refused": round(mean(part, "refused"), 4),
            "psf": round(mean(part, "psf"), 4),
            "misfit": round(mean(part, "misfit"), 4),
        }
        for (kind,), part in grouped(rows, "kind").items()
    ]


def table(rows: Sequence[Row]) -> str:
    """Return the Markdown table of a summary."""
    head = ["frames", "refused", "PSF SNR where answered", "misfit where answered"]
    lines = [
        [
            f"{row['frames']} {row['kind']}",
            f"{row['refused']:.0%}",
            figure(row["psf"], ".1f"),
            figure(row["misfit"], ".2f"),
        ]
        for row in rows
    ]
    return markdown(head, lines)


SECTION = Section("refusals", specs, score, summarise, table)
