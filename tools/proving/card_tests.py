"""The tests that need a card, run by pytest if it is installed."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proving.stage import Context, Figure, NotHere

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["card_tests"]

_TESTS = Path(__file__).parents[2] / "tests"
_REASON = "needs a CUDA card"
# What all tests of a file need it for.
_WHOLE = ("test_triton.py",)
_DRY = ("runtime/test_graph.py",)


class _CardOnly:
    """Selects the tests that are skipped without a card, and counts what they do."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.skipped: list[str] = []
        self.failed: dict[str, str] = {}
        self.lacking: dict[str, str] = {}

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        def is_chosen(item: Any) -> bool:
            reasons = (m.kwargs.get("reason") for m in item.iter_markers("skipif"))
            return item.path.name in _WHOLE or _REASON in reasons

        config.hook.pytest_deselected(items=[i for i in items if not is_chosen(i)])
        items[:] = [item for item in items if is_chosen(item)]

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            lines = str(report.longrepr).strip().splitlines()
            # The microscope's packages need not be there.
            lacks = "ModuleNotFoundError" in lines[-1]
            where = self.lacking if lacks else self.failed
            where[report.nodeid] = f"not collected: {lines[-1][:150]}"

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            lines = str(report.longrepr).strip().splitlines()
            self.failed[report.nodeid] = lines[-1][:150]
        elif report.skipped:
            self.skipped.append(report.nodeid)
        elif report.when == "call":
            self.passed.append(report.nodeid)


def card_tests(context: Context) -> Iterator[Figure]:
    """Run the tests that are skipped where there is no card."""
    try:
        import pytest
    except ImportError as error:
        raise NotHere("pytest is not installed") from error
    files = sorted(
        file
        for file in _TESTS.rglob("test_*.py")
        if _REASON in file.read_text("utf-8") or file.name in _WHOLE
    )
    if context.dry:
        files = [_TESTS / name for name in _DRY]
    # The project's settings ask for plug-ins that a bare machine lacks.
    settings = context.out / "pytest.ini"
    settings.write_text("[pytest]\n", "utf-8")
    chosen = _CardOnly()
    log = context.out / "card_tests.txt"
    arguments = [
        *("-c", str(settings), "--rootdir", str(_TESTS.parent), "-q"),
        *("-p", "no:cacheprovider", "--import-mode=importlib"),
        *("--continue-on-collection-errors", *map(str, files)),
    ]
    with log.open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file):
        pytest.main(arguments, plugins=[chosen])
    yield Figure("passed", len(chosen.passed))
    yield Figure("skipped", len(chosen.skipped))
    yield Figure("failed", len(chosen.failed), passed=not chosen.failed)
    for name, why in chosen.lacking.items():
        yield Figure(name, why)
    for name, why in chosen.failed.items():
        yield Figure(name, why, passed=False)
