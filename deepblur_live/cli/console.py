"""Print lines literally, and report errors in one line."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

import typer
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["one_line_errors", "say"]


def say(console: Console, text: str) -> None:
    """Print a line literally: no markup, no wrapping.

    When the output cannot be written any more (a closed pipe or terminal, a full disk),
    the console falls silent and the run goes on.
    """
    try:
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    except (OSError, SystemExit):  # rich exits when a pipe is closed
        console.quiet = True
        # Otherwise writing what is still buffered would fail again at exit.
        with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), console.file.fileno())


@contextlib.contextmanager
def one_line_errors(*, debug: bool) -> Iterator[Console]:
    """Yield a console; turn errors into a line and exit code 2, interrupts into 130."""
    # The run itself prints what the session logs.
    handler = logging.StreamHandler() if debug else logging.NullHandler()
    log = logging.getLogger("deepblur_live")
    log.addHandler(handler)
    core_log = logging.getLogger("pymmcore-plus")
    core_log.addFilter(_adapters_are_optional)
    try:
        yield Console()
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except typer.Exit:
        raise
    except Exception as error:
        if debug:
            raise
        text = str(error) or type(error).__name__
        if isinstance(error, OSError) and error.filename and error.strerror:
            text = f"{error.filename}: {error.strerror}"
        elif not isinstance(error, OSError | ValueError | RuntimeError):
            text = f"{type(error).__name__}: {text} (--debug shows where)"
        say(Console(stderr=True), f"deepblur-live: {text}")
        raise typer.Exit(2) from error
    finally:
        core_log.removeFilter(_adapters_are_optional)
        log.removeHandler(handler)


def _adapters_are_optional(record: logging.LogRecord) -> bool:
    # The simulated microscope needs no adapters; `run` names those that are missing.
    return "compatible Micro-Manager installation" not in record.getMessage()
