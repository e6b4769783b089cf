"""MkDocs hook: pages kept elsewhere in the repository, and the list of decisions."""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import normpath
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[1]

PAGES = {
    "model-card.md": "engines/zernike7/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
"""Page of the site → file of the repository."""

_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")
_MARKS = "<!-- records -->", "<!-- /records -->"


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and the list of decision records."""
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=adopted(source)))
    index = files.get_file_from_path("decisions/index.md")
    if index is not None:
        index.content_string = with_records(index.content_string)
    return files


def adopted(source: str) -> str:
    """Return the text of a file, its relative links as a page in ``docs`` needs them.

    A link to a file that is no page becomes its path.
    """
    text = (ROOT / source).read_text(encoding="utf-8")
    folder = Path(source).parent.as_posix()
    pages = {file: page for page, file in PAGES.items()}

    def link(match: re.Match[str]) -> str:
        path = normpath(f"{folder}/{match[1]}")
        if path in pages:
            return f"]({pages[path]}{match[2] or ''})"
        if path.startswith("docs/"):
            return f"]({path.removeprefix('docs/')}{match[2] or ''})"
        raise ValueError(f"{source}: a page cannot link to {path}")

    return _LINK.sub(link, text)


def with_records(index: str) -> str:
    """Return the index of decisions with a line for each record."""
    lines = []
    for path in sorted((ROOT / "docs/decisions").glob("[0-9]*.md")):
        title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        lines.append(f"- [{title}]({path.name})")
    before, rest = index.split(_MARKS[0])
    return "\n".join([before, *lines, rest.split(_MARKS[1])[1]])
