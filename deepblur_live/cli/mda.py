"""Run an MDA on a thread, which ends with the run."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Self

from useq import MDASequence

from deepblur_live.cli.cores import MicroscopeError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent

__all__ = ["MdaRun", "load_sequence"]

_log = logging.getLogger(__name__)

_JOIN_S = 30.0
_AGAIN_S = 0.1


def load_sequence(file: Path) -> MDASequence:
    """Read a `useq.MDASequence` from YAML or JSON.

    Raises
    ------
    MicroscopeError
        The file cannot be read, is not a sequence, or has no events; the text names
        the file and the first mistake.
    """
    try:
        sequence = MDASequence.from_file(file)
        empty = next(iter(sequence), None) is None
    except OSError as error:
        raise MicroscopeError(f"{file}: cannot be read: {error.strerror}") from error
    except Exception as error:  # pydantic's, yaml's, or useq's own
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise MicroscopeError(
            f"{file}: not a useq sequence (YAML or JSON): {' '.join(lines[:3])}"
        ) from error
    if empty:
        raise MicroscopeError(
            f"{file}: a useq sequence without any event: add a time_plan, "
            "stage_positions, channels or a z_plan"
        )
    return sequence


class MdaRun:
    """Runs a sequence on its own thread; a context manager that cancels it.

    Parameters
    ----------
    core
        The microscope.
    events
        The sequence, or an iterator over its events.
    save
        File for the raw frames, written by pymmcore-plus (``.ome.zarr`` or
        ``.ome.tiff``); None keeps none.

    Raises
    ------
    MicroscopeError
        `save` exists already.
    """

    def __init__(
        self, core: CMMCorePlus, events: Iterable[MDAEvent], save: Path | None = None
    ) -> None:
        if save is not None and save.exists():
            raise MicroscopeError(f"{save} exists already: give another name")
        self._core = core
        self._events = events
        self._save = save
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="MDA", daemon=True)

    def start(self) -> None:
        """Start the sequence."""
        self._thread.start()

    @property
    def ended(self) -> bool:
        """True once the sequence has ended.

        Raises
        ------
        MicroscopeError
            It ended with an error.
        """
        if self._failure is not None:
            raise MicroscopeError(f"the MDA ended: {self._failure}") from self._failure
        return self._thread.ident is not None and not self._thread.is_alive()

    def __enter__(self) -> Self:
        """Return itself; `start` starts the sequence."""
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel the sequence and wait for the current frame."""
        deadline = time.monotonic() + _JOIN_S
        while self._thread.is_alive():
            if time.monotonic() > deadline:
                _log.error("the MDA did not end within %.0f s", _JOIN_S)
                break
            # Repeatedly: pymmcore-plus (0.18) ignores a request that comes just before
            # an event begins.
            self._core.mda.cancel()
            self._thread.join(_AGAIN_S)

    def _run(self) -> None:
        try:
            self._core.mda.run(self._events, output=self._save)
        except Exception as error:  # raised by `ended`
            self._failure = error
