"""Build an engine in a child process.

A builder may crash or hang, and takes minutes: the worker must survive it and keep
processing frames. ``python -m deepblur_live.runtime.engine_build`` is the child.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

from deepblur_live.runtime.tensorrt import (
    EngineError,
    Precision,
    build_plan,
    find_library,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["build_in_child"]

_POLL_S = 0.1
# The first build for a card may take minutes; longer than this it hangs.
_TIMEOUT_S = 1800.0
_QUOTED = 300
_ORPHANED = 3


def build_in_child(
    library: str,
    onnx: bytes,
    precision: Precision,
    capability: tuple[int, int],
    progress: Callable[[str], None],
    timeout: float = _TIMEOUT_S,
) -> bytes:
    """Return an engine's plan, built by `build_plan` in a child process.

    Parameters
    ----------
    library
        Name of one of `LIBRARIES`.
    onnx, precision, capability
        As `build_plan`.
    progress
        Called several times a second with the builder's progress; an exception raised
        there ends the build.
    timeout
        Seconds after which the build is ended.

    Raises
    ------
    EngineError
        The builder's own error, its crash, or the timeout.
    """
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            Path(folder, "model.onnx").write_bytes(onnx)
            arguments = [folder, library, precision, *map(str, capability)]
            return _build(Path(folder), arguments, progress, timeout)
    except OSError as error:
        raise EngineError(
            f"{tempfile.gettempdir()}: an engine cannot be built there "
            f"({error.strerror or error}): free some space, or set TMPDIR"
        ) from error


def _build(
    folder: Path,
    arguments: list[str],
    progress: Callable[[str], None],
    timeout: float,
) -> bytes:
    # The child finds the packages that this process finds, installed or not.
    root = str(Path(__file__).parents[2])
    search_path = os.pathsep.join(filter(None, [root, *sys.path]))
    log = folder / "log"
    end = time.monotonic() + timeout
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", __name__, *arguments],
            stdin=subprocess.PIPE,  # its end tells the child that this process is gone
            stdout=output,
            stderr=output,
            env=os.environ | {"PYTHONPATH": search_path},
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        ) as child,
    ):
        try:
            while child.poll() is None:
                text = _read(folder / "progress") or "starting"
                progress(text)
                if time.monotonic() > end:
                    raise EngineError(
                        f"the engine was not ready after {timeout:.0f} s ({text}); "
                        "build it while nothing else runs: `deepblur-live engines "
                        "build`"
                    )
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(_POLL_S)
        finally:
            child.kill()
    if child.returncode == 0:
        return (folder / "engine.plan").read_bytes()
    library = arguments[1]
    raise EngineError(
        _read(folder / "error")
        or f"{library}: the process that built the engine ended (exit code "
        f"{child.returncode}); a newer driver or another version of {library} may "
        f"help; {_read(log)[-_QUOTED:].strip()}".rstrip("; ")
    )


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _main() -> None:
    folder, library, precision, major, minor = sys.argv[1:]

    def progress(text: str) -> None:
        Path(folder, "progress").write_text(text, "utf-8")

    threading.Thread(target=_end_with_parent, daemon=True).start()
    onnx = Path(folder, "model.onnx").read_bytes()
    try:
        plan = build_plan(
            find_library(library),
            onnx,
            cast("Precision", precision),
            (int(major), int(minor)),
            progress,
        )
    except EngineError as error:
        Path(folder, "error").write_text(str(error), "utf-8")
        os._exit(1)
    Path(folder, "engine.plan").write_bytes(plan)
    # An interpreter that holds a CUDA context may crash or hang when it ends.
    os._exit(0)


def _end_with_parent() -> None:
    # Not sys.stdin: a thread waiting in it would keep the interpreter from ending.
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    os._exit(_ORPHANED)


if __name__ == "__main__":
    _main()
