"""What demo, run and replay do: a source, a rig around it, a summary at the end."""

from __future__ import annotations

import contextlib
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deepblur_live.acquisition.replay import open_replay
from deepblur_live.acquisition.scene import SimulatedScene
from deepblur_live.acquisition.simulated import simulated_core
from deepblur_live.acquisition.truth import read_truth
from deepblur_live.cli.alarms import Alarms
from deepblur_live.cli.cores import core_from_config
from deepblur_live.cli.headless import watch_live, watch_mda, watch_replay
from deepblur_live.cli.mda import MdaRun
from deepblur_live.cli.progress import say
from deepblur_live.cli.rig import Rig
from deepblur_live.optics import ZernikeFamily
from deepblur_live.profile import Profile, check_profile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console
    from useq import MDASequence

__all__ = ["Options", "demo", "demo_profile", "replay", "run"]

# Two minutes in all is what the demonstration may take, on a slow machine too.
_DEMO_S = 75.0
_DEMO_WHOLE_S = 100.0
_DEMO_LEAST_S = 30.0
_STARTED = time.monotonic()

_SAME_PIXEL = 0.02


@dataclass(frozen=True)
class Options:
    """How a run is done, whatever its source.

    Parameters
    ----------
    console
        Where to say what happens.
    output
        Where sessions are kept, each in a folder of its own.
    profile
        The rig's settings; None for defaults that fit the source.
    window
        Whether it is shown.
    seconds
        After which it ends by itself; None for the source's own way.
    in_process
        Whether to do without a worker process.
    alarms
        What is done at an alarm.
    """

    console: Console
    output: Path
    profile: Profile | None = None
    window: bool = False
    seconds: float | None = None
    in_process: bool = False
    alarms: Alarms = field(default_factory=Alarms)


def demo(options: Options) -> None:
    """Run the simulated microscope through the whole of it, beside the known truth.

    Headless it ends by itself within two minutes, start included.
    """
    optics = (options.profile or Profile()).optics
    scene = SimulatedScene(family=ZernikeFamily.from_optics(optics))
    profile = options.profile or demo_profile(scene)

    def truth_image(metadata: Mapping[str, Any]) -> NDArray[np.float32] | None:
        truth = read_truth(metadata)
        return None if truth is None else scene.truth_image(truth.time)

    say(
        options.console,
        "A simulated microscope: a real micrograph, blurred by aberrations that drift "
        "and then jump, with camera noise. The blur is identified from the frames "
        "alone, removed, and compared with the truth.",
    )
    sinks, _ = options.alarms.sinks()
    _prepare_window(options)
    core = simulated_core(scene)
    source = {"core": core, "truth_image": truth_image, "sinks": sinks}
    with _session(options, profile, **source) as rig:
        if options.window:
            from deepblur_live.cli.windowed import show_live

            show_live(rig, start=True, seconds=options.seconds)
        else:
            left = _DEMO_WHOLE_S - (time.monotonic() - _STARTED)
            own = min(_DEMO_S, max(_DEMO_LEAST_S, left))
            watch_live(rig, options.console, options.seconds or own)


def run(
    options: Options,
    config: Path,
    *,
    sequence: MDASequence | None = None,
    save: Path | None = None,
) -> None:
    """Run a real microscope from its Micro-Manager configuration.

    Parameters
    ----------
    options
        How.
    config
        The microscope.
    sequence
        What it does; live mode otherwise.
    save
        Where the sequence's frames are written; None keeps none.

    Raises
    ------
    MicroscopeError
        The configuration cannot be loaded, or the camera does not send.
    ValueError
        What is to be done at an alarm cannot be done.
    """
    _prepare_window(options)
    core = core_from_config(config)
    size_nm = core.getPixelSizeUm() * 1000 or None
    profile = _with_pixel_size(options, size_nm, str(config))
    console = options.console
    sinks, events = options.alarms.sinks(
        core, sequence, lambda text: say(console, f"Note: {text}")
    )
    with contextlib.ExitStack() as owned:
        rig = owned.enter_context(_session(options, profile, core=core, sinks=sinks))
        mda = None
        if events is not None:
            mda = owned.enter_context(MdaRun(core, events, save))
        if options.window:
            from deepblur_live.cli.windowed import show_live

            show_live(rig, start=False, seconds=options.seconds, mda=mda)
        elif mda is not None:
            watch_mda(rig, console, mda, options.seconds)
        else:
            watch_live(rig, console, options.seconds)


def replay(
    options: Options,
    file: Path | str,
    *,
    pixel_size_nm: float | None = None,
    channel: str | None = None,
) -> None:
    """Send a recording through, every frame of it.

    Raises
    ------
    ReplayError
        The recording cannot be read.
    """
    with open_replay(file, channel=channel) as source:
        if pixel_size_nm is None:
            profile = _with_pixel_size(options, source.pixel_size_nm, str(source.path))
        else:
            profile = _resized(
                options.profile or Profile(), pixel_size_nm, "--pixel-size"
            )
        rows, columns = source.shape
        say(
            options.console,
            f"{source.path}: {len(source)} frames of {rows} × {columns}, pixels of "
            f"{profile.optics.pixel_size_nm:g} nm",
        )
        if source.planes > 1:
            say(
                options.console,
                f"Note: {source.path}: {source.planes} focal planes (its Z axis) "
                "follow each other as if they were times: the drift shown mixes them",
            )
        _prepare_window(options)
        with _session(options, profile, every_frame=True) as rig:
            if options.window:
                from deepblur_live.cli.windowed import show_replay

                show_replay(rig, source, options.seconds)
            else:
                watch_replay(rig, options.console, source)


def _prepare_window(options: Options) -> None:
    # A core built before Qt's application sends its events from its own threads.
    if options.window:
        from deepblur_live.cli.windowed import application

        application()


@contextmanager
def _session(options: Options, profile: Profile, **source: Any) -> Iterator[Rig]:
    """Run a rig; an interrupt ends it early, with its session and summary."""
    console = options.console
    say(console, "Starting the pipeline.")
    output = options.output.absolute()
    rig = Rig(profile, output, in_process=options.in_process, **source)
    # In the window it is a person who starts the camera, or does not.
    may_be_empty = options.window
    try:
        with rig:
            try:
                yield rig
            except KeyboardInterrupt:
                may_be_empty = True
                say(
                    console,
                    "Interrupted: the session ends here. Writing it takes some "
                    "seconds; Ctrl-C once more leaves it unfinished.",
                )
    except Exception:
        # What came through before the error is kept, and said.
        if rig.summary is not None and rig.summary.processed:
            say(console, rig.summary.text())
        raise
    # Without a window the listener's errors were said when they came.
    errors = rig.listener.background_errors if options.window else []
    for error in (*errors, *rig.session.background_errors):
        say(console, f"Note: {error.splitlines()[0]}")
    assert rig.summary is not None
    say(console, rig.summary.text())
    if rig.summary.rows:
        say(console, f"A page of it: deepblur-live report {rig.summary.folder}")
    if rig.summary.processed == 0 and not may_be_empty:
        raise RuntimeError("no frame came through")


# A minute and a half has no room for the ten minutes that a baseline takes: these few,
# short points would give a real microscope false alarms within hours.
_DEMO_DRIFT = {
    "batch_s": 4.0,
    "baseline_points": 4,
    "false_alarm_hours": 2.0,
    "cooldown_s": 30.0,
}


def demo_profile(scene: SimulatedScene) -> Profile:
    """Return a profile with the simulated camera's data sheet."""
    noise = scene.noise
    camera = {
        "offset_adu": noise.offset_adu,
        "gain_e_per_adu": noise.gain_e_per_adu,
        "read_noise_e": noise.read_noise_e,
    }
    content = {
        "name": "simulated microscope",
        "camera": camera,
        "drift": _DEMO_DRIFT,
    }
    return check_profile(content, "the simulated camera")


def _with_pixel_size(options: Options, size_nm: float | None, origin: str) -> Profile:
    """Return the profile; without one, the source's own pixel size counts.

    A profile that differs from its source is followed, and the difference is said.
    """
    if options.profile is None:
        if size_nm is None:
            return Profile()
        return _resized(Profile(), size_nm, f"{origin}, no --profile given")
    own = options.profile.optics.pixel_size_nm
    if size_nm is not None and abs(size_nm / own - 1) > _SAME_PIXEL:
        say(
            options.console,
            f"Note: pixels of {own:g} nm as the profile says; {origin} says "
            f"{size_nm:g} nm",
        )
    return options.profile


def _resized(profile: Profile, size_nm: float, origin: str) -> Profile:
    content = profile.model_dump()
    content["optics"]["pixel_size_nm"] = size_nm
    return check_profile(content, origin)
