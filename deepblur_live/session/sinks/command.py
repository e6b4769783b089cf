"""Alerts to a program of the user's, in its own process, as JSON on its input."""

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

from deepblur_live.session.sinks.notice import AlertNotice, OnAlarm

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO

__all__ = ["CommandSink"]

_LAST_BYTES = 300


class CommandSink(OnAlarm):
    """Runs a program at each alarm, one at a time; no shell is involved.

    Parameters
    ----------
    arguments
        The program and its arguments.
    timeout_s
        A program that runs longer is killed, and has failed.

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
            raise ValueError(f"{named}: no such program, by this name or on the path")
        self.name = f"command:{arguments[0]}"
        self._arguments = (program, *arguments[1:])
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def deliver(self, notice: AlertNotice) -> None:
        """Run the program and wait for its end.

        Raises
        ------
        OSError
            It cannot be started, runs too long, or ends with a code other than 0.
        """
        # Files, not pipes: a program that reads or says nothing, or leaves a child
        # with our end of a pipe, cannot hold us.
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as told:
            told.write(json.dumps(notice.record(), allow_nan=False).encode() + b"\n")
            told.seek(0)
            code = self._run(told, said)
            if code and self._closed:
                raise OSError("given up: the session has ended")
            if code:
                raise OSError(f"ended with code {code}{_last_words(said)}")

    def close(self) -> None:
        """Kill the program if it runs."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                _kill(self._process)

    def _run(self, told: IO[bytes], said: IO[bytes]) -> int:
        with self._lock:
            if self._closed:
                raise OSError("given up: the session has ended")
            process = self._process = subprocess.Popen(
                self._arguments,
                stdin=told,
                stdout=subprocess.DEVNULL,
                stderr=said,
                # A group of its own, that its children may be killed with it.
                start_new_session=True,
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
    """Kill a program, and where there are process groups what it has started."""
    if sys.platform == "win32":
        process.kill()
    elif process.poll() is None:
        # It may end meanwhile.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _last_words(said: IO[bytes]) -> str:
    size = said.seek(0, 2)
    said.seek(max(0, size - _LAST_BYTES))
    lines = said.read().decode(errors="replace").strip().splitlines()
    return f": {lines[-1]}" if lines else ""
