"""The commands that prepare a machine and a rig: doctor, profile and engines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deepblur_live.cli.commands.options import Debug, ProfileFile, read_profile
from deepblur_live.cli.console import one_line_errors, say
from deepblur_live.profile import Profile, write_profile

__all__ = ["doctor", "engines_build", "engines_clear", "engines_list", "profile"]


def doctor(profile_file: ProfileFile = None, debug: Debug = False) -> None:
    """Check this machine, and say what to do about what is missing."""
    with one_line_errors(debug=debug) as console:
        from deepblur_live.cli.doctor import can_run, examine, findings_table
        from deepblur_live.cli.probes import PROBES

        findings = examine(read_profile(profile_file) or Profile(), PROBES)
        console.print(findings_table(findings))
        if not can_run(findings):
            console.print("deepblur-live cannot run here yet.", style="bold red")
            raise typer.Exit(1)
        console.print("deepblur-live can run here: try `deepblur-live demo`.")


def profile(
    file: Annotated[
        Path | None, typer.Argument(help="File to write; printed when left out.")
    ] = None,
    debug: Debug = False,
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


def engines_build(
    size: Annotated[
        list[str] | None,
        typer.Option(help="Frame size, ROWSxCOLUMNS; may be repeated. [512x512]"),
    ] = None,
    profile_file: ProfileFile = None,
    debug: Debug = False,
) -> None:
    """Build engines ahead of a session and compare them with torch."""
    with one_line_errors(debug=debug) as console:
        from deepblur_live.cli import engines

        sizes = [engines.parse_size(text) for text in size or ["512x512"]]
        engines.build(console, read_profile(profile_file) or Profile(), sizes)


def engines_list(debug: Debug = False) -> None:
    """List the engines, what each was built for, and whether it is usable."""
    with one_line_errors(debug=debug) as console:
        from deepblur_live.cli import engines

        engines.show(console)


def engines_clear(debug: Debug = False) -> None:
    """Delete all engines; they are rebuilt when needed."""
    with one_line_errors(debug=debug) as console:
        from deepblur_live.cli import engines

        engines.clear(console)
