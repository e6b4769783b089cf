"""A pytest plugin that attaches a listener to every core, for pymmcore-plus' own tests.

The listener must not interfere: tests of pymmcore-plus that pass without it must pass
with it. They are in its source distribution, not in this repository::

    pip download pymmcore-plus==0.18.1 --no-binary :all: --no-deps
    tar xzf pymmcore_plus-0.18.1.tar.gz && cd pymmcore_plus-0.18.1
    PYTHONPATH=path/to/deepblur-live/tools \
        python -m pytest -p guest_plugin tests/test_core.py tests/test_mda.py

Each core gets a listener of its own, whose pipeline passes the frames on; it ends with
the test. A test fails if its listener reports an error of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pymmcore_plus.core import _mmcore_plus

from deepblur_live.acquisition import DeblurListener
from deepblur_live.runtime.frame import (
    FrameResult,
    FrameState,
    SynchronousPipeline,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymmcore_plus import CMMCorePlus
    from pymmcore_plus.mda import MDAEngine

    from deepblur_live.runtime.frame import Frame

_listeners: list[DeblurListener] = []


class PassOn(SynchronousPipeline):
    """Passes every frame on unchanged."""

    def process(self, frame: Frame) -> FrameResult:
        """Return the frame, raw."""
        return FrameResult(
            frame.info, FrameState.RAW_ONLY, "passed on", raw=frame.pixels
        )


_engine = _mmcore_plus.MDAEngine


def _engine_and_listener(core: CMMCorePlus, *args: Any, **more: Any) -> MDAEngine:
    """Stand in for the engine, which a core makes last.

    The constructor of a core cannot be replaced: its class is one of SWIG's.
    """
    engine = _engine(core, *args, **more)
    listener = DeblurListener(PassOn, in_process=True)
    listener.start()
    listener.attach(core)
    _listeners.append(listener)
    return engine


@pytest.fixture(autouse=True)
def attached_listeners(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Attach a listener to each core that the test makes."""
    monkeypatch.setattr(_mmcore_plus, "MDAEngine", _engine_and_listener)
    yield
    errors: list[str] = []
    while _listeners:
        listener = _listeners.pop()
        # Tests emit signals without a frame, and start cameras that send none.
        errors += [e for e in listener.background_errors if "the MDA was lost" in e]
        listener.close()
    assert not errors
