"""A session on a console, for demo, run and replay: options, start, summary."""

from __future__ import annotations

import contextlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepblur_live.calibration.rig import rig_family
from deepblur_live.cli.console import say
from deepblur_live.cli.mda import check_save
from deepblur_live.profile import Profile, check_profile
from deepblur_live.session import LiveSession
from deepblur_live.session.folder import require_folder
from deepblur_live.session.recording import check_recording

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

__all__ = ["Options", "check_files", "prepare_window", "running_session"]


@dataclass(frozen=True)
class Options:
    """Options that all runs have in common.

    Parameters
    ----------
    console
        Where messages go.
    output
        Folder of the sessions; each makes a folder of its own in it.
    profile
        The rig's settings; None for defaults that fit the source.
    window
        Whether to open the window.
    seconds
        Time after which the run ends; None for the default of its source.
    in_process
        Whether to run the pipeline without a worker process.
    alarms
        What to do at an alarm, as `alarm_sinks` takes it.
    deblurred
        File for the deblurred frames; None keeps none.
    psf
        File with the PSF to deblur with, in place of an identified one.
    """

    console: Console
    output: Path
    profile: Profile | None = None
    window: bool = False
    seconds: float | None = None
    in_process: bool = False
    alarms: Sequence[tuple[str, str]] = ()
    deblurred: Path | None = None
    psf: Path | None = None


def check_files(options: Options, save: Path | None = None) -> None:
    """Raise OSError for what cannot be written, before anything slow starts.

    ValueError if `save` and `options.deblurred` are the same file.
    """
    require_folder(options.output.absolute(), "--output")
    if options.deblurred is not None:
        check_recording(options.deblurred)
    if save is not None:
        check_save(save)
        if options.deblurred is not None and (
            save.resolve() == options.deblurred.resolve()
        ):
            raise ValueError(
                f"{save}: given for the raw frames (--save) and for the deblurred ones "
                "(--save-deblurred): give two different files"
            )


def prepare_window(options: Options) -> None:
    """Create the Qt application, if there is a window; call it before the core exists.

    A core created before it emits its signals from its own threads.
    """
    if options.window:
        from deepblur_live.gui import application

        application()


@contextmanager
def running_session(
    options: Options, profile: Profile, raw: Path | None = None, **source: Any
) -> Iterator[LiveSession]:
    """Run a session; an interrupt ends it early, with its files and summary.

    `raw` is the file that holds the raw frames already, if there is one.
    """
    console = options.console
    if options.psf is not None:
        profile = _with_psf(profile, options.psf)
    if profile.model.psf is not None or profile.model.calibration is not None:
        say(console, f"Blur: {rig_family(profile).describe()}.")
    say(console, "Starting the pipeline.")
    with _busy(options, "Starting the pipeline …"):
        session = LiveSession.from_profile(
            profile,
            folder=options.output.absolute(),
            in_process=options.in_process,
            **source,
        )
    # In a window the user starts the camera: there may be no frames.
    may_be_empty = options.window
    # Errors that have been printed already, without a window.
    early, printed = set(session.background_errors), set[str]()
    try:
        with contextlib.ExitStack() as at_the_end, session:
            try:
                if options.deblurred is not None:
                    session.recorder.start(options.deblurred, raw)
                    where = f"in {raw}" if raw is not None else "next to them"
                    say(
                        console,
                        f"Writing the deblurred frames to {options.deblurred}; the raw "
                        f"frames are {where}.",
                    )
                yield session
                # Until the session is closed; the window is gone by then.
                at_the_end.enter_context(_busy(options, "Writing the session …"))
            except KeyboardInterrupt:
                may_be_empty = True
                say(
                    console,
                    "Interrupted: the session ends here. Writing its files takes a few "
                    "seconds; Ctrl-C again leaves them unfinished.",
                )
            finally:
                if not options.window:
                    printed |= set(session.listener.background_errors)
                    printed |= set(session.background_errors) - early
    except Exception:
        if session.summary is not None and session.summary.processed:
            say(console, session.summary.text())
        raise
    for error in (*session.listener.background_errors, *session.background_errors):
        if error not in printed:
            say(console, f"Note: {error.splitlines()[0]}")
    summary = session.summary
    assert summary is not None
    say(console, summary.text())
    if summary.rows and not summary.not_followed:
        say(console, f"To write its report: deepblur-live report {summary.folder}")
    if summary.processed == 0 and not may_be_empty:
        raise RuntimeError("no frame was processed")


def _busy(options: Options, text: str) -> contextlib.AbstractContextManager[None]:
    """Show on the screen what the program is waiting for, if there is a window."""
    if not options.window:
        return contextlib.nullcontext()
    from deepblur_live.gui.busy import busy

    return busy(text)


def _with_psf(profile: Profile, psf: Path) -> Profile:
    """Return a profile with a fixed PSF."""
    content = profile.model_dump()
    content["model"]["psf"] = str(psf.absolute())
    return check_profile(content, "--psf")
