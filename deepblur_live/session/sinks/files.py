"""Alerts as lines: in the program's log, and in a JSONL file."""

from __future__ import annotations

import errno
import json
import logging
import os
from typing import TYPE_CHECKING

from deepblur_live.session.sinks.notice import AlertNotice, NoticeKind, OnAlarm

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

__all__ = ["ALERT_LOGGER", "JsonlSink", "LogSink"]

ALERT_LOGGER = "deepblur_live.alerts"
"""The name of the logger that `LogSink` writes to."""


class LogSink(OnAlarm):
    """A line in Python's log: a warning when raised, for information otherwise."""

    name = "log"
    kinds = frozenset(NoticeKind)

    def deliver(self, notice: AlertNotice) -> None:
        """Write the line."""
        raised = notice.kind is NoticeKind.RAISED
        level = logging.WARNING if raised else logging.INFO
        logging.getLogger(ALERT_LOGGER).log(level, "%s", notice.text)


class JsonlSink(OnAlarm):
    """A JSON object a line, appended to a file that may be shared by sessions.

    Parameters
    ----------
    path
        Made when missing; opened anew for each line, so it may be moved away.
    """

    kinds = frozenset(NoticeKind)

    def __init__(self, path: Path) -> None:
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
        # One write of an appending file: lines of two programs do not mix.
        with self.path.open("a+b", buffering=0) as file:
            if not _ends_a_line(file):
                # Of a full disk: it would take this one with it.
                line = "\n" + line
            data = line.encode()
            if file.write(data) != len(data):
                raise OSError(errno.ENOSPC, "only a part could be written")


def _ends_a_line(file: FileIO) -> bool:
    if not file.seekable() or not file.seek(0, os.SEEK_END):
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
