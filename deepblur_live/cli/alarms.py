"""Alert sinks of a run, as specified on the command line and in the profile."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from deepblur_live.session.sinks import (
    ALERT_LOGGER,
    LogSink,
    MdaHandles,
    find_function,
    make_sinks,
)
from deepblur_live.session.sinks.mda import InterruptibleEvents, RecalibratingEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent, MDASequence

    from deepblur_live.session.sinks import AlertSink

__all__ = ["alarm_sinks"]

_RECALIBRATE = "mda-recalibrate"


def alarm_sinks(
    specs: Sequence[tuple[str, str]],
    core: CMMCorePlus | None = None,
    sequence: MDASequence | None = None,
    on_error: Callable[[str], None] = lambda text: None,
) -> tuple[list[AlertSink], Iterable[MDAEvent] | None]:
    """Return the alert sinks of a run, and the events to run in place of its sequence.

    The events admit a recalibration between two events of the sequence.

    Parameters
    ----------
    specs
        Pairs ``(origin, spec)``: where a spec was given, and its text.
    core, sequence
        The microscope and its MDA, if any.
    on_error
        Called when a recalibration has failed.

    Raises
    ------
    ValueError
        A spec is invalid or impossible; the text names it and its origin.
    """
    # A user's function is usually in the current folder.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    events: Iterable[MDAEvent] | None = sequence
    sinks: list[AlertSink] = []
    for origin, spec in specs:
        handles, text = None, spec
        if spec.startswith("mda-"):
            if core is None or sequence is None:
                raise ValueError(f"{origin} {spec!r}: there is no MDA: give --mda")
            handles = MdaHandles(core)
            if spec.partition(":")[0] == _RECALIBRATE:
                if isinstance(events, InterruptibleEvents):
                    raise ValueError(
                        f"{origin} {spec!r}: mda-recalibrate is given twice: only one "
                        "function can recalibrate"
                    )
                _install(core, spec, origin, on_error)
                events = InterruptibleEvents(sequence)
                handles, text = MdaHandles(core, events.put), _RECALIBRATE
        sinks += make_sinks([text], origin, handles)
    if any(isinstance(sink, LogSink) for sink in sinks):
        _log_to_the_console()
    return sinks, events


def _install(
    core: CMMCorePlus, spec: str, origin: str, on_error: Callable[[str], None]
) -> None:
    """Replace the acquisition engine by one that calls the user's function."""
    place = spec.partition(":")[2]
    if not place:
        raise ValueError(
            f"{origin} {spec!r}: name the function that recalibrates: "
            "mda-recalibrate:module:function"
        )
    try:
        function = find_function(place)
    except ValueError as error:
        raise ValueError(f"{origin} {spec!r}: {error}") from error
    core.mda.set_engine(RecalibratingEngine(core, function, on_error))


def _log_to_the_console() -> None:
    log = logging.getLogger(ALERT_LOGGER)
    if not log.handlers:
        # To standard error with the time, as a service logs.
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
