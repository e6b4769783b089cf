"""The documentation: its size, its links, and the names of the package in it."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import pytest

from deepblur_live.profile import check_profile

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("engines/*/README.md"),
    ]
)
# Pages of the site that a hook makes from files elsewhere.
MADE = {
    "docs/model-card.md": ROOT / "engines/zernike7/README.md",
    "docs/changelog.md": ROOT / "CHANGELOG.md",
    "docs/contributing.md": ROOT / "CONTRIBUTING.md",
}
_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)([^)\s#]*)(?:#([^)\s]+))?\)")
_NAME = re.compile(r"\bdeepblur_live(?:\.\w+)+")
_IMPORT = re.compile(r"^from (deepblur_live[\w.]*) import (.+)$", re.MULTILINE)


def _id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as MkDocs and Git hosts make them."""
    anchors = set()
    for heading in re.findall(r"^#+ (.+)$", _FENCE.sub("", _text(path)), re.MULTILINE):
        own = re.search(r"\{#([\w-]+)\}", heading)
        plain = re.sub(r"[^\w\s-]", "", heading.lower().replace("`", ""))
        anchors.add(own[1] if own else re.sub(r"\s+", "-", plain.strip()))
    return anchors


def test_the_readme_is_short() -> None:
    assert (ROOT / "README.md").stat().st_size <= 5000


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_links_lead_somewhere(page: Path) -> None:
    for place, anchor in _LINK.findall(_FENCE.sub("", _text(page))):
        target = (page.parent / place).resolve() if place else page
        target = MADE.get(target.relative_to(ROOT).as_posix(), target)
        assert target.exists(), place
        if anchor and target.suffix == ".md":
            assert anchor in _anchors(target), f"{place}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_names_of_the_package_exist(page: Path) -> None:
    text = _text(page)
    for name in _NAME.findall(text):
        _resolve(name)
    for module, imported in _IMPORT.findall(text):
        for name in imported.split(","):
            _resolve(f"{module}.{name.strip()}")
    api = importlib.import_module("deepblur_live")
    for name in re.findall(r"\bdbl\.(\w+)", text):
        assert name in api.__all__, f"dbl.{name}"


def _resolve(name: str) -> None:
    """Import a dotted name; the end may be an attribute of an attribute."""
    if (ROOT / name).exists():  # the file of a path such as deepblur_live.toml
        return
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            assert hasattr(found, part), f"{name}: no {part}"
            found = getattr(found, part)
        return
    raise AssertionError(name)


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_paths_of_the_repository_exist(page: Path) -> None:
    if "decisions" in page.parts:  # records name files that were removed with them
        return
    inside = r"`((?:deepblur_live|docs|engines|tools|tests)/[\w./-]+)`"
    for path in re.findall(inside, _text(page)):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_toml_is_a_profile(page: Path) -> None:
    for _, language, block in _FENCE.findall(_text(page)):
        if language == "toml":
            check_profile(tomllib.loads(block), _id(page))


def test_keys_of_the_profile_exist() -> None:
    from deepblur_live.profile import Profile

    sections = {name: type(value) for name, value in Profile()}
    for page in PAGES:
        if page.name == "CHANGELOG.md":  # it names old keys, too
            continue
        for section, key in re.findall(r"`([a-z]+)\.([a-z_]+)[` ]", _text(page)):
            is_file = key in ("csv", "png")
            if hasattr(sections.get(section), "model_fields") and not is_file:
                assert key in sections[section].model_fields, f"{page}: {section}.{key}"


def test_each_decision_has_its_number() -> None:
    for path in (ROOT / "docs/decisions").glob("[0-9]*.md"):
        assert _text(path).startswith(f"# {path.name[:4]}: "), path.name


def test_pages_use_plain_words() -> None:
    metaphors = r"\b(anew|twins?|told apart|numbers that are none|cannot tell)\b"
    for page in PAGES:
        found = re.search(metaphors, _text(page))
        assert found is None or "decisions" in page.parts, f"{page}: {found}"
