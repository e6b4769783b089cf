"""The report: what ran, what failed, what was skipped and why, and every figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proving.runner import Outcome
    from proving.stage import Figure

__all__ = ["as_markdown", "summary"]


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return the table of stages."""
    rows = [
        (each.name, each.status, f"{each.seconds:.0f}", _cell(each.why))
        for each in outcomes
    ]
    return _table(("stage", "status", "seconds", "why"), rows)


def as_markdown(outcomes: Sequence[Outcome]) -> str:
    """Return the whole report."""
    parts = [summary(outcomes)]
    for outcome in outcomes:
        if outcome.figures:
            rows = [_row(figure) for figure in outcome.figures]
            head = ("what", "found", "floor", "found over floor")
            parts.append(f"## {outcome.name}\n\n{_table(head, rows)}")
    return "\n\n".join(parts) + "\n"


def _row(figure: Figure) -> tuple[str, ...]:
    found = f"{_number(figure.value)} {figure.unit}".strip()
    if not figure.passed:
        found += " **(failed)**"
    floor = ratio = ""
    if figure.floor and isinstance(figure.value, int | float):
        floor = f"{_number(figure.floor)} {figure.unit}"
        ratio = f"{figure.value / figure.floor:.1f}"
    return _cell(figure.what), _cell(found), floor, ratio


def _number(value: float | int | str) -> str:
    """Return a number with three significant digits, anything else as it is."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
