"""The command calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deepblur_live.cli.commands.options import (
    Channel,
    Debug,
    ProfileFile,
    read_profile,
)
from deepblur_live.cli.console import one_line_errors

__all__ = ["calibrate"]


def calibrate(
    files: Annotated[
        list[str],
        typer.Argument(help="Z-stacks of bead slides, one per microscope state."),
    ],
    bead: Annotated[float, typer.Option(help="Diameter of the beads, nm.", min=1.0)],
    profile_file: ProfileFile = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to write. [named after FILES]"),
    ] = None,
    z_step: Annotated[
        str | None,
        typer.Option(
            help="Distance between planes, such as 200nm; negative if z decreases. "
            "[from the file]"
        ),
    ] = None,
    channel: Channel = None,
    single: Annotated[
        bool, typer.Option("--single", help="Write only a PSF stack (OME-TIFF).")
    ] = False,
    debug: Debug = False,
) -> None:
    """Measure the microscope's blur from a z-stack of fluorescent beads."""
    with one_line_errors(debug=debug) as console:
        from deepblur_live.cli.calibrate import calibrate_on_console
        from deepblur_live.cli.sweep import parse_length

        calibrate_on_console(
            console,
            files,
            read_profile(profile_file),
            bead,
            output,
            z_step_um=None if z_step is None else parse_length(z_step, "--z-step"),
            channel=channel,
            single=single,
        )
