"""Every package has its layer, and the lower ones load neither Qt nor the microscope.

Who may import whom is a contract in pyproject.toml that `lint-imports` checks.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import deepblur_live

PACKAGE = Path(deepblur_live.__file__).parent
FORBIDDEN = ("qtpy", "PyQt6", "PySide6", "pyqtgraph", "pymmcore", "pymmcore_plus")
# Of modules that are only imported where it is installed.
OPTIONAL = ("triton",)


def layers() -> list[str]:
    """Return the packages from the top to the bottom."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text("utf-8"))
    (contract,) = (
        contract
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    )
    return [
        name.strip().removeprefix("deepblur_live.")
        for layer in contract["layers"]
        for name in layer.split("|")
    ]


def test_every_package_has_its_layer() -> None:
    files = PACKAGE.rglob("*.py")
    names = {file.relative_to(PACKAGE).parts[0].removesuffix(".py") for file in files}
    assert names - {"__init__", "__main__"} == set(layers())


def test_lower_layers_and_reports_load_neither_qt_nor_the_microscope() -> None:
    everything = layers()
    lower = [*everything[everything.index("runtime") :], "session.report"]
    script = f"""
import importlib, pkgutil, sys
count = 0
for name in {lower!r}:
    module = importlib.import_module("deepblur_live." + name)
    path = getattr(module, "__path__", [])
    for info in pkgutil.walk_packages(path, module.__name__ + "."):
        try:
            importlib.import_module(info.name)
        except ModuleNotFoundError as error:
            if error.name not in {OPTIONAL!r}:
                raise
        count += 1
print(count, *sorted(set({FORBIDDEN!r}) & set(sys.modules)))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    count, *loaded = ran.stdout.split()
    assert int(count) > 10
    assert loaded == []


def test_the_loop_of_a_worker_loads_no_torch() -> None:
    """Which takes seconds, and its pipeline may not need it."""
    script = """
import sys
from deepblur_live.acquisition.worker import serve
from deepblur_live.drift import Gaussian
print(*sorted({"torch", "scipy"} & set(sys.modules)))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == []
