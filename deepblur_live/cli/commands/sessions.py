"""The commands that run a session: demo, run and replay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deepblur_live.cli.commands.options import (
    SESSIONS,
    Channel,
    Deblurred,
    Debug,
    InProcess,
    OnAlarm,
    Output,
    ProfileFile,
    Psf,
    Seconds,
    Window,
    read_profile,
    wants_window,
)
from deepblur_live.cli.console import one_line_errors

__all__ = ["demo", "replay", "run"]


def demo(
    seconds: Seconds = None,
    window: Window = None,
    output: Output = SESSIONS,
    profile_file: ProfileFile = None,
    in_process: InProcess = False,
    on_alarm: OnAlarm = None,
    field: Annotated[
        bool,
        typer.Option("--field", help="Simulate a blur that varies over the field."),
    ] = False,
    beads: Annotated[
        bool,
        typer.Option(
            "--beads",
            help="Simulate a bead slide without drift, to try a calibration.",
        ),
    ] = False,
    debug: Debug = False,
) -> None:
    """Deblur a simulated microscope whose optics drift; compare with the truth."""
    with one_line_errors(debug=debug) as console:
        from deepblur_live.cli.console_session import Options
        from deepblur_live.cli.demo import run_demo

        profile = read_profile(profile_file)
        shown = wants_window(console, window)
        # Not those of the profile: nobody should be called for a simulation.
        alarms = [("--on-alarm", spec) for spec in on_alarm or ()]
        options = Options(console, output, profile, shown, seconds, in_process, alarms)
        run_demo(options, field=field, beads=beads)


def run(
    config: Annotated[
        Path, typer.Option(help="The microscope's Micro-Manager configuration.")
    ],
    profile_file: ProfileFile = None,
    seconds: Seconds = None,
    window: Window = None,
    output: Output = SESSIONS,
    in_process: InProcess = False,
    on_alarm: OnAlarm = None,
    mda: Annotated[
        Path | None,
        typer.Option("--mda", help="A useq sequence (YAML or JSON) to acquire."),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            help="File for the raw frames of --mda: NAME.ome.zarr or NAME.ome.tiff."
        ),
    ] = None,
    save_deblurred: Deblurred = None,
    psf: Psf = None,
    pixel_size: Annotated[
        float | None,
        typer.Option(help="Pixel size in the specimen, nm; overrides all others."),
    ] = None,
    every_frame: Annotated[
        bool,
        typer.Option(
            "--every-frame",
            help="Deblur every frame, not only the newest; frames still waiting at the "
            "end are deblurred then.",
        ),
    ] = False,
    debug: Debug = False,
) -> None:
    """Deblur the camera of a real microscope, until closed or Ctrl-C.

    With --save-deblurred, the raw frames are also written, unless --save writes them.
    """
    with one_line_errors(debug=debug) as console:
        from deepblur_live.cli.console_session import Options
        from deepblur_live.cli.mda import load_sequence
        from deepblur_live.cli.run import run_microscope

        if save is not None and mda is None:
            raise ValueError("--save writes the raw frames of an MDA: give --mda too")
        profile = read_profile(profile_file)
        sequence = None if mda is None else load_sequence(mda)
        alarms = [("--on-alarm", spec) for spec in on_alarm or ()]
        if profile is not None:
            place = f"{profile_file}: alerts.on_alarm"
            alarms += [(place, spec) for spec in profile.alerts.on_alarm]
        shown = wants_window(console, window)
        options = Options(
            console,
            output,
            profile,
            shown,
            seconds,
            in_process,
            alarms,
            deblurred=save_deblurred,
            psf=psf,
        )
        run_microscope(
            options,
            config,
            sequence=sequence,
            save=save,
            every_frame=every_frame,
            pixel_size_nm=pixel_size,
        )


def replay(
    file: Annotated[
        str,
        typer.Argument(help="TIFF or OME-TIFF stack, OME-Zarr, folder of images."),
    ],
    profile_file: ProfileFile = None,
    pixel_size: Annotated[
        float | None, typer.Option(help="Pixel size in the specimen, nm.")
    ] = None,
    channel: Channel = None,
    save_deblurred: Deblurred = None,
    psf: Psf = None,
    window: Window = None,
    output: Output = SESSIONS,
    in_process: InProcess = False,
    debug: Debug = False,
) -> None:
    """Process every frame of a recorded series: drift, alerts, report."""
    with one_line_errors(debug=debug) as console:
        from deepblur_live.cli.console_session import Options
        from deepblur_live.cli.replay import replay_recording

        profile = read_profile(profile_file)
        shown = wants_window(console, window)
        options = Options(
            console,
            output,
            profile,
            shown,
            None,
            in_process,
            deblurred=save_deblurred,
            psf=psf,
        )
        replay_recording(options, file, pixel_size_nm=pixel_size, channel=channel)
