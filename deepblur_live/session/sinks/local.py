"""Alerts within this program: its log, a JSONL file, a user's function."""

from __future__ import annotations

import errno
import importlib
import json
import logging
import os
from typing import TYPE_CHECKING, Any

from deepblur_live.session.sinks.base import AlertNotice, AlertSink, NoticeKind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from io import FileIO
    from pathlib import Path

__all__ = ["ALERT_LOGGER", "CallableSink", "JsonlSink", "LogSink", "find_function"]

ALERT_LOGGER = "deepblur_live.alerts"
"""Name of the logger that `LogSink` writes to."""


class LogSink(AlertSink):
    """A line in Python's log: a warning if raised, for information otherwise."""

    name = "log"
    kinds = frozenset(NoticeKind)

    def deliver(self, notice: AlertNotice) -> None:
        """Write the line."""
        raised = notice.kind is NoticeKind.RAISED
        level = logging.WARNING if raised else logging.INFO
        logging.getLogger(ALERT_LOGGER).log(level, "%s", notice.text)


class JsonlSink(AlertSink):
    """One JSON object per line, appended to a file that sessions may share.

    Parameters
    ----------
    path
        Created if missing; opened for each line, so that it may be moved away.

    Raises
    ------
    ValueError
        The file cannot be written.
    """

    kinds = frozenset(NoticeKind)

    def __init__(self, path: Path) -> None:
        if path.exists() and not (path.is_file() or path.is_char_device()):
            # Opening a pipe that nobody reads would block forever.
            raise ValueError(f"{path}: is not a file")
        try:
            # Checked now, not at the first alarm.
            path.open("ab").close()
        except OSError as error:
            raise ValueError(f"{path}: cannot be written: {error.strerror}") from error
        self.path = path
        self.name = f"jsonl:{path}"

    def deliver(self, notice: AlertNotice) -> None:
        """Append the line.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        line = json.dumps(notice.record(), ensure_ascii=False, allow_nan=False) + "\n"
        # A single write in append mode: lines of two programs do not mix.
        with self.path.open("a+b", buffering=0) as file:
            if not _ends_a_line(file):
                # The file may end with part of a line, from when the disk was full.
                line = "\n" + line
            data = line.encode()
            if file.write(data) != len(data):
                raise OSError(errno.ENOSPC, "only a part could be written")


def _ends_a_line(file: FileIO) -> bool:
    if not file.seekable() or not file.seek(0, os.SEEK_END):
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


class CallableSink(AlertSink):
    """Calls a function with each notice, on the sink's own thread.

    Parameters
    ----------
    function
        Called with an `AlertNotice`.
    name
        Used in its error messages.
    kinds
        The notices that it receives; by default, that an alarm was raised.
    """

    def __init__(
        self,
        function: Callable[[AlertNotice], object],
        name: str = "",
        kinds: Collection[NoticeKind] = AlertSink.kinds,
    ) -> None:
        self._function = function
        self.name = name or f"python:{getattr(function, '__qualname__', function)}"
        self.kinds = frozenset(kinds)

    def deliver(self, notice: AlertNotice) -> None:
        """Call the function; an exception counts as a failed delivery."""
        self._function(notice)


def find_function(place: str) -> Callable[..., Any]:
    """Return the function that ``module:function`` names.

    Raises
    ------
    ValueError
        There is no such module or function, or it cannot be imported.
    """
    module_name, _, attribute = place.partition(":")
    if not module_name or not attribute:
        raise ValueError(f"{place!r}: must be module:function")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything
        raise ValueError(
            f"{module_name}: cannot be imported: {type(error).__name__}: {error}"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{module_name}: has no {attribute}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{place}: is a {type(found).__name__}, not a function")
    function: Callable[..., Any] = found
    return function
