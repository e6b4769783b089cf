"""What a section of the evaluation is: which frames, what is measured, which table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evaluation.case import Case, Spec
    from evaluation.plan import Plan

__all__ = [
    "BLURS",
    "Row",
    "Section",
    "across",
    "figure",
    "grouped",
    "markdown",
    "mean",
    "summary",
]

# What was measured on one frame (or, in a summary, on a group of frames).
Row = dict[str, object]

# Each picture is blurred so many times: one blur a picture scatters by a decibel.
BLURS = 2


@dataclass(frozen=True)
class Section:
    """One part of the evaluation, which runs by itself or with the others.

    Parameters
    ----------
    name
        For ``--only``, and for the section's place in the README and the manifest.
    specs
        The frames it needs. Sections that name the same frame share its `Case`, and so
        what was computed of it.
    score
        Measures one frame, in a worker process.
    summarise
        Rows of all frames → few rows: what the manifest keeps.
    table
        The summary as Markdown.
    """

    name: str
    specs: Callable[[Plan], list[Spec]]
    score: Callable[[Case], Row]
    summarise: Callable[[Sequence[Row]], list[Row]]
    table: Callable[[Sequence[Row]], str]


def mean(rows: Sequence[Row], key: str) -> float:
    """Return the mean of a key over the rows that have it; NaN when none has."""
    values = [float(row[key]) for row in rows if key in row]  # type: ignore[arg-type]
    return float(np.mean(values)) if values else float("nan")


def grouped(rows: Sequence[Row], *keys: str) -> dict[tuple[object, ...], list[Row]]:
    """Return the rows by the values of some keys, in order of appearance."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def summary(rows: Sequence[Row], columns: Sequence[str], *keys: str) -> list[Row]:
    """Return one row for each kind, noise level and value of `keys`: column means."""
    names = ("kind", "sigma", *keys)
    return [
        dict(zip(names, values, strict=True))
        | {"frames": len(part)}
        | {column: round(mean(part, column), 4) for column in columns}
        for values, part in grouped(rows, *names).items()
    ]


def figure(value: object, form: str) -> str:
    """Return a number as text, a dash where there is none."""
    return "–" if value != value else format(value, form)


def across(rows: Sequence[Row], key: str, cell: Callable[[Row], str]) -> str:
    """Return a Markdown table: kinds and noise levels down, values of `key` across."""
    values = list(dict.fromkeys(str(row[key]) for row in rows))
    lines = []
    for (kind, sigma), part in grouped(rows, "kind", "sigma").items():
        cells = {str(row[key]): cell(row) for row in part}
        lines.append(
            [
                f"{max(row['frames'] for row in part)} {kind}",  # type: ignore[type-var]
                f"{sigma:g}",
                *(cells.get(value, "–") for value in values),
            ]
        )
    return markdown(["pictures", "σ", *values], lines)


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
