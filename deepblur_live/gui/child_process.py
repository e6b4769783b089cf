"""A ``deepblur-live`` command in a separate process, started from the window."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["ChildProcess"]


class ChildProcess:
    """Runs a command line without blocking; the caller polls it.

    A report takes a processor for seconds, and another recording has a session of its
    own: both would slow down a camera in this process.

    Parameters
    ----------
    purpose
        What it does, for messages.
    arguments
        Arguments of ``deepblur-live``.
    log
        File for its output, which can then be read while it runs.

    Raises
    ------
    OSError
        It cannot be started, or the file cannot be written.
    """

    def __init__(
        self, purpose: str, arguments: Sequence[str], log: Path | None = None
    ) -> None:
        self.purpose = purpose
        self._log = log
        # Closed by `end`.
        self._output: IO[bytes] = (
            tempfile.TemporaryFile() if log is None else log.open("wb")
        )
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deepblur_live", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                # No additional console window on Windows.
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                # On Windows a file would get the system's code page.
                env=os.environ | {"PYTHONIOENCODING": "utf-8"},
            )
        except OSError:
            self._output.close()
            raise

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    @property
    def last_line(self) -> str:
        """The last line that it has printed, or empty: its error, if it failed."""
        return next((line for line in reversed(self.lines) if line), "")

    @property
    def lines(self) -> list[str]:
        """The lines printed; without a log, only after its end."""
        if self._log is not None:
            try:
                content = self._log.read_bytes()
            except OSError as error:
                return [f"The output of {self.purpose} cannot be read: {error}"]
        else:
            self._output.seek(0)  # the child shares this file position
            content = self._output.read()
        return [line.strip() for line in content.decode(errors="replace").split("\n")]

    def end(self, timeout_s: float = 5.0) -> None:
        """Stop it if it runs."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                # A process that waits for a disk ends only after that.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout_s)
        self._output.close()

    def leave(self) -> None:
        """Detach from it: it continues to run."""
        self._output.close()
        # Otherwise Python warns that the process is still running.
        self._process.returncode = self._process.poll() or 0
