"""The commands, their options, and their errors in one line."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deepblur_live.cli.progress import say
from deepblur_live.cli.screen import UNSEEN, find_binding, why_no_window
from deepblur_live.profile import Profile, load_profile, write_profile

__all__ = ["app", "main"]

app = typer.Typer(
    help="Live blind deblurring for microscopes, with the optics under watch.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

engines_app = typer.Typer(
    help="The engines that TensorRT runs the networks by, where there is a card.",
    no_args_is_help=True,
)
app.add_typer(engines_app, name="engines")

_ProfileFile = Annotated[
    Path | None, typer.Option("--profile", help="The rig's TOML file.")
]
_Seconds = Annotated[
    float | None,
    typer.Option(help="End by itself after so many seconds of frames.", min=1.0),
]
_Window = Annotated[
    bool | None,
    typer.Option(
        "--window/--headless", help="By default a window where there is a screen."
    ),
]
_SESSIONS = Path("deepblur-sessions")
_Output = Annotated[
    Path,
    typer.Option("--output", help="Sessions are kept in folders of their own here."),
]
_InProcess = Annotated[
    bool,
    typer.Option("--in-process", help="No worker process (slower; for debugging)."),
]
_OnAlarm = Annotated[
    list[str] | None,
    typer.Option(
        "--on-alarm",
        metavar="ACTION",
        help="At an alarm, beside showing it; may be repeated: log, jsonl:PATH, "
        "webhook:URL, command:PROGRAM ARGUMENTS, python:module:function, mda-pause, "
        "mda-recalibrate:module:function.",
    ),
]
_Debug = Annotated[
    bool, typer.Option("--debug", help="Show where in the program an error came from.")
]


def main() -> None:
    """Run the command line."""
    # A Windows console, or its redirection, may lack a character: no reason to end.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    # A run that is told to end by the system, or by the end of its terminal, ends as
    # by Ctrl-C: with its session. `nohup` has its way.
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    app()


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"deepblur-live {importlib.metadata.version('deepblur-live')}")
        raise typer.Exit


@app.callback()
def _whole(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show it and end."
        ),
    ] = False,
) -> None:
    """Take what is asked without a command."""


@contextlib.contextmanager
def _told_in_one_line(*, debug: bool) -> Iterator[Console]:
    """Give a console; turn errors into a line and exit code 2, interrupts into 130."""
    # What the log says of the session is told on the console by the run itself.
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
        expected = isinstance(error, OSError | ValueError | RuntimeError)
        text = str(error) or type(error).__name__
        if not expected:
            text = f"{type(error).__name__}: {text} (--debug shows where)"
        say(Console(stderr=True), f"deepblur-live: {text}")
        raise typer.Exit(2) from error
    finally:
        core_log.removeFilter(_adapters_are_optional)
        log.removeHandler(handler)


def _adapters_are_optional(record: logging.LogRecord) -> bool:
    # The simulated microscope needs none, `run` says itself which are missing, and
    # the doctor says what there is.
    return "compatible Micro-Manager installation" not in record.getMessage()


def _wants_window(console: Console, asked: bool | None) -> bool:
    if asked is False:
        return False
    reason = why_no_window()
    if asked is None:
        if reason:
            say(console, f"No window: {reason}.")
        return not reason
    unseen = os.environ.get("QT_QPA_PLATFORM") in UNSEEN
    if reason and (find_binding() is None or not unseen):
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
    debug: _Debug = False,
) -> None:
    """Deblur a simulated microscope whose optics drift, and compare with the truth."""
    with _told_in_one_line(debug=debug) as console:
        from deepblur_live.cli import runs
        from deepblur_live.cli.alarms import Alarms

        profile = _profile(profile_file)
        shown = _wants_window(console, window)
        # Not the profile's: nobody is to be called for a simulation.
        alarms = Alarms([("--on-alarm", spec) for spec in on_alarm or ()])
        options = runs.Options(
            console, output, profile, shown, seconds, in_process, alarms
        )
        runs.demo(options)


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
        typer.Option("--mda", help="A useq sequence (YAML or JSON) to be acquired."),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(help="Where its frames go, raw: NAME.ome.zarr or NAME.ome.tiff."),
    ] = None,
    debug: _Debug = False,
) -> None:
    """Deblur what a real microscope's camera sends, until closed or Ctrl-C."""
    with _told_in_one_line(debug=debug) as console:
        from deepblur_live.cli import runs
        from deepblur_live.cli.alarms import Alarms
        from deepblur_live.cli.mda import load_sequence

        if save is not None and mda is None:
            raise ValueError("--save: there are no frames to save: give --mda")
        profile = _profile(profile_file)
        sequence = None if mda is None else load_sequence(mda)
        specs = [("--on-alarm", spec) for spec in on_alarm or ()]
        if profile is not None:
            place = f"{profile_file}: alerts.on_alarm"
            specs += [(place, spec) for spec in profile.alerts.on_alarm]
        shown = _wants_window(console, window)
        options = runs.Options(
            console, output, profile, shown, seconds, in_process, Alarms(specs)
        )
        runs.run(options, config, sequence=sequence, save=save)


