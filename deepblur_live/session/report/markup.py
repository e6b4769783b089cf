"""HTML elements that all reports use; pages need no other file."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING

from deepblur_live.session.palette import STATES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["chip", "code", "style", "table"]


def style() -> str:
    """Return the style sheet of the reports, for light and dark screens and paper."""
    return Path(__file__).with_name("style.css").read_text("utf-8")


def table(
    rows: Iterable[Sequence[str]],
    head: Sequence[str] = (),
    numeric: Sequence[int] | range = (),
) -> str:
    """Return a table of HTML cells, with the columns of numbers in `numeric`."""

    def line(tag: str, cells: Sequence[str]) -> str:
        kinds = [f"{tag} class=n" if k in numeric else tag for k in range(len(cells))]
        inner = zip(kinds, cells, strict=True)
        return f"<tr>{''.join(f'<{kind}>{cell}</{tag}>' for kind, cell in inner)}</tr>"

    top = line("th", head) if head else ""
    body = "".join(line("td", row) for row in rows)
    return f"<div class=scroll><table>{top}{body}</table></div>"


def chip(level: str, name: str = "") -> str:
    """Return a state's name, or `name` instead of it, on the state's colour."""
    colour = STATES.get(level, "#888")
    text = html.escape((name or level).upper())
    return f'<span class=chip style="background:{colour}">{text}</span>'


def code(value: object) -> str:
    """Return a value in a fixed-width font."""
    return f"<code>{html.escape(str(value))}</code>"
