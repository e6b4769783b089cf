"""A file of lines, each whole or not there at all, whatever the disk does."""

from __future__ import annotations

import errno
import logging
import math
import os
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["LineFile"]

_log = logging.getLogger(__name__)


class _File(Protocol):
    def write(self, data: bytes, /) -> int | None: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def truncate(self, size: int | None = None, /) -> int: ...
    def close(self) -> None: ...


def _open_unbuffered(path: Path, mode: str) -> _File:
    # Unbuffered: a line is with the system when `write` returns, and outlives this
    # program's sudden end; and a full disk is told at the line it hits.
    return path.open(mode, buffering=0)


class LineFile:
    """An append-only file that outlives a full or vanished disk.

    A line that cannot be written is counted and let go; the file is tried again after
    `retry_s` and then continues after its last whole line. An outage makes two log
    lines: when it begins and when it ends. Nothing is ever raised by :meth:`write`.

    Parameters
    ----------
    path
        Made anew.
    head
        The first line; begins the file anew too, when it was deleted. May be empty.
    retry_s
        Seconds between two tries while the disk refuses.
    clock
        Seconds, monotonic.
    open_file
        Opens ``path`` unbuffered in a binary mode.

    Raises
    ------
    OSError
        The file exists, or cannot be made.
    """

    def __init__(
        self,
        path: Path,
        head: bytes = b"",
        *,
        retry_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        open_file: Callable[[Path, str], _File] = _open_unbuffered,
    ) -> None:
        self.path = path
        self._head = head
        self._retry_s = retry_s
        self._clock = clock
        self._open_file = open_file
        self._good = 0
        self._lines = 0
        self._lost = 0
        self._lost_now = 0
        self._error = ""
        self._retry_at = 0.0
        self._file: _File | None = open_file(path, "xb")
        self._put(head)

    @property
    def lines(self) -> int:
        """Lines in the file, without the first."""
        return self._lines

    @property
    def lost(self) -> int:
        """Lines that could not be written, ever."""
        return self._lost

    @property
    def error(self) -> str:
        """Why lines are being lost at this moment, or empty."""
        return self._error

    def write(self, line: bytes) -> bool:
        """Append a line with its end; return whether it is in the file."""
        if self._error and self._clock() < self._retry_at:
            self._lose()
            return False
        try:
            if self._file is None:
                self._reopen()
            self._put(line)
        except OSError as error:
            self._fail(error)
            return False
        self._lines += 1
        if self._error:
            _log.warning("%s: written again; %d rows lost", self.path, self._lost_now)
            self._error, self._lost_now = "", 0
        return True

    def close(self) -> None:
        """Close the file; nothing is written afterwards."""
        self._error = self._error or "closed"
        self._retry_at = math.inf
        self._drop_file()

    def _put(self, line: bytes) -> None:
        assert self._file is not None
        written = self._file.write(line)
        if written != len(line):
            # The last bytes of a full disk; the next write would say so itself.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._good += len(line)

    def _reopen(self) -> None:
        try:
            self._file = self._open_file(self.path, "r+b")
        except FileNotFoundError:
            self._file = self._open_file(self.path, "xb")
            self._good = self._lines = 0
            self._put(self._head)
            return
        # Half a row may stand where the disk gave up.
        self._file.truncate(self._good)
        self._file.seek(self._good)

    def _fail(self, error: OSError) -> None:
        self._drop_file()
        self._retry_at = self._clock() + self._retry_s
        if not self._error:
            _log.error(
                "%s: cannot be written (%s); rows are lost until it can, all else "
                "goes on",
                self.path,
                error.strerror or error,
            )
        self._error = error.strerror or str(error)
        self._lose()

    def _lose(self) -> None:
        self._lost += 1
        self._lost_now += 1

    def _drop_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError:
                # The rows it could not keep are already counted.
                pass
