"""Sinks from their specification in a profile or on the command line."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deepblur_live.session.sinks.command import CommandSink
from deepblur_live.session.sinks.local import (
    CallableSink,
    JsonlSink,
    LogSink,
    find_function,
)
from deepblur_live.session.sinks.webhook import WebhookSink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent

    from deepblur_live.session.sinks.base import AlertSink

__all__ = ["MdaHandles", "make_sinks", "without_secret"]


@dataclass(frozen=True)
class MdaHandles:
    """The MDA that ``mda-pause`` and ``mda-recalibrate`` act on.

    Parameters
    ----------
    core
        Runs the MDA.
    put
        Inserts an event into it; None if that is not possible.
    """

    core: CMMCorePlus
    put: Callable[[MDAEvent], object] | None = None


def make_sinks(
    specs: Sequence[str], origin: str, mda: MdaHandles | None = None
) -> list[AlertSink]:
    """Return one sink per specification.

    Parameters
    ----------
    specs
        As in a profile's ``alerts.on_alarm``: ``log``, ``jsonl:PATH``,
        ``webhook:URL``, ``command:PROGRAM ARGUMENTS``, ``python:module:function``,
        ``mda-pause``, ``mda-recalibrate``.
    origin
        Where they are written; an error message begins with it.
    mda
        The MDA, if there is one.

    Raises
    ------
    ValueError
        A specification is invalid; the message names it.
    """
    sinks = []
    for spec in specs:
        try:
            sinks.append(_make(spec, mda))
        except ValueError as error:
            raise ValueError(f"{origin} {spec!r}: {error}") from error
    return sinks


def without_secret(spec: str) -> str:
    """Return a specification that may be stored: a webhook by its host only."""
    kind, _, rest = spec.partition(":")
    if kind != "webhook":
        return spec
    try:
        return WebhookSink(rest).name
    except ValueError:
        return "webhook:…"


def _make(spec: str, mda: MdaHandles | None) -> AlertSink:
    kind, _, rest = spec.partition(":")
    if kind == "mda-recalibrate" and rest:
        raise ValueError("works only with `deepblur-live run --mda`")
    if kind.startswith("mda-") and rest:
        raise ValueError(f"{kind} takes no argument here")
    match kind, bool(rest):
        case "log", False:
            return LogSink()
        case "jsonl", True:
            return JsonlSink(Path(rest))
        case "webhook", True:
            return WebhookSink(rest)
        case "command", True:
            return CommandSink(_arguments(rest))
        case "python", True:
            return CallableSink(find_function(rest), f"python:{rest}")
        case "mda-pause", False:
            if mda is None:
                raise ValueError("there is no MDA here that can be paused")
            # pymmcore-plus is slow to import: only where there is a core.
            from deepblur_live.session.sinks.mda import MdaPauseSink

            return MdaPauseSink(mda.core)
        case "mda-recalibrate", False:
            if mda is None or mda.put is None:
                raise ValueError("there is no MDA here that accepts a recalibration")
            from deepblur_live.session.sinks.mda import RecalibrateSink

            return RecalibrateSink(mda.put)
    raise ValueError(
        "must be log, jsonl:PATH, webhook:URL, command:PROGRAM ARGUMENTS, "
        "python:module:function, mda-pause or mda-recalibrate"
    )


def _arguments(line: str) -> list[str]:
    """Return the arguments in a line with quotes, or in a JSON list.

    A backslash is literal, as in the paths of Windows.
    """
    if line.lstrip().startswith("["):
        try:
            listed = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"not a JSON list: {error}") from error
        if not listed or not all(isinstance(item, str) for item in listed):
            raise ValueError("must be a JSON list of strings, the program first")
        return list(listed)
    words = shlex.shlex(line, posix=True, punctuation_chars=False)
    words.whitespace_split, words.commenters, words.escape = True, "", ""
    try:
        return list(words)
    except ValueError as error:
        raise ValueError(f"{line}: {str(error).lower()}") from error
