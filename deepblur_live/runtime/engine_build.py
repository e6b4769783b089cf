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
_REFUSED, _ORPHANED = 2, 3


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
        Called several times a second; an exception raised there ends the build.
    timeout
        Seconds after which the build is ended.

    Raises
    ------
    EngineError
        The builder's own error, its crash, or the timeout.
    """
    # The child finds the packages that this process finds, installed or not.
    root = str(Path(__file__).parents[2])
    search_path = os.pathsep.join(filter(None, [root, *sys.path]))
    end = time.monotonic() + timeout
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "model.onnx").write_bytes(onnx)
        arguments = [name, library, precision, *map(str, capability)]
        with (
            (folder / "log").open("wb") as log,
            subprocess.Popen(
                [sys.executable, "-m", __name__, *arguments],
                stdin=subprocess.PIPE,  # closed when this process ends
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONPATH": search_path},
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            ) as child,
        ):
            try:
                while child.poll() is None:
                    progress("being built")
                    if time.monotonic() > end:
                        raise EngineError(
                            f"the engine was not ready after {timeout:.0f} s: build it "
                            "while nothing else runs: `deepblur-live engines build`"
                        )
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        child.wait(_POLL_S)
            finally:
                child.kill()
        if child.returncode == 0:
            return (folder / "engine.plan").read_bytes()
        output = (folder / "log").read_text("utf-8", "replace").strip()
    if child.returncode == _REFUSED:
        raise EngineError(output.splitlines()[-1])
    raise EngineError(
        f"{library}: the process that built the engine ended (exit code "
        f"{child.returncode}); a newer driver or another version of {library} may "
        f"help; {output[-_QUOTED:]}".rstrip("; ")
    )


def _main() -> None:
    folder, name, precision, major, minor = sys.argv[1:]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        plan = build_plan(
            find_library(name),
            Path(folder, "model.onnx").read_bytes(),
            cast("Precision", precision),
            (int(major), int(minor)),
        )
    except EngineError as error:
        os.write(2, f"\n{' '.join(str(error).split())}\n".encode())
        os._exit(_REFUSED)
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
