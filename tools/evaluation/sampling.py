"""Pixels finer and coarser than those that the networks were trained at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.optics import psf_snr, psnr
from evaluation.case import Case, Spec, under
from evaluation.deblurring import INNER, ours
from evaluation.section import Row, Section, across, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evaluation.plan import Plan

__all__ = ["SECTION"]

SIGMAS = (0.001, 0.01)
# λ/(NA·px) in pixels → nm; 3.83 is the paper's, exactly, and its frames are shared.
PIXEL_SIZES = {
    2.2: 540 / 1.41 / 2.2,
    3.0: 540 / 1.41 / 3.0,
    3.83: 100.0,
    4.8: 540 / 1.41 / 4.8,
    6.0: 540 / 1.41 / 6.0,
}


def specs(plan: Plan) -> list[Spec]:
    """Return some of the frames at each sampling."""
    conditions = [{"pixel_size_nm": size} for size in PIXEL_SIZES.values()]
    return under(plan, conditions, SIGMAS)


def score(case: Case) -> Row:
    """Return the PSF SNR and what deblurring gains in PSNR, both in dB.

    Both images are compared with the scene at this sampling.
    """
    estimate, _ = case.shipped
    frame = case.frame
    truth = frame.truth.numpy()[INNER]
    raw = psnr(frame.observed.numpy()[INNER], truth)
    return {
        "sampling": round(1 / case.family.cutoff, 2),
        "psf": float(psf_snr(case.psf_of(estimate), case.psf)),
        "gain": psnr(ours(case).numpy()[INNER], truth) - raw,
        "answered": estimate.trusted,
    }


def summarise(rows: Sequence[Row]) -> list[Row]:
    """Return the means of each group, the coarsest sampling first."""
    # The paper's own comes first otherwise, as other sections share its frames.
    ordered = sorted(rows, key=lambda row: float(row["sampling"]))  # type: ignore[arg-type]
    return summary(ordered, ("psf", "gain", "answered"), "sampling")


def table(rows: Sequence[Row]) -> str:
    """Return the Markdown table of a summary."""
    return across(
        rows,
        "sampling",
        lambda row: f"{row['psf']:.1f} / {row['gain']:+.1f} ({row['answered']:.0%})",
    )


SECTION = Section("sampling", specs, score, summarise, table)
