"""The command run: a real microscope, live or through an MDA."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from deepblur_live.cli.alarms import alarm_sinks
from deepblur_live.cli.console import say
from deepblur_live.cli.console_session import (
    check_files,
    prepare_window,
    running_session,
)
from deepblur_live.cli.cores import core_from_config
from deepblur_live.cli.headless import watch_live, watch_mda, watch_waiting
from deepblur_live.cli.mda import MdaRun
from deepblur_live.cli.pixel_size import with_pixel_size

if TYPE_CHECKING:
    from pathlib import Path

    from useq import MDASequence

    from deepblur_live.cli.console_session import Options

__all__ = ["run_microscope"]


def run_microscope(
    options: Options,
    config: Path,
    *,
    sequence: MDASequence | None = None,
    save: Path | None = None,
    every_frame: bool = False,
    pixel_size_nm: float | None = None,
) -> None:
    """Run a real microscope from its Micro-Manager configuration.

    Parameters
    ----------
    options
        Options of the run.
    config
        The configuration.
    sequence
        An MDA to run; live mode otherwise.
    save
        File for the raw frames of the sequence; None keeps none.
    every_frame
        Whether to deblur every frame, also after the last one, instead of the newest.
    pixel_size_nm
        Pixel size in the specimen; overrides those of the profile and the core.

    Raises
    ------
    MicroscopeError
        The configuration cannot be loaded, or the camera sends no frames.
    ValueError
        An action at an alarm is not possible, or raw and deblurred frames would go to
        the same file.
    OSError
        A folder or file of the options cannot be written.
    """
    check_files(options, save)
    prepare_window(options)
    core = core_from_config(config)
    size_nm = core.getPixelSizeUm() * 1000 or None
    profile = with_pixel_size(
        options, size_nm, str(config), "a --profile or --pixel-size", pixel_size_nm
    )
    console = options.console
    sinks, events = alarm_sinks(
        options.alarms, core, sequence, lambda text: say(console, f"Note: {text}")
    )
    with running_session(
        options, profile, raw=save, core=core, sinks=sinks, every_frame=every_frame
    ) as session:
        if pixel_size_nm is not None:
            session.optics.confirm()
        with contextlib.ExitStack() as running:
            mda = None
            if events is not None:
                mda = running.enter_context(MdaRun(core, events, save))
            if options.window:
                from deepblur_live.cli.windowed import show_live

                show_live(session, start=False, seconds=options.seconds, mda=mda)
            elif mda is not None:
                watch_mda(session, console, mda, options.seconds)
            else:
                watch_live(session, console, options.seconds)
        watch_waiting(session, console)
