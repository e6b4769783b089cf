"""Whether a good microscope is told that it is good: the bias near no aberration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation.case import Case, Spec, under
from evaluation.section import Row, Section, across, figure, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evaluation.plan import Plan

__all__ = ["SECTION"]

SIGMAS = (0.001, 0.01)
# True wavefronts, waves rms. The last is where a microscope stops being called good.
TRUE = (0.0, 0.03, 0.07)


def specs(plan: Plan) -> list[Spec]:
    """Return some of the frames at each amount of aberration."""
    return under(plan, [{"rms": rms} for rms in TRUE], SIGMAS)


def score(case: Case) -> Row:
    """Return the wavefront found, in waves rms, and whether the frame was refused."""
    estimate, _ = case.shipped
    row: Row = {"true": f"{case.spec.rms:g}", "refused": not estimate.trusted}
    if estimate.trusted:
        row["found"] = float(case.family.wavefront_rms(estimate.coefficients))
    return row


def summarise(rows: Sequence[Row]) -> list[Row]:
    """Return the means of each group."""
    return summary(rows, ("found", "refused"), "true")


def table(rows: Sequence[Row]) -> str:
    """Return the Markdown table of a summary."""
    return across(
        rows,
        "true",
        lambda row: f"{figure(row['found'], '.3f')} ({row['refused']:.0%})",
    )


SECTION = Section("zero", specs, score, summarise, table)
