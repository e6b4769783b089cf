"""Options that several commands have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deepblur_live.cli.console import say
from deepblur_live.cli.screen import INVISIBLE, find_binding, why_no_window
from deepblur_live.profile import Profile, load_profile

__all__ = [
    "SESSIONS",
    "Channel",
    "Deblurred",
    "Debug",
    "InProcess",
    "Json",
    "OnAlarm",
    "Output",
    "ProfileFile",
    "Psf",
    "Seconds",
    "Window",
    "read_profile",
    "wants_window",
]

SESSIONS = Path("deepblur-sessions")
"""Default folder of the sessions."""

ProfileFile = Annotated[
    Path | None, typer.Option("--profile", help="TOML file that describes the rig.")
]
Seconds = Annotated[
    float | None,
    typer.Option(help="Stop after this many seconds of frames.", min=1.0),
]
Window = Annotated[
    bool | None,
    typer.Option("--window/--headless", help="Default: a window if there is a screen."),
]
Output = Annotated[
    Path,
    typer.Option("--output", help="Folder in which each session creates its own."),
]
InProcess = Annotated[
    bool,
    typer.Option("--in-process", help="Run without a worker process, for debugging."),
]
OnAlarm = Annotated[
    list[str] | None,
    typer.Option(
        "--on-alarm",
        metavar="ACTION",
        help="What to do at an alarm; may be repeated: log, jsonl:PATH, "
        "webhook:URL, command:PROGRAM ARGUMENTS, python:module:function, mda-pause, "
        "mda-recalibrate:module:function.",
    ),
]
Deblurred = Annotated[
    Path | None,
    typer.Option(
        "--save-deblurred",
        help="File for the deblurred frames: NAME.ome.zarr or NAME.ome.tiff.",
    ),
]
Psf = Annotated[
    Path | None,
    typer.Option(
        "--psf",
        help="Measured PSF to deblur with, as written by `calibrate --single`; no blur "
        "is identified.",
    ),
]
Channel = Annotated[
    str | None,
    typer.Option(help="Name or number of the channel, if there are several."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def read_profile(path: Path | None) -> Profile | None:
    """Return the profile of ``--profile``; None without one."""
    return None if path is None else load_profile(path)


def wants_window(console: Console, option: bool | None) -> bool:
    """Return whether to open a window; without the option, say why there is none.

    Raises
    ------
    RuntimeError
        ``--window`` is given and no window is possible.
    """
    if option is False:
        return False
    reason = why_no_window()
    if option is None:
        if reason:
            say(console, f"No window: {reason}.")
        return not reason
    invisible = os.environ.get("QT_QPA_PLATFORM") in INVISIBLE
    if reason and (find_binding() is None or not invisible):
        raise RuntimeError(f"--window: {reason}")
    return True
