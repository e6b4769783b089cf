"""Which room may know which, and what the lower rooms never load."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import deepblur_live

PACKAGE = Path(deepblur_live.__file__).parent
LOWER = ("optics", "identification", "deblurring", "runtime", "drift", "profile")
FORBIDDEN = ("qtpy", "PyQt6", "PySide6", "pyqtgraph", "pymmcore", "pymmcore_plus")


def contract() -> list[set[str]]:
    """Return the rooms from the top to the bottom, as pyproject.toml declares them."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text("utf-8"))
    (layers,) = (
        contract["layers"]
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    )
    return [
        {room.strip().removeprefix("deepblur_live.") for room in layer.split("|")}
        for layer in layers
    ]


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imported(path: Path) -> set[str]:
    """Return every module of the package that a file imports, at any depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("deepblur_live.")}


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_knows_only_the_rooms_below_it(path: Path) -> None:
    height = {room: -level for level, rooms in enumerate(contract()) for room in rooms}
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module in imported(path):
        other = room(module)
        if own == other or own not in height:
            continue
        assert other in height, f"{path}: {module} has no place in the contract"
        assert height[other] < height[own], f"{path}: {own} must not know {module}"


def test_every_room_has_its_place_in_the_contract() -> None:
    rooms = {file.relative_to(PACKAGE).parts[0].removesuffix(".py") for file in FILES}
    placed = set().union(*contract())
    assert rooms - placed == {"__init__", "__main__"}
    assert placed <= rooms


def test_the_lower_rooms_load_neither_qt_nor_the_microscope() -> None:
    script = f"""
import importlib, pkgutil, sys
import deepblur_live
names = []
for info in pkgutil.walk_packages(deepblur_live.__path__, "deepblur_live."):
    if info.name.split(".")[1] in {LOWER!r}:
        importlib.import_module(info.name)
        names.append(info.name)
print(len(names), *sorted(set({FORBIDDEN!r}) & set(sys.modules)))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    count, *loaded = ran.stdout.split()
    assert int(count) > 10
    assert loaded == []
