"""The commands and their options; errors are reported in one line."""

from __future__ import annotations

import gc
import importlib.metadata
import io
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deepblur_live.cli.console import one_line_errors, say
from deepblur_live.cli.screen import INVISIBLE, find_binding, why_no_window
from deepblur_live.profile import Profile, load_profile, write_profile

__all__ = ["app", "main"]

app = typer.Typer(
    help="Live blind deblurring for microscopes, with alarms when the optics drift.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

engines_app = typer.Typer(
    help="The TensorRT engines that run the networks on an NVIDIA card.",
    no_args_is_help=True,
)
app.add_typer(engines_app, name="engines")

_ProfileFile = Annotated[
    Path | None, typer.Option("--profile", help="TOML file that describes the rig.")
]
_Seconds = Annotated[
    float | None,
    typer.Option(help="Stop after this many seconds of frames.", min=1.0),
]
_Window = Annotated[
    bool | None,
    typer.Option("--window/--headless", help="Default: a window if there is a screen."),
]
_SESSIONS = Path("deepblur-sessions")
_Output = Annotated[
    Path,
    typer.Option("--output", help="Each session makes a folder of its own in here."),
]
_InProcess = Annotated[
    bool,
    typer.Option("--in-process", help="No worker process (slower, for debugging)."),
]
_OnAlarm = Annotated[
    list[str] | None,
    typer.Option(
        "--on-alarm",
        metavar="ACTION",
        help="What to do at an alarm; may be repeated: log, jsonl:PATH, "
        "webhook:URL, command:PROGRAM ARGUMENTS, python:module:function, mda-pause, "
        "mda-recalibrate:module:function.",
    ),
]
_Deblurred = Annotated[
    Path | None,
    typer.Option(
        "--save-deblurred",
        help="File for the deblurred frames: NAME.ome.zarr or NAME.ome.tiff.",
    ),
]
_Psf = Annotated[
    Path | None,
    typer.Option(
        "--psf",
        help="Measured PSF to deblur with, as `calibrate --single` writes it; nothing "
        "is identified.",
    ),
]
_Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.")
]


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
            "--version", callback=_show_version, is_eager=True, help="Show and exit."
        ),
    ] = False,
) -> None:
    """Take the options that need no command."""


def _wants_window(console: Console, option: bool | None) -> bool:
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


def _profile(path: Path | None) -> Profile | None:
    return None if path is None else load_profile(path)


@app.command()
def demo(
    seconds: _Seconds = None,
    window: _Window = None,
    output: _Output = _SESSIONS,
    profile_file: _ProfileFile = None,
    in_process: _InProcess = False,
    on_alarm: _OnAlarm = None,
    field: Annotated[
        bool,
        typer.Option("--field", help="The blur varies over the field, and is found."),
    ] = False,
    beads: Annotated[
        bool,
        typer.Option(
            "--beads",
            help="A bead slide under optics at rest, to try a calibration on.",
        ),
    ] = False,
    debug: _Debug = False,
) -> None:
    """Deblur a simulated microscope whose optics drift; compare with the truth."""
    with one_line_errors(debug=debug) as console:
        from deepblur_live.cli import runs

        profile = _profile(profile_file)
        shown = _wants_window(console, window)
        # Not those of the profile: nobody should be called for a simulation.
        alarms = [("--on-alarm", spec) for spec in on_alarm or ()]
        options = runs.Options(
            console, output, profile, shown, seconds, in_process, alarms
        )
        runs.demo(options, field=field, beads=beads)


