"""What following more modes, or a longer range, costs the paper's seven.

By spectrum and phases alone, in all rows alike: the network knows but the paper's
family.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.optics import PAPER_MODES, SPHERICAL_MODES, psf_snr
from evaluation.case import Case, Spec, under
from evaluation.identification import nearest_twin
from evaluation.section import Row, Section, across, figure, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evaluation.plan import Plan

__all__ = ["SECTION"]

SIGMAS = (0.001, 0.01)
# Defocus is the first of the paper's modes.
LONG_DEFOCUS = (0.3, *(0.15,) * (len(PAPER_MODES) - 1))
CONDITIONS = {
    "4–10": {},
    "4–11": {"noll": SPHERICAL_MODES},
    "4–15": {"noll": tuple(range(4, 16))},
    "4–10, defocus ±0.3": {"ranges": LONG_DEFOCUS},
}


def specs(plan: Plan) -> list[Spec]:
    """Return some of the frames under each condition."""
    return under(plan, list(CONDITIONS.values()), SIGMAS)


def condition(spec: Spec) -> str:
    """Return a frame's condition, by its name."""
    if spec.ranges == LONG_DEFOCUS:
        return "4–10, defocus ±0.3"
    return f"4–{max(spec.noll)}"


def score(case: Case) -> Row:
    """Return the PSF SNR in dB, and the error of the seven modes in waves rms."""
    identifier = case.identifier(network=False)
    identifier.observe(case.frame.observed, 0.0)
    estimate = identifier.estimate(case.frame.observed)
    row: Row = {
        "condition": condition(case.spec),
        "psf": float(psf_snr(case.psf_of(estimate), case.psf)),
        "answered": estimate.trusted,
    }
    if estimate.trusted:
        found = estimate.coefficients
        error = (found - nearest_twin(case, found))[: len(PAPER_MODES)]
        row["error"] = float(np.sqrt(np.mean(error**2)))
    return row


def summarise(rows: Sequence[Row]) -> list[Row]:
    """Return the means of each group."""
    return summary(rows, ("psf", "error", "answered"), "condition")


def table(rows: Sequence[Row]) -> str:
    """Return the Markdown table of a summary."""
    return across(
        rows,
        "condition",
        lambda row: (
            f"{figure(row['error'], '.3f')} / {row['psf']:.1f} ({row['answered']:.0%})"
        ),
    )


SECTION = Section("modes", specs, score, summarise, table)
