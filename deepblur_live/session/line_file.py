"""A file that survives disk faults: each line is written whole or not at all."""

from __future__ import annotations

import csv
import errno
import io
import json
import logging
import math
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from deepblur_live.session.folder import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

__all__ = ["LineFile", "csv_line", "json_line"]

_log = logging.getLogger(__name__)


def csv_line(values: Sequence[Any]) -> bytes:
    """Return a row of a CSV file; None and NaN become empty cells."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(map(_cell, values))
    return text.getvalue().encode()


def json_line(content: Mapping[str, Any]) -> bytes:
    """Return a line of a JSONL file."""
    text = json.dumps(plain(content), ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return format(value, ".9g") if math.isfinite(value) else ""
    return str(value)


class LineFile:
    """An append-only file that survives a disk that fills up or disappears.

    A line that cannot be written is counted and dropped. The file is tried again after
    `retry_s`, and then continues after its last whole line. The end of an outage is
    logged; its beginning is to be reported by the caller. :meth:`write` never raises.

    Parameters
    ----------
    path
        The file, which must not exist yet.
    head
        First line, also of a new file if the file is deleted; may be empty.
    retry_s
        Seconds between two attempts during an outage.
    clock
        Seconds, monotonic.

    Attributes
    ----------
    lines
        Lines in the file, not counting the first.
    lost
        Lines that could not be written.
    error
        Reason why lines are lost at present, or empty.

    Raises
    ------
    OSError
        The file exists, or cannot be created.
    """

    def __init__(
        self,
        path: Path,
        head: bytes = b"",
        *,
        retry_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.lines = 0
        self.lost = 0
        self.error = ""
        self._head = head
        self._retry_s = retry_s
        self._clock = clock
        self._size = 0
        self._lost_now = 0
        self._retry_at = 0.0
        self._file: BinaryIO | None = self._open("xb")
        try:
            self._append(head)
        except OSError:
            self._close_file()
            raise

    def write(self, line: bytes) -> bool:
        """Append a line with its line end; return whether it is in the file."""
        if self.error and self._clock() < self._retry_at:
            self._lose()
            return False
        try:
            if self._file is None:
                self._reopen()
            self._append(line)
        except OSError as error:
            self._fail(error)
            return False
        self.lines += 1
        if self.error:
            _log.warning("%s: written again; %d rows lost", self.path, self._lost_now)
            self.error, self._lost_now = "", 0
        return True

    def close(self) -> None:
        """Close the file; nothing is written afterwards."""
        self.error = self.error or "closed"
        self._retry_at = math.inf
        self._close_file()

    def _open(self, mode: str) -> BinaryIO:
        # Unbuffered: once `write` returns, a line outlives this process, and a full
        # disk is noticed at the line that does not fit.
        file: BinaryIO = self.path.open(mode, buffering=0)  # type: ignore[assignment]
        return file

    def _append(self, line: bytes) -> None:
        assert self._file is not None
        if self._file.write(line) != len(line):
            # The disk has just become full; the next write would raise this error.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += len(line)

    def _reopen(self) -> None:
        try:
            self._file = self._open("r+b")
        except FileNotFoundError:
            self._file = self._open("xb")
            self._size = self.lines = 0
            self._append(self._head)
            return
        # Remove the part of a line that was written before the disk failed.
        self._file.truncate(self._size)
        self._file.seek(self._size)

    def _fail(self, error: OSError) -> None:
        self._close_file()
        self._retry_at = self._clock() + self._retry_s
        self.error = error.strerror or str(error)
        self._lose()

    def _lose(self) -> None:
        self.lost += 1
        self._lost_now += 1

    def _close_file(self) -> None:
        file, self._file = self._file, None
        # Rows that are lost in closing are already counted.
        if file is not None:
            with suppress(OSError):
                file.close()
