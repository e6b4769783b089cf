"""Putting what was measured where people read it: the README and the manifest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from evaluation.section import Row

__all__ = ["into_manifest", "into_readme", "missing_places"]


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->", f"<!-- /{name} -->"


def missing_places(readme: Path, names: Sequence[str]) -> list[str]:
    """Return the sections that a README has no place for."""
    text = readme.read_text("utf-8")
    return [n for n in names if not all(text.count(mark) == 1 for mark in _marks(n))]


def into_readme(readme: Path, tables: Mapping[str, str]) -> None:
    """Put each section's table between its two marks."""
    text = readme.read_text("utf-8")
    for name, table in tables.items():
        first, last = _marks(name)
        before, rest = text.split(first, 1)
        after = rest.split(last, 1)[1]
        text = f"{before}{first}\n{table}\n{last}{after}"
    readme.write_text(text, "utf-8")


def into_manifest(manifest: Path, summaries: Mapping[str, Sequence[Row]]) -> None:
    """Put each section's summary under ``accuracy``; other sections stay."""
    content = json.loads(manifest.read_text("utf-8"))
    # JSON has no NaN: what no frame of a group told.
    clean = {
        name: [
            {k: None if value != value else value for k, value in row.items()}
            for row in rows
        ]
        for name, rows in summaries.items()
    }
    content["accuracy"] = content.get("accuracy", {}) | clean
    manifest.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
