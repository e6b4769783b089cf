"""The commands and their options; errors are reported in one line.

Each command is a function of the same name, which imports its implementation only when
it is called, so that the help appears at once.
"""

from __future__ import annotations

import importlib.metadata
import io
import signal
import sys
from typing import Annotated

import typer

from deepblur_live.cli.commands.calibrate import calibrate
from deepblur_live.cli.commands.focus import check, sweep
from deepblur_live.cli.commands.report import report
from deepblur_live.cli.commands.sessions import demo, replay, run
from deepblur_live.cli.commands.setup import (
    doctor,
    engines_build,
    engines_clear,
    engines_list,
    profile,
)

__all__ = ["app", "main"]

app = typer.Typer(
    help="Live blind deblurring for microscopes, with alarms when the optics drift.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
# In the order of the help.
for _command in (demo, run, replay, sweep, check, calibrate, report, doctor, profile):
    app.command()(_command)

_engines = typer.Typer(
    help="The TensorRT engines that run the networks on an NVIDIA card.",
    no_args_is_help=True,
)
_engines.command("build")(engines_build)
_engines.command("list")(engines_list)
_engines.command("clear")(engines_clear)
app.add_typer(_engines, name="engines")


def main() -> None:
    """Run the command line."""
    # A Windows console or its redirection may lack a character: replace it.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    # A run that the system or the terminal ends writes its session, as after Ctrl-C.
    # A signal that `nohup` ignores stays ignored.
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"deepblur-live {importlib.metadata.version('deepblur-live')}")
        raise typer.Exit


@app.callback()
def _whole(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """Take the options that need no command."""
