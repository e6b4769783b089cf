"""Publishes what was measured: in a page's marked places, and in the manifest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from evaluation.table import Row

__all__ = ["into_manifest", "into_page", "missing_marks"]


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->", f"<!-- /{name} -->"


def missing_marks(page: Path, names: Sequence[str]) -> str:
    """Return which of some tables a page has no place for, as an error; else ""."""
    text = page.read_text("utf-8") if page.is_file() else ""
    lacking = [n for n in names if not all(text.count(mark) == 1 for mark in _marks(n))]
    if not lacking:
        return ""
    first, last = _marks(lacking[0])
    return (
        f"{page} has no place for {', '.join(lacking)}: add a line {first} and a line "
        f"{last}"
    )


def into_page(page: Path, tables: Mapping[str, str]) -> None:
    """Replace what a Markdown page has between each table's two marks."""
    text = page.read_text("utf-8")
    for name, table in tables.items():
        first, last = _marks(name)
        before, after = text.split(first, 1)
        text = f"{before}{first}\n{table}\n{last}{after.split(last, 1)[1]}"
    page.write_text(text, "utf-8", newline="\n")


def into_manifest(manifest: Path, summaries: Mapping[str, Sequence[Row]]) -> None:
    """Replace each section's summary under ``accuracy``; other sections stay."""
    content = json.loads(manifest.read_text("utf-8"))
    # JSON has no NaN: a figure that no frame of a group has.
    clean = {
        name: [
            {k: None if value != value else value for k, value in row.items()}
            for row in rows
        ]
        for name, rows in summaries.items()
    }
    content["accuracy"] = content.get("accuracy", {}) | clean
    manifest.write_text(json.dumps(content, indent=1) + "\n", "utf-8", newline="\n")
