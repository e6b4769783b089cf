"""Whether the stated uncertainty is true: how often an interval holds the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt

from deepblur_live.optics import reach
from evaluation.case import Case, every_frame
from evaluation.identification import nearest_twin
from evaluation.section import Row, Section, figure, grouped, markdown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["SECTION", "draw", "inside"]

# Nominal coverage, and the measured one to be had.
BANDS = {0.68: (0.60, 0.76), 0.95: (0.90, 0.98)}


def score(case: Case) -> Row:
    """Return how many stated deviations each coefficient is from the truth."""
    estimate, _ = case.shipped
    if not estimate.trusted:
        return {"deviations": []}
    found = estimate.coefficients
    error = np.abs(found - nearest_twin(case, found))
    return {"deviations": list(error / np.sqrt(np.diag(estimate.covariance)))}


def _pooled(rows: Sequence[Row]) -> NDArray[np.float64]:
    return np.concatenate([np.asarray(row["deviations"], float) for row in rows])


def inside(deviations: NDArray[np.float64], nominal: float) -> float:
    """Return the share within the interval that should hold `nominal` of them."""
    if not len(deviations):
        return float("nan")
    return float(np.mean(deviations <= reach(nominal)))


def summarise(rows: Sequence[Row]) -> list[Row]:
    """Return the coverage of each noise level, all pictures together and each kind."""
    found: list[Row] = []
    for (sigma,), part in sorted(grouped(rows, "sigma").items()):
        groups = {"all": part} | {
            str(kind): some for (kind,), some in grouped(part, "kind").items()
        }
        for kind, some in groups.items():
            deviations = _pooled(some)
            shares = {
                f"inside_{100 * nominal:.0f}": round(inside(deviations, nominal), 4)
                for nominal in BANDS
            }
            found.append(
                {"kind": kind, "sigma": sigma, "coefficients": len(deviations)} | shares
            )
    return found


def table(rows: Sequence[Row]) -> str:
    """Return the Markdown table of a summary."""
    head = ["pictures", "σ", "coefficients"] + [
        f"inside {nominal:.0%} (goal {low:.0%} to {high:.0%})"
        for nominal, (low, high) in BANDS.items()
    ]
    lines = [
        [
            str(row["kind"]),
            f"{row['sigma']:g}",
            str(row["coefficients"]),
            figure(row["inside_68"], ".0%"),
            figure(row["inside_95"], ".0%"),
        ]
        for row in rows
    ]
    return markdown(head, lines)


def draw(rows: Sequence[Row], file: Path) -> None:
    """Draw measured against nominal coverage into a PNG, one line a noise level."""
    picture, axes = plt.subplots(figsize=(4.5, 4.2), dpi=100)
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    for nominal, (low, high) in BANDS.items():
        axes.plot(
            [nominal, nominal],
            [low, high],
            color="0.8",
            lw=7,
            solid_capstyle="butt",
            zorder=0,
        )
    levels = np.linspace(0.02, 0.99, 98)
    for (sigma,), part in sorted(grouped(rows, "sigma").items()):
        deviations = _pooled(part)
        measured = [inside(deviations, float(level)) for level in levels]
        axes.plot(
            levels, measured, label=f"σ {sigma:g}, {len(deviations)} coefficients"
        )
    axes.set(xlabel="nominal coverage", ylabel="measured coverage")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.legend(fontsize=7, loc="upper left", frameon=False)
    picture.tight_layout()
    picture.savefig(file)
    plt.close(picture)


SECTION = Section("coverage", every_frame, score, summarise, table)