@app.command()
def replay(
    file: Annotated[
        str,
        typer.Argument(help="TIFF or OME-TIFF stack, OME-Zarr, folder of pictures."),
    ],
    profile_file: _ProfileFile = None,
    pixel_size: Annotated[
        float | None, typer.Option(help="Size of a pixel in the specimen, nm.")
    ] = None,
    channel: Annotated[
        str | None, typer.Option(help="Name or number, where there are several.")
    ] = None,
    window: _Window = None,
    output: _Output = _SESSIONS,
    in_process: _InProcess = False,
    debug: _Debug = False,
) -> None:
    """Send a recorded time series through, every frame: its drift, alerts, report."""
    with _told_in_one_line(debug=debug) as console:
        from deepblur_live.cli import runs

        profile = _profile(profile_file)
        shown = _wants_window(console, window)
        options = runs.Options(console, output, profile, shown, None, in_process)
        runs.replay(options, file, pixel_size_nm=pixel_size, channel=channel)


@app.command()
def report(
    session: Annotated[
        Path, typer.Argument(help="A session's folder, finished or cut off.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="Where it goes; the session's folder when left out."),
    ] = None,
    debug: _Debug = False,
) -> None:
    """Write a session's report: a page for any browser, and its pictures."""
    with _told_in_one_line(debug=debug) as console:
        from deepblur_live.session.report import write_report

        for path in write_report(session, output):
            say(console, str(path))


@app.command()
def doctor(profile_file: _ProfileFile = None, debug: _Debug = False) -> None:
    """Say what is found on this machine, and what to do where something is missing."""
    with _told_in_one_line(debug=debug) as console:
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
        typer.Option(help="Of frames, ROWSxCOLUMNS; may be repeated. [512x512]"),
    ] = None,
    profile_file: _ProfileFile = None,
    debug: _Debug = False,
) -> None:
    """Build engines ahead of a session, and compare them with torch."""
    with _told_in_one_line(debug=debug) as console:
        from deepblur_live.cli import engines

        sizes = [engines.parse_size(text) for text in size or ["512x512"]]
        engines.build(console, _profile(profile_file) or Profile(), sizes)


@engines_app.command("list")
def engines_list(debug: _Debug = False) -> None:
    """List the engines there are, what each was built from, and whether it is sound."""
    with _told_in_one_line(debug=debug) as console:
        from deepblur_live.cli import engines

        engines.show(console)


@engines_app.command("clear")
def engines_clear(debug: _Debug = False) -> None:
    """Delete all engines; they are built again when they are needed."""
    with _told_in_one_line(debug=debug) as console:
        from deepblur_live.cli import engines

        engines.clear(console)


@app.command()
def profile(
    file: Annotated[
        Path | None, typer.Argument(help="Where to; printed when left out.")
    ] = None,
    debug: _Debug = False,
) -> None:
    """Write a profile with every setting, its meaning, unit and range, to be edited."""
    with _told_in_one_line(debug=debug) as console:
        if file is None:
            typer.echo(Profile().to_toml(), nl=False)
        elif file.exists():
            raise FileExistsError(f"{file} exists already: give another name")
        else:
            write_profile(Profile(), file)
            say(console, f"{file}: edit it, then give it as --profile")
