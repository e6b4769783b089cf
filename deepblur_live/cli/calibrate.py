"""The command calibrate: progress and result of `calibrate_files` on a console."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from deepblur_live.cli.console import say
from deepblur_live.session.calibrate_files import calibrate_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from deepblur_live.profile import Profile

__all__ = ["calibrate_on_console"]


def calibrate_on_console(
    console: Console,
    files: Sequence[str],
    profile: Profile | None,
    bead_nm: float,
    output: Path | None,
    *,
    z_step_um: float | None = None,
    channel: str | None = None,
    single: bool = False,
) -> None:
    """Calibrate from files; parameters and errors are those of `calibrate_files`.

    Progress, results and notes on what is left out are printed to `console`.
    """
    with _progress(console) as progress:
        calibrate_files(
            files,
            profile,
            bead_nm=bead_nm,
            output=output,
            z_step_um=z_step_um,
            channel=channel,
            single=single,
            progress=progress,
            on_message=lambda text: say(console, text),
        )


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Callable[[str, float], None]]:
    """Show progress in place on a terminal, elsewhere a line for each step."""
    if not console.is_terminal:
        yield lambda text, share: say(console, f"{text} ({share:.0%})")
        return
    with console.status("") as status:
        yield lambda text, share: status.update(f"{text} ({share:.0%})")
