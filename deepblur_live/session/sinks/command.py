"""Alerts to a user's program, as JSON on its standard input."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from deepblur_live.session.sinks.base import AlertNotice, AlertSink

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO

__all__ = ["CommandSink"]

_LAST_BYTES = 300


class CommandSink(AlertSink):
    """Runs a program at each alarm, one at a time, without a shell.

    Parameters
    ----------
    arguments
        The program and its arguments.
    timeout_s
        A program that runs longer is killed, and counts as failed.

    Raises
    ------
    ValueError
        There is no such program.
    """

    def __init__(self, arguments: Sequence[str], *, timeout_s: float = 30.0) -> None:
        program = shutil.which(arguments[0]) if arguments else None
        if program is None:
            named = arguments[0] if arguments else "nothing"
            if Path(named).is_file():
                raise ValueError(f"{named}: is not executable")
            raise ValueError(f"{named}: no such program, as a file or on the PATH")
        self.name = f"command:{arguments[0]}"
        self._arguments = (program, *arguments[1:])
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def deliver(self, notice: AlertNotice) -> None:
        """Run the program and wait until it ends.

        Raises
        ------
        OSError
            It cannot be started, runs too long, or ends with a code other than 0.
        """
        # Files, not pipes: a program that reads or writes nothing, or whose child keeps
        # a pipe open, cannot block this thread.
        with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stderr:
            stdin.write(json.dumps(notice.record(), allow_nan=False).encode() + b"\n")
            stdin.seek(0)
            code = self._run(stdin, stderr)
            if code and self._closed:
                raise OSError("given up: the session has ended")
            if code:
                raise OSError(f"ended with code {code}{_last_line(stderr)}")

    def close(self) -> None:
        """Kill the program if it is running."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                _kill(self._process)

    def _run(self, stdin: IO[bytes], stderr: IO[bytes]) -> int:
        with self._lock:
            if self._closed:
                raise OSError("given up: the session has ended")
            process = self._process = subprocess.Popen(
                self._arguments,
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                # A process group of its own, so that its children are killed with it.
                start_new_session=True,
                # On Windows: no console window, and no Ctrl-C meant for this program.
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        try:
            return process.wait(self._timeout_s)
        except subprocess.TimeoutExpired:
            _kill(process)
            process.wait()
            raise TimeoutError(f"killed after {self._timeout_s:g} s") from None
        finally:
            with self._lock:
                self._process = None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a program; on POSIX, with the processes that it has started."""
    if sys.platform == "win32":
        process.kill()
    elif process.poll() is None:
        # It may have ended in the meantime.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _last_line(stderr: IO[bytes]) -> str:
    size = stderr.seek(0, 2)
    stderr.seek(max(0, size - _LAST_BYTES))
    lines = stderr.read().decode(errors="replace").strip().splitlines()
    return f": {lines[-1]}" if lines else ""
