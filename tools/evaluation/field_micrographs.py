"""Deblurred micrographs with blurs that vary over them, by how hard they were blurred.

All held-out micrographs, of the test and of the validation split, as there are few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from evaluation.field_frames import (
    DEBLURRED_COLUMNS,
    FieldFrame,
    deblurred,
    identified_field,
)
from evaluation.held_out import held_out_pictures
from evaluation.table import Section

if TYPE_CHECKING:
    from pathlib import Path

    from evaluation.table import Row

__all__ = ["micrograph_frames", "micrographs_table", "micrographs_work"]

_SIGMAS = (0.001, 0.01)
# Factors of the fields' coefficients, in turn.
_STRENGTHS = (0.5, 1.0, 1.5)
# Seeds, other than those of the fields that are identified.
_FIRST = 100
# Rows of the table: SSIM of the frame as it was taken, up to these.
_BINS = (0.5, 0.7, 0.85, 1.0)
_COLUMNS = {
    "raw SSIM": "{kind}",
    "frames": "{frames}",
    "test, validation": "{test}, {validation}",
    "σ": "{sigma:g}",
    **DEBLURRED_COLUMNS,
    "a field reported": "{field:.0%}",
    "answered": "{answered:.0%}",
}


def micrograph_frames(folder: Path, count: int) -> list[FieldFrame]:
    """Return `count` fields for each micrograph, at both noise levels.

    Their strengths take turns over the micrographs; the kind of a frame is its split.
    """
    found = [
        (split, path)
        for split in ("test", "validation")
        for path in held_out_pictures(folder, split)["micrographs"]
    ]
    return [
        FieldFrame(path, split, _FIRST + number, sigma, 1, strength)
        for number, (split, path) in enumerate(found * count)
        for strength in [_STRENGTHS[number % len(_STRENGTHS)]]
        for sigma in _SIGMAS
    ]


def micrographs_work(task: tuple[FieldFrame, str]) -> Row:
    """Return the figures of one frame, in a worker process."""
    torch.set_num_threads(1)
    frame, model = task
    _, solution, _ = identified_field(frame, model)
    return deblurred(frame, model) | {
        "file": frame.path.name,
        "number": frame.number,
        "sigma": frame.sigma,
        "strength": frame.strength,
        "test": int(frame.kind == "test"),
        "validation": int(frame.kind == "validation"),
        "field": float(solution.tracked is not None),
        "answered": float(solution.estimate.trusted),
        "reason": solution.estimate.reason or solution.note,
    }


def micrographs_table(rows: list[Row]) -> str:
    """Return the Markdown table: one row per noise level and range of raw SSIM."""
    shown = [
        row
        | {
            "kind": _range_of(row["raw_ssim"]),
            "worst": row["reported_psnr"] - row["one_psnr"],
        }
        for row in rows
    ]
    shown.sort(key=lambda row: (row["sigma"], row["raw_ssim"]))
    totals = {"worst": min, "test": sum, "validation": sum}
    section = Section(lambda plan: [], lambda case: {}, _COLUMNS, totals=totals)
    return section.table(section.summarise(shown))


def _range_of(ssim: float) -> str:
    upper = next(k for k, most in enumerate(_BINS) if ssim < most)
    if upper == 0:
        return f"below {_BINS[0]:g}"
    return f"{_BINS[upper - 1]:g} to {_BINS[upper]:g}"
