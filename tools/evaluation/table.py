"""Per-frame rows → a group-by → a Markdown table, as a `Section` declares it."""

from __future__ import annotations

import string
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from evaluation.case import Case, Plan, Spec

__all__ = ["Row", "Section", "grouped", "markdown"]

# What was measured on one frame, or, in a summary, on a group of frames.
Row = dict[str, Any]


class _Formatter(string.Formatter):
    """Formats a missing figure (NaN) as a dash."""

    def format_field(self, value: object, format_spec: str) -> str:
        return "–" if value != value else format(value, format_spec)


def grouped(rows: Sequence[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """Return the rows by the values of some keys, in order of appearance."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def _number(value: object) -> float:
    return value if isinstance(value, float) else 0.0


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


@dataclass(frozen=True)
class Section:
    """One part of the evaluation, which runs by itself or with the others.

    Its name (its key in ``SECTIONS``) is that of its marks in the model card and of its
    summary in the manifest.

    Parameters
    ----------
    specs
        The frames it needs. Sections that name the same frame share its `Case`, and so
        what was computed from it.
    score
        Measures one frame, in a worker process.
    columns
        Column heading → template of the figures of one group (`str.format`). Figures
        are means over the frames that have them.
    across
        A key whose values become the columns, each with the last of the templates.
    totals
        How a figure is aggregated, where not by its mean.
    pooled
        Whether each noise level begins with a row of all pictures.
    """

    specs: Callable[[Plan], list[Spec]]
    score: Callable[[Case], Row]
    columns: Mapping[str, str]
    across: str = ""
    totals: Mapping[str, Callable[[Sequence[Any]], Any]] = field(default_factory=dict)
    pooled: bool = False

    @property
    def _keys(self) -> tuple[str, ...]:
        return ("kind", "sigma", self.across) if self.across else ("kind", "sigma")

    def summarise(self, rows: Sequence[Row]) -> list[Row]:
        """Return one row per group: its keys, number of frames, and figures."""
        if self.pooled:
            both = [*(row | {"kind": "all"} for row in rows), *rows]
            rows = sorted(both, key=lambda row: float(row["sigma"]))
        if self.across:
            # Numbers ascend; conditions with a name stay in the order of the section.
            rows = sorted(rows, key=lambda row: _number(row[self.across]))
        names = [
            name
            for template in self.columns.values()
            for _, name, _, _ in string.Formatter().parse(template)
            if name and name not in (*self._keys, "frames")
        ]
        found = []
        for values, part in grouped(rows, *self._keys).items():
            row: Row = dict(zip(self._keys, values, strict=True))
            row["frames"] = len(part)
            for name in names:
                known = [r[name] for r in part if name in r]
                total = self.totals.get(name, _mean)
                row[name] = round(total(known), 4) if known else float("nan")
            found.append(row)
        return found

    def table(self, summary: Sequence[Row]) -> str:
        """Return a summary as a Markdown table."""
        texts = _Formatter()
        *columns, (_, last) = self.columns.items()
        if not self.across:
            columns.append(list(self.columns.items())[-1])
            lines = [[texts.vformat(t, (), row) for _, t in columns] for row in summary]
            return markdown([name for name, _ in columns], lines)
        values = list(dict.fromkeys(row[self.across] for row in summary))
        lines = []
        for part in grouped(summary, "kind", "sigma").values():
            cells = {row[self.across]: texts.vformat(last, (), row) for row in part}
            first = part[0] | {"frames": max(row["frames"] for row in part)}
            lines.append(
                [texts.vformat(template, (), first) for _, template in columns]
                + [cells.get(value, "–") for value in values]
            )
        return markdown([*(name for name, _ in columns), *map(str, values)], lines)


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
