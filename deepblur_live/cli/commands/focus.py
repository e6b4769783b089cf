"""The commands that use several focal planes: sweep and check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deepblur_live.cli.commands.options import (
    Channel,
    Debug,
    Json,
    ProfileFile,
    read_profile,
)
from deepblur_live.cli.console import one_line_errors
from deepblur_live.profile import Profile

__all__ = ["check", "sweep"]

_Stack = Annotated[
    str | None,
    typer.Argument(help="Recorded z-stack: TIFF, OME-TIFF, OME-Zarr or folder."),
]
_Planes = Annotated[
    str | None,
    typer.Option(help="Planes to use, from 0, e.g. 15,17,19. [around focus]"),
]


def sweep(
    file: _Stack = None,
    z_step: Annotated[
        str,
        typer.Option(
            help="Distance between planes, such as 200nm; negative if z decreases."
        ),
    ] = "",
    config: Annotated[
        Path | None,
        typer.Option(help="Micro-Manager configuration, to sweep on a microscope."),
    ] = None,
    profile_file: ProfileFile = None,
    planes: _Planes = None,
    channel: Channel = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure the blur from planes through focus; say by how much to refocus."""
    with one_line_errors(debug=debug) as console:
        from deepblur_live.cli.sweep import sweep_file, sweep_live

        rig, step = _rig_and_step(file, config, profile_file, z_step, "200nm")
        if config is not None:
            sweep_live(console, config, rig, step, as_json=as_json)
            return
        assert file is not None
        sweep_file(
            console,
            file,
            rig,
            step,
            channel=channel,
            planes=_numbers(planes),
            as_json=as_json,
        )


def check(
    file: _Stack = None,
    z_step: Annotated[
        str,
        typer.Option(
            help="Distance between planes, or step of the focus drive, such as 300nm."
        ),
    ] = "",
    config: Annotated[
        Path | None,
        typer.Option(help="Micro-Manager configuration, to check on a microscope."),
    ] = None,
    profile_file: ProfileFile = None,
    planes: _Planes = None,
    channel: Channel = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check the estimate: whether it follows a known step of the focus drive."""
    with one_line_errors(debug=debug) as console:
        from deepblur_live.cli.focus_check import check_file, check_live

        rig, step = _rig_and_step(file, config, profile_file, z_step, "300nm")
        if config is not None:
            check_live(console, config, rig, step, as_json=as_json)
            return
        assert file is not None
        check_file(
            console,
            file,
            rig,
            step,
            channel=channel,
            planes=_numbers(planes),
            as_json=as_json,
        )


def _rig_and_step(
    file: str | None,
    config: Path | None,
    profile_file: Path | None,
    z_step: str,
    example: str,
) -> tuple[Profile, float]:
    """Return the rig and the step in µm.

    ValueError unless there are a step and either a recording or a microscope.
    """
    from deepblur_live.cli.sweep import parse_length

    if (file is None) == (config is None):
        raise ValueError("give a recorded z-stack, or --config for a microscope")
    if not z_step:
        raise ValueError(
            f"--z-step: give the distance between planes, such as {example}"
        )
    rig = read_profile(profile_file) or Profile()
    return rig, parse_length(z_step, "--z-step")


def _numbers(planes: str | None) -> list[int] | None:
    from deepblur_live.cli.sweep import parse_planes

    return None if planes is None else parse_planes(planes)
