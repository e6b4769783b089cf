"""The command report."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Annotated

import typer

from deepblur_live.cli.commands.options import Debug
from deepblur_live.cli.console import one_line_errors, say

__all__ = ["report"]


def report(
    session: Annotated[
        Path, typer.Argument(help="Folder of a session, finished or interrupted.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for the report. [the session's folder]"),
    ] = None,
    debug: Debug = False,
) -> None:
    """Write the report of a session: a web page and its figures."""
    with one_line_errors(debug=debug) as console:
        # Garbage collection takes a tenth of the time and frees little.
        gc.disable()
        try:
            from deepblur_live.session.report import write_report

            paths = write_report(session, output)
        finally:
            gc.enable()
        for path in paths:
            say(console, str(path))
