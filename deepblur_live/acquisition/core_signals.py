"""Connect to a core's signals so that slots run on the emitting thread."""

from __future__ import annotations

import atexit
import contextlib
import weakref
from typing import TYPE_CHECKING, Any

from psygnal import SignalInstance

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymmcore_plus import CMMCorePlus

__all__ = ["connect_direct", "let_core_exit"]

_guarded: weakref.WeakSet[CMMCorePlus] = weakref.WeakSet()


def connect_direct(signal: Any, slot: Callable[..., object]) -> Callable[[], None]:
    """Connect `slot` and return a function that disconnects it.

    An ordinary slot of a Qt signal would be queued in the thread that connected it,
    which would freeze the window, and queue frames without bound.

    Parameters
    ----------
    signal
        A psygnal or Qt signal of a core.
    slot
        Must not raise: psygnal would skip all other slots, Qt may abort.
    """
    _connect(signal, slot)

    def disconnect() -> None:
        # The signal may be gone with its core, or disconnected by its owner.
        with contextlib.suppress(RuntimeError, TypeError, ValueError):
            signal.disconnect(slot)

    return disconnect


def _connect(signal: Any, slot: Callable[..., object]) -> None:
    if not isinstance(signal, SignalInstance):
        # pymmcore-plus wraps a signal that once had more arguments: the wrapper accepts
        # only the slot. And where Qt cannot be loaded the signal is not one of Qt.
        with contextlib.suppress(TypeError, ImportError):
            from qtpy.QtCore import Qt

            signal.connect(slot, Qt.ConnectionType.DirectConnection)
            return
    signal.connect(slot)


def let_core_exit(core: CMMCorePlus) -> None:
    """Let the interpreter exit while `core` is alive; done once per core.

    The C++ side may call back into an interpreter that is shutting down, which aborts
    it (exit code 134).
    """
    if core not in _guarded:
        _guarded.add(core)
        atexit.register(_unregister_callback, weakref.ref(core))


def _unregister_callback(reference: weakref.ref[CMMCorePlus]) -> None:
    import pymmcore

    core = reference()
    if core is not None:
        pymmcore.CMMCore.registerCallback(core, None)
