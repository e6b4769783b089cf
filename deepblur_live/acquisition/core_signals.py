"""Connect to a core's signals so that the slot runs where the signal is emitted."""

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
    """Connect `slot` and return what disconnects it.

    A plain slot on a Qt signal would run queued in the thread that connected it: it
    would freeze the window, and queue frames without bound.

    Parameters
    ----------
    signal
        A psygnal or Qt signal of a core.
    slot
        Must not raise: psygnal would skip everyone else's slots, Qt may abort.
    """
    _connect(signal, slot)

    def disconnect() -> None:
        # The signal may be gone with its core, or disconnected by its owner.
        with contextlib.suppress(RuntimeError, TypeError, ValueError):
            signal.disconnect(slot)

    return disconnect


def _connect(signal: Any, slot: Callable[..., object]) -> None:
    if not isinstance(signal, SignalInstance):
        # The wrapper pymmcore-plus puts around a signal that once had more arguments
        # takes the slot alone; and where no Qt loads the signal is none of Qt's.
        with contextlib.suppress(TypeError, ImportError):
            from qtpy.QtCore import Qt

            signal.connect(slot, Qt.ConnectionType.DirectConnection)
            return
    signal.connect(slot)


def let_core_exit(core: CMMCorePlus) -> None:
    """See to it that the interpreter can exit while `core` is alive; once a core.

    The C++ side may call back into an interpreter that is going down, which aborts it
    (exit code 134).
    """
    if core not in _guarded:
        _guarded.add(core)
        atexit.register(_unregister_callback, weakref.ref(core))


def _unregister_callback(reference: weakref.ref[CMMCorePlus]) -> None:
    import pymmcore

    core = reference()
    if core is not None:
        pymmcore.CMMCore.registerCallback(core, None)
