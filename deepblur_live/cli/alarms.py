"""What a run does at an alarm: the words of the command line and of the profile."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass, field
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
    from collections.abc import Callable, Iterable

    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent, MDASequence

    from deepblur_live.session.sinks import AlertSink

__all__ = ["Alarms"]

_RECALIBRATE = "mda-recalibrate"


@dataclass
class Alarms:
    """The sinks of a run, and the events of its MDA with a way in for them.

    Parameters
    ----------
    specs
        ``(origin, spec)`` each: where it stands, and its words.
    """

    specs: list[tuple[str, str]] = field(default_factory=list)

    def sinks(
        self,
        core: CMMCorePlus | None = None,
        sequence: MDASequence | None = None,
        on_error: Callable[[str], None] = lambda text: None,
    ) -> tuple[list[AlertSink], Iterable[MDAEvent] | None]:
        """Return the sinks, and what to run in place of `sequence`.

        Parameters
        ----------
        core, sequence
            The microscope and its MDA, where there are such.
        on_error
            Told when a recalibration has failed.

        Raises
        ------
        ValueError
            A spec is none, or cannot be met; the text names it and its origin.
        """
        # A function of the user's usually lies in the folder one is in.
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        events: Iterable[MDAEvent] | None = sequence
        sinks: list[AlertSink] = []
        for origin, spec in self.specs:
            handles, words = None, spec
            if spec.startswith("mda-"):
                if core is None or sequence is None:
                    raise ValueError(f"{origin} {spec!r}: there is no MDA: give --mda")
                handles = MdaHandles(core)
                if spec.partition(":")[0] == _RECALIBRATE:
                    if isinstance(events, InterruptibleEvents):
                        raise ValueError(
                            f"{origin} {spec!r}: there is one already: the function "
                            "that recalibrates can be one only"
                        )
                    _install(core, spec, origin, on_error)
                    events = InterruptibleEvents(sequence)
                    handles, words = MdaHandles(core, events.put), _RECALIBRATE
            sinks += make_sinks([words], origin, handles)
        if any(isinstance(sink, LogSink) for sink in sinks):
            _log_to_the_console()
        return sinks, events


def _install(
    core: CMMCorePlus, spec: str, origin: str, on_error: Callable[[str], None]
) -> None:
    place = spec.partition(":")[2]
    if not place:
        raise ValueError(
            f"{origin} {spec!r}: the acquisition engine passes over it: give the "
            "function that recalibrates, as mda-recalibrate:module:function"
        )
    try:
        function = find_function(place)
    except ValueError as error:
        raise ValueError(f"{origin} {spec!r}: {error}") from error
    core.mda.set_engine(RecalibratingEngine(core, function, on_error))


def _log_to_the_console() -> None:
    log = logging.getLogger(ALERT_LOGGER)
    if not log.handlers:
        # Standard error, with the time: where a service's log is kept.
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
