"""A real core over both signal backends, and pipelines a worker process can import."""

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # spawn hands sys.path to the worker

from pymmcore_plus import CMMCorePlus


@pytest.fixture(params=["psygnal", "qt"])
def signal_backend(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Make cores of this test speak by psygnal or by Qt signals."""
    backend: str = request.param
    if backend == "qt":
        monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
        request.getfixturevalue("qapp")
    monkeypatch.setenv("PYMM_SIGNALS_BACKEND", backend)
    return backend


@pytest.fixture
def core(signal_backend: str) -> Iterator[CMMCorePlus]:
    """DemoCamera in its default configuration."""
    core = CMMCorePlus()
    core.loadSystemConfiguration()
    is_qt = type(core.events).__name__.startswith("Q")
    assert is_qt == (signal_backend == "qt")
    yield core
    if core.isSequenceRunning():
        core.stopSequenceAcquisition()
    core.unloadAllDevices()


class Results:
    """Collects what a listener answers, and waits for it."""

    def __init__(self) -> None:
        self.all: list = []
        self.errors: list[str] = []
        self.states: list = []
        self._changed = threading.Condition()

    def listen(self, listener) -> "Results":
        listener.events.resultReady.connect(self._add(self.all))
        listener.events.errorRaised.connect(self._add(self.errors))
        listener.events.workerStateChanged.connect(self._add(self.states))
        return self

    def _add(self, to: list) -> Callable[[object], None]:
        def add(item: object) -> None:
            with self._changed:
                to.append(item)
                self._changed.notify_all()

        self._keep = (*getattr(self, "_keep", ()), add)
        return add

    def wait(self, condition: Callable[[], object], timeout: float = 10.0) -> None:
        """Wait until `condition` holds, looked at with everything that comes."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout), (
                f"{len(self.all)} results, errors {self.errors}, states {self.states}"
            )


@pytest.fixture
def results() -> Results:
    return Results()


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """No thread of ours outlives its test."""
    yield
    left = [t.name for t in threading.enumerate() if t.name.startswith("deepblur")]
    assert left == []
