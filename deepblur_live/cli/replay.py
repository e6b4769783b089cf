"""The command replay: every frame of a recording."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.acquisition import open_series
from deepblur_live.cli.console import say
from deepblur_live.cli.console_session import (
    check_files,
    prepare_window,
    running_session,
)
from deepblur_live.cli.headless import watch_replay
from deepblur_live.cli.pixel_size import with_pixel_size

if TYPE_CHECKING:
    from pathlib import Path

    from deepblur_live.cli.console_session import Options

__all__ = ["replay_recording"]


def replay_recording(
    options: Options,
    file: Path | str,
    *,
    pixel_size_nm: float | None = None,
    channel: str | None = None,
) -> None:
    """Process every frame of a recording.

    Raises
    ------
    SeriesError
        The recording cannot be read.
    OSError
        A folder or file of the options cannot be written.
    """
    check_files(options)
    with open_series(file, channel=channel) as source:
        profile = with_pixel_size(
            options,
            source.pixel_size_nm,
            str(source.path),
            "--pixel-size or a --profile",
            pixel_size_nm,
        )
        if channel is not None:
            # The file may know the name of a channel that was chosen by its number.
            name = source.channel or channel
            profile = profile.at_wavelength(profile.wavelength_of(name))
        rows, columns = source.shape
        say(
            options.console,
            f"{source.path}: {len(source)} frames of {rows} rows × {columns} columns, "
            f"pixels of {profile.optics.pixel_size_nm:g} nm",
        )
        if source.planes > 1:
            say(
                options.console,
                f"Note: {source.path}: {source.planes} focal planes (its Z axis) "
                "are treated as successive times: the drift shown mixes them",
            )
        prepare_window(options)
        raw = source.path.absolute()
        with running_session(
            options, profile, raw=raw, every_frame=True, sinks=()
        ) as session:
            session.recorder.raw_file = raw
            if pixel_size_nm is not None and source.pixel_size_nm is not None:
                session.optics.check(source.pixel_size_nm, str(source.path))
                session.optics.confirm()
            if options.window:
                from deepblur_live.cli.windowed import show_replay

                show_replay(session, source, options.seconds)
            else:
                watch_replay(session, options.console, source)