@app.command()
def run(
    config: Annotated[
        Path, typer.Option(help="The microscope's Micro-Manager configuration.")
    ],
    profile_file: _ProfileFile = None,
    seconds: _Seconds = None,
    window: _Window = None,
    output: _Output = _SESSIONS,
    in_process: _InProcess = False,
    on_alarm: _OnAlarm = None,
    mda: Annotated[
        Path | None,
        typer.Option("--mda", help="A useq sequence (YAML or JSON) to acquire."),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(help="File for its raw frames: NAME.ome.zarr or NAME.ome.tiff."),
    ] = None,
    save_deblurred: _Deblurred = None,
    psf: _Psf = None,
    pixel_size: Annotated[
        float | None,
        typer.Option(help="Pixel size in the specimen, nm; overrides all others."),
    ] = None,
    every_frame: Annotated[
        bool,
        typer.Option(
            "--every-frame",
            help="Deblur every frame, not the newest only; those that still wait at "
            "the end are deblurred then.",
        ),
    ] = False,
    debug: _Debug = False,
) -> None:
    """Deblur the camera of a real microscope, until closed or Ctrl-C.

    With --save-deblurred, the raw frames are written beside, unless --save has them.
    """
    with one_line_errors(debug=debug) as console:
        from deepblur_live.cli import runs
        from deepblur_live.cli.mda import load_sequence

        if save is not None and mda is None:
            raise ValueError("--save: there are no frames to save: give --mda")
        profile = _profile(profile_file)
        sequence = None if mda is None else load_sequence(mda)
        alarms = [("--on-alarm", spec) for spec in on_alarm or ()]
        if profile is not None:
            place = f"{profile_file}: alerts.on_alarm"
            alarms += [(place, spec) for spec in profile.alerts.on_alarm]
        shown = _wants_window(console, window)
        options = runs.Options(
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
        runs.run(
            options,
            config,
            sequence=sequence,
            save=save,
            every_frame=every_frame,
            pixel_size_nm=pixel_size,
        )


@app.command()
def replay(
    file: Annotated[
        str,
        typer.Argument(help="TIFF or OME-TIFF stack, OME-Zarr, folder of images."),
    ],
    profile_file: _ProfileFile = None,
    pixel_size: Annotated[
        float | None, typer.Option(help="Pixel size in the specimen, nm.")
    ] = None,
    channel: Annotated[
        str | None, typer.Option(help="Name or number, if there are several.")
    ] = None,
    save_deblurred: _Deblurred = None,
    psf: _Psf = None,
    window: _Window = None,
    output: _Output = _SESSIONS,
    in_process: _InProcess = False,
    debug: _Debug = False,
) -> None:
    """Process every frame of a recorded series: drift, alerts, report."""
    with one_line_errors(debug=debug) as console:
        from deepblur_live.cli import runs

        profile = _profile(profile_file)
        shown = _wants_window(console, window)
        options = runs.Options(
            console,
            output,
            profile,
            shown,
            None,
            in_process,
            deblurred=save_deblurred,
            psf=psf,
        )
        runs.replay(options, file, pixel_size_nm=pixel_size, channel=channel)


@app.command()
def sweep(
    file: Annotated[
        str | None,
        typer.Argument(help="Recorded z-stack: TIFF, OME-TIFF, OME-Zarr, a folder."),
    ] = None,
    z_step: Annotated[
        str,
        typer.Option(
            help="Distance of the planes, such as 200nm; negative if z falls."
        ),
    ] = "",
    config: Annotated[
        Path | None,
        typer.Option(help="Micro-Manager configuration, to sweep a microscope itself."),
    ] = None,
    profile_file: _ProfileFile = None,
    planes: Annotated[
        str | None,
        typer.Option(help="Planes to use, from 0, such as 15,17,19. [around focus]"),
    ] = None,
    channel: Annotated[
        str | None, typer.Option(help="Name or number, if there are several.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: _Debug = False,
) -> None:
    """Measure the blur from planes through focus; say by how much to refocus."""
    with one_line_errors(debug=debug) as console:
        from deepblur_live.cli import sweep as sweeps

        if (file is None) == (config is None):
            raise ValueError("give a recorded z-stack, or --config for a microscope")
        if not z_step:
            raise ValueError("--z-step: give the distance of the planes, such as 200nm")
        rig = _profile(profile_file) or Profile()
        step = sweeps.parse_length(z_step, "--z-step")
        if config is not None:
            sweeps.sweep_live(console, config, rig, step, as_json=as_json)
            return
        assert file is not None
        numbers = None if planes is None else sweeps.parse_planes(planes)
        sweeps.sweep_file(
            console,
            file,
            rig,
            step,
            channel=channel,
            planes=numbers,
            as_json=as_json,
        )


@app.command()
def check(
    file: Annotated[
        str | None,
        typer.Argument(help="Recorded z-stack: TIFF, OME-TIFF, OME-Zarr, a folder."),
    ] = None,
    z_step: Annotated[
        str,
        typer.Option(
            help="Distance of the planes, or the step to move, such as 300nm."
        ),
    ] = "",
    config: Annotated[
        Path | None,
        typer.Option(help="Micro-Manager configuration, to check on a microscope."),
    ] = None,
    profile_file: _ProfileFile = None,
    planes: Annotated[
        str | None,
        typer.Option(help="Planes to use, from 0, such as 15,17,19. [around focus]"),
    ] = None,
    channel: Annotated[
        str | None, typer.Option(help="Name or number, if there are several.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: _Debug = False,
) -> None:
    """Check the estimate: whether it follows a known step of the focus drive."""
    with one_line_errors(debug=debug) as console:
        from deepblur_live.cli import focus_check
        from deepblur_live.cli import sweep as sweeps

        if (file is None) == (config is None):
            raise ValueError("give a recorded z-stack, or --config for a microscope")
        if not z_step:
            raise ValueError("--z-step: give the distance of the planes, such as 300nm")
        rig = _profile(profile_file) or Profile()
        step = sweeps.parse_length(z_step, "--z-step")
        if config is not None:
            focus_check.check_live(console, config, rig, step, as_json=as_json)
            return
        assert file is not None
        focus_check.check_file(
            console,
            file,
            rig,
            step,
            channel=channel,
            planes=None if planes is None else sweeps.parse_planes(planes),
            as_json=as_json,
        )


@app.command()
def calibrate(
    files: Annotated[
        list[str],
        typer.Argument(help="Stacks of bead slides, one a state of the microscope."),
    ],
    bead: Annotated[float, typer.Option(help="Diameter of the beads, nm.", min=1.0)],
    profile_file: _ProfileFile = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to write. [after the first file]"),
    ] = None,
    z_step: Annotated[
        str | None,
        typer.Option(
            help="Distance of the planes, such as 200nm; negative if z falls. [from "
            "the file]"
        ),
    ] = None,
    channel: Annotated[
        str | None, typer.Option(help="Name or number, if there are several.")
    ] = None,
    single: Annotated[
        bool, typer.Option("--single", help="Write a PSF stack alone (OME-TIFF).")
    ] = False,
    debug: _Debug = False,
) -> None:
    """Measure the microscope's blur from a z-stack of fluorescent beads."""
    with one_line_errors(debug=debug) as console:
        from deepblur_live.cli.calibrate import calibrate_on_console
        from deepblur_live.cli.sweep import parse_length

        calibrate_on_console(
            console,
            files,
            _profile(profile_file),
            bead,
            output,
            z_step_um=None if z_step is None else parse_length(z_step, "--z-step"),
            channel=channel,
            single=single,
        )


@app.command()
def report(
    session: Annotated[
        Path, typer.Argument(help="Folder of a session, finished or interrupted.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for the report. [the session's folder]"),
    ] = None,
    debug: _Debug = False,
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


@app.command()
def doctor(profile_file: _ProfileFile = None, debug: _Debug = False) -> None:
    """Check this machine, and say what to do about what is missing."""
    with one_line_errors(debug=debug) as console:
        from deepblur_live.cli.doctor import can_run, examine, findings_table
        from deepblur_live.cli.probes import PROBES

        findings = examine(_profile(profile_file) or Profile(), PROBES)
        console.print(findings_table(findings))
        if not can_run(findings):
            console.print("deepblur-live cannot run here yet.", style="bold red")
            raise typer.Exit(1)
        console.print("deepblur-live can run here: try `deepblur-live demo`.")


@engines_app.command("build")
def engines_build(
    size: Annotated[
        list[str] | None,
        typer.Option(help="Frame size, ROWSxCOLUMNS; may be repeated. [512x512]"),
    ] = None,
    profile_file: _ProfileFile = None,
    debug: _Debug = False,
) -> None:
    """Build engines ahead of a session and compare them with torch."""
    with one_line_errors(debug=debug) as console:
        from deepblur_live.cli import engines

        sizes = [engines.parse_size(text) for text in size or ["512x512"]]
        engines.build(console, _profile(profile_file) or Profile(), sizes)


@engines_app.command("list")
def engines_list(debug: _Debug = False) -> None:
    """List the engines, what each was built for, and whether it is usable."""
    with one_line_errors(debug=debug) as console:
        from deepblur_live.cli import engines

        engines.show(console)


@engines_app.command("clear")
def engines_clear(debug: _Debug = False) -> None:
    """Delete all engines; they are rebuilt when needed."""
    with one_line_errors(debug=debug) as console:
        from deepblur_live.cli import engines

        engines.clear(console)


@app.command()
def profile(
    file: Annotated[
        Path | None, typer.Argument(help="File to write; printed when left out.")
    ] = None,
    debug: _Debug = False,
) -> None:
    """Write a profile to edit: every setting with its meaning, unit and range."""
    with one_line_errors(debug=debug) as console:
        if file is None:
            typer.echo(Profile().to_toml(), nl=False)
        elif file.exists():
            raise FileExistsError(f"{file} exists already: give another name")
        else:
            write_profile(Profile(), file)
            say(console, f"{file}: edit it, then pass it as --profile")
