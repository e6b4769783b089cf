"""Sinks from the words of a command line or a profile: ``webhook:https://…``."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deepblur_live.session.sinks.command import CommandSink
from deepblur_live.session.sinks.files import JsonlSink, LogSink
from deepblur_live.session.sinks.python import CallableSink, find_function
from deepblur_live.session.sinks.webhook import WebhookSink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent

    from deepblur_live.session.sinks.notice import AlertSink

__all__ = ["MdaHandles", "make_sinks", "without_secret"]


@dataclass(frozen=True)
class MdaHandles:
    """The acquisition that ``mda-…`` acts on.

    Parameters
    ----------
    core
        Whose MDA.
    put
        Takes an event into it; None where there is no way in.
    """

    core: CMMCorePlus
    put: Callable[[MDAEvent], object] | None = None


def make_sinks(
    specs: Sequence[str], origin: str, mda: MdaHandles | None = None
) -> list[AlertSink]:
    """Return a sink a spec.

    Parameters
    ----------
    specs
        As a profile's ``alerts.on_alarm`` holds them: ``log``, ``jsonl:PATH``,
        ``webhook:URL``, ``command:PROGRAM ARGUMENTS``, ``python:module:function``,
        ``mda-pause``, ``mda-recalibrate``.
    origin
        Where they stand; the error begins with it.
    mda
        What ``mda-…`` acts on.

    Raises
    ------
    ValueError
        A spec is none, or names what there is not; the text names it.
    """
    sinks = []
    for spec in specs:
        try:
            sinks.append(_sink(spec, mda))
        except ValueError as error:
            raise ValueError(f"{origin} {spec!r}: {error}") from error
    return sinks


def without_secret(spec: str) -> str:
    """Return a spec as it may be kept with a session: a webhook's by its host alone."""
    kind, _, rest = spec.partition(":")
    if kind != "webhook":
        return spec
    try:
        return WebhookSink(rest).name
    except ValueError:
        return "webhook:…"


def _sink(spec: str, mda: MdaHandles | None) -> AlertSink:
    kind, _, rest = spec.partition(":")
    if kind in _MDA:
        if rest:
            raise ValueError(f"nothing follows {kind} here")
        return _MDA[kind](mda)
    if kind == "log" and not rest:
        return LogSink()
    make = _MAKERS.get(kind)
    if make is None or not rest:
        raise ValueError(
            "must be log, jsonl:PATH, webhook:URL, command:PROGRAM ARGUMENTS, "
            "python:module:function, mda-pause or mda-recalibrate"
        )
    return make(rest)


def _jsonl(rest: str) -> AlertSink:
    path = Path(rest)
    if path.exists() and not (path.is_file() or path.is_char_device()):
        # To open a pipe that nobody reads would wait for ever.
        raise ValueError(f"{path}: is not a file")
    try:
        # Found out now, not at the first alarm of the night.
        path.open("ab").close()
    except OSError as error:
        raise ValueError(f"{path}: cannot be written: {error.strerror}") from error
    return JsonlSink(path)


def _command(rest: str) -> AlertSink:
    return CommandSink(_arguments(rest))


def _python(rest: str) -> AlertSink:
    return CallableSink(find_function(rest), f"python:{rest}")


def _mda_pause(mda: MdaHandles | None) -> AlertSink:
    if mda is None:
        raise ValueError("there is no MDA here to be paused")
    # The microscope's libraries take their time to come: only where there is one.
    from deepblur_live.session.sinks.mda_pause import MdaPauseSink

    return MdaPauseSink(mda.core)


def _mda_recalibrate(mda: MdaHandles | None) -> AlertSink:
    if mda is None or mda.put is None:
        raise ValueError("there is no MDA here that takes a recalibration")
    from deepblur_live.session.sinks.mda import RecalibrateSink

    return RecalibrateSink(mda.put)


_MAKERS: dict[str, Callable[[str], AlertSink]] = {
    "jsonl": _jsonl,
    "webhook": WebhookSink,
    "command": _command,
    "python": _python,
}
_MDA: dict[str, Callable[[MdaHandles | None], AlertSink]] = {
    "mda-pause": _mda_pause,
    "mda-recalibrate": _mda_recalibrate,
}


def _arguments(line: str) -> list[str]:
    """Return the arguments of a line, or of a JSON list; no shell's rules but quotes.

    A backslash is a backslash, as Windows' paths need it.
    """
    if line.lstrip().startswith("["):
        try:
            listed = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"not a JSON list: {error}") from error
        if not listed or not all(isinstance(item, str) for item in listed):
            raise ValueError("must be a JSON list of texts, the program first")
        return list(listed)
    words = shlex.shlex(line, posix=True, punctuation_chars=False)
    words.whitespace_split, words.commenters, words.escape = True, "", ""
    try:
        return list(words)
    except ValueError as error:
        raise ValueError(f"{line}: {str(error).lower()}") from error
