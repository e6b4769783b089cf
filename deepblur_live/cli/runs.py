"""The commands demo, run and replay: a source, a session, a summary at the end."""

from __future__ import annotations

import contextlib
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from deepblur_live.acquisition import open_series
from deepblur_live.acquisition.bead_slide import bead_slide
from deepblur_live.acquisition.simulated import simulated_core
from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.acquisition.specimen import load_specimen, mosaic
from deepblur_live.acquisition.truth import read_truth
from deepblur_live.blur import family_from_profile
from deepblur_live.blur.field_basis import FieldView
from deepblur_live.blur.fixed_psf import FixedPsf
from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.calibration.rig import rig_family
from deepblur_live.cli.alarms import alarm_sinks
from deepblur_live.cli.console import say
from deepblur_live.cli.cores import core_from_config
from deepblur_live.cli.headless import (
    watch_live,
    watch_mda,
    watch_replay,
    watch_waiting,
)
from deepblur_live.cli.mda import MdaRun, check_save
from deepblur_live.profile import Profile, check_profile
from deepblur_live.session import LiveSession
from deepblur_live.session.folder import require_folder
from deepblur_live.session.recording import check_recording
from deepblur_live.session.stated_optics import assumed_optics, same_pixel_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console
    from useq import MDASequence

    from deepblur_live.blur import BlurFamily

__all__ = ["Options", "demo", "demo_profile", "replay", "run"]

# Within two minutes in all, on a slow machine too (docs/decisions/0082).
_DEMO_S = 75.0
_DEMO_WHOLE_S = 100.0
_DEMO_LEAST_S = 30.0
_STARTED = time.monotonic()

# Exposure of the simulated camera, and its frame where the blur varies: computing one
# takes up to 0.2 s of a core there, deblurring it 1.5 s.
_UNIFORM_MS, _FIELD_MS = 50.0, 400.0
_FIELD_SHAPE = (768, 768)


_BEAD_NM = 200.0
_BEADS_TEXT = (
    "A simulated microscope with a slide of equal beads, at rest. Session > Calibrate "
    "with beads … in the window measures its blur."
)


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


def demo(options: Options, *, field: bool = False, beads: bool = False) -> None:
    """Run a simulated microscope, and compare the results with the truth.

    Without a window it ends within two minutes, including the start. With `field` the
    blur varies over the field; with `beads` there is a bead slide, and nothing drifts.

    Raises
    ------
    ProfileError
        The profile's blur cannot vary over the field.
    ValueError
        The blur varies over the field, and the specimen is a bead slide.
    """
    _check_files(options)
    rig = options.profile or Profile()
    if field:
        rig = _with_field(rig)
    field = rig.model.blur == "field"
    if beads and field:
        raise ValueError(
            "--beads has one blur in the whole frame: leave it out, or --field and "
            "model.blur"
        )
    sample = _simulated_slide(rig) if beads else simulated_sample(rig)
    profile = demo_profile(sample, rig.model.blur) if options.profile is None else rig
    if beads and options.profile is None:
        model = profile.model.model_copy(update={"bead_diameter_nm": _BEAD_NM})
        profile = profile.model_copy(update={"model": model})

    def truth_image(metadata: Mapping[str, Any]) -> NDArray[np.float32] | None:
        truth = read_truth(metadata)
        return None if truth is None else sample.truth_image(truth.time)

    say(
        options.console,
        _BEADS_TEXT
        if beads
        else "A simulated microscope: a real micrograph, blurred by aberrations that "
        f"{'vary over the field, ' if field else ''}drift and then jump, with camera "
        "noise. The blur is identified from the frames alone, removed, and compared "
        "with the truth.",
    )
    sinks, _ = alarm_sinks(options.alarms)
    _prepare_window(options)
    core = simulated_core(sample, exposure_ms=_FIELD_MS if field else _UNIFORM_MS)
    with _session(
        options, profile, core=core, truth_image=truth_image, sinks=sinks
    ) as session:
        if options.window:
            from deepblur_live.cli.windowed import show_live

            show_live(session, start=True, seconds=options.seconds)
        else:
            left = _DEMO_WHOLE_S - (time.monotonic() - _STARTED)
            default = min(_DEMO_S, max(_DEMO_LEAST_S, left))
            watch_live(session, options.console, options.seconds or default)


def run(
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
        Of the run.
    config
        The configuration.
    sequence
        An MDA to run; live mode otherwise.
    save
        File for the raw frames of the sequence; None keeps none.
    every_frame
        Whether to deblur every frame, also after the last one, instead of the newest.
    pixel_size_nm
        Pixel size in the specimen that is right, whatever profile and core say.

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
    _check_files(options, save)
    _prepare_window(options)
    core = core_from_config(config)
    size_nm = core.getPixelSizeUm() * 1000 or None
    profile = _with_pixel_size(
        options, size_nm, str(config), "a --profile or --pixel-size", pixel_size_nm
    )
    console = options.console
    sinks, events = alarm_sinks(
        options.alarms, core, sequence, lambda text: say(console, f"Note: {text}")
    )
    with _session(
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


def replay(
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
    _check_files(options)
    with open_series(file, channel=channel) as source:
        profile = _with_pixel_size(
            options,
            source.pixel_size_nm,
            str(source.path),
            "--pixel-size or a --profile",
            pixel_size_nm,
        )
        if channel is not None:
            # Chosen by its number it has its name too.
            name = source.channel or channel
            profile = profile.at_wavelength(profile.wavelength_of(name))
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
                "are treated as successive times: the drift shown mixes them",
            )
        _prepare_window(options)
        raw = source.path.absolute()
        with _session(options, profile, raw=raw, every_frame=True, sinks=()) as session:
            session.recorder.raw_file = raw
            if pixel_size_nm is not None and source.pixel_size_nm is not None:
                session.optics.check(source.pixel_size_nm, str(source.path))
                session.optics.confirm()
            if options.window:
                from deepblur_live.cli.windowed import show_replay

                show_replay(session, source, options.seconds)
            else:
                watch_replay(session, options.console, source)


def _check_files(options: Options, save: Path | None = None) -> None:
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
                f"{save}: named for the raw frames (--save) and for the deblurred ones "
                "(--save-deblurred): give two names"
            )


def _prepare_window(options: Options) -> None:
    # A core created before the Qt application emits its signals from its own threads.
    if options.window:
        from deepblur_live.gui import application

        application()


def _word(options: Options, text: str) -> contextlib.AbstractContextManager[None]:
    """Show on the screen what the program is waiting for, if there is a window."""
    if not options.window:
        return contextlib.nullcontext()
    from deepblur_live.gui.busy import busy

    return busy(text)


@contextmanager
def _session(
    options: Options, profile: Profile, raw: Path | None = None, **source: Any
) -> Iterator[LiveSession]:
    """Run a session; an interrupt ends it early, with its files and summary.

    `raw` is the file in which the raw frames are anyway.
    """
    console = options.console
    if options.psf is not None:
        profile = _with_psf(profile, options.psf)
    if profile.model.psf is not None or profile.model.calibration is not None:
        say(console, f"Blur: {rig_family(profile).describe()}.")
    say(console, "Starting the pipeline.")
    with _word(options, "Starting the pipeline …"):
        session = LiveSession.from_profile(
            profile,
            folder=options.output.absolute(),
            in_process=options.in_process,
            **source,
        )
    # In the window it is the user who starts the camera, or does not.
    may_be_empty = options.window
    try:
        with contextlib.ExitStack() as at_the_end, session:
            try:
                if options.deblurred is not None:
                    session.recorder.start(options.deblurred, raw)
                    where = f"in {raw}" if raw is not None else "next to them"
                    say(
                        console,
                        f"Keeping the deblurred frames in {options.deblurred}; the raw "
                        f"frames are {where}.",
                    )
                yield session
                # Until the session is closed; the window is gone by then.
                at_the_end.enter_context(_word(options, "Writing the session …"))
            except KeyboardInterrupt:
                may_be_empty = True
                say(
                    console,
                    "Interrupted: the session ends here. Writing its files takes a few "
                    "seconds; Ctrl-C again leaves them unfinished.",
                )
    except Exception:
        if session.summary is not None and session.summary.processed:
            say(console, session.summary.text())
        raise
    # Without a window, the errors of the listener have been printed already.
    errors = session.listener.background_errors if options.window else []
    for error in (*errors, *session.background_errors):
        say(console, f"Note: {error.splitlines()[0]}")
    summary = session.summary
    assert summary is not None
    say(console, summary.text())
    if summary.rows and not summary.not_followed:
        say(console, f"For a report of it: deepblur-live report {summary.folder}")
    if summary.processed == 0 and not may_be_empty:
        raise RuntimeError("no frame was processed")


# Fewer and shorter points than a real microscope needs (docs/decisions/0082).
_DEMO_DRIFT = {
    "batch_s": 4.0,
    "baseline_points": 4,
    "false_alarm_hours": 2.0,
    "cooldown_s": 30.0,
}


def simulated_sample(rig: Profile) -> SimulatedSample:
    """Return what the simulated camera images, through a rig's blurs.

    With a fixed PSF, which does not change, the blurs are those of its optics.
    """
    pixel_size_nm = rig.optics.pixel_size_nm
    family = _simulated_family(rig)
    if not isinstance(family, ZernikeField):
        return SimulatedSample(family=family, pixel_size_nm=pixel_size_nm)
    return SimulatedSample(
        mosaic(load_specimen()),
        family=replace(family, view=FieldView(*_FIELD_SHAPE)),
        shape=_FIELD_SHAPE,
        pixel_size_nm=pixel_size_nm,
    )


def _simulated_family(rig: Profile) -> BlurFamily:
    """Return a rig's blurs, or those of its optics where they are fixed."""
    if rig.model.psf is not None:
        return family_from_profile(rig)
    family = rig_family(rig)
    return family_from_profile(rig) if isinstance(family, FixedPsf) else family


def _simulated_slide(rig: Profile) -> SimulatedSample:
    """Return a bead slide through a rig's blurs."""
    return bead_slide(
        _simulated_family(rig),
        rig.model.bead_diameter_nm or _BEAD_NM,
        pixel_size_nm=rig.optics.pixel_size_nm,
    )


def _with_psf(profile: Profile, psf: Path) -> Profile:
    """Return a profile with a fixed PSF."""
    content = profile.model_dump()
    content["model"]["psf"] = str(psf.absolute())
    return check_profile(content, "--psf")


def _with_field(rig: Profile) -> Profile:
    """Return a profile with a blur that varies over the field."""
    content = rig.model_dump(exclude_unset=True)
    content.setdefault("model", {})["blur"] = "field"
    return check_profile(content, "--field")


def demo_profile(sample: SimulatedSample, blur: str = "uniform") -> Profile:
    """Return a profile with the calibration of the simulated camera."""
    noise = sample.noise
    camera = {
        "offset_adu": noise.offset_adu,
        "gain_e_per_adu": noise.gain_e_per_adu,
        "read_noise_e": noise.read_noise_e,
    }
    content = {
        "name": "simulated microscope",
        "optics": Profile().optics.model_dump()
        | {"pixel_size_nm": sample.pixel_size_nm},
        "camera": camera,
        "model": {"blur": blur},
        "drift": _DEMO_DRIFT,
    }
    return check_profile(content, "the simulated camera")


def _with_pixel_size(
    options: Options,
    size_nm: float | None,
    origin: str,
    remedy: str,
    given_nm: float | None,
) -> Profile:
    """Return the profile; without one, the default with the source's pixel size.

    A note reports optics that are not stated, with the `remedy`.

    Parameters
    ----------
    size_nm, origin
        What the source says, and its name.
    given_nm
        The pixel size given on the command line, which is right in any case.

    Raises
    ------
    ValueError
        Profile and source contradict each other, and there is no window in which it
        could be confirmed.
    """
    console, profile = options.console, options.profile
    if given_nm is not None:
        profile = _resized(profile or Profile(), given_nm, "--pixel-size")
    elif profile is None and size_nm is not None:
        profile = _resized(Profile(), size_nm, f"{origin}, no --profile given")
    elif profile is None:
        profile = Profile()
        say(
            console,
            f"Note: {origin} states no pixel size, and there is no --profile: "
            f"assuming {profile.optics.pixel_size_nm:g} nm in the specimen. A "
            f"wrong one makes the estimates wrong: give {remedy}",
        )
    elif size_nm is not None and not same_pixel_size(
        size_nm, own := profile.optics.pixel_size_nm
    ):
        contradiction = (
            f"{origin} says pixels of {size_nm:.4g} nm, the profile {own:g} nm"
        )
        if not options.window:
            raise ValueError(
                f"{contradiction}: correct one of them, or give --pixel-size {own:g} "
                "to confirm the profile's"
            )
        say(console, f"Note: {contradiction}: confirm in the window which is right")
    if assumed := assumed_optics(profile):
        say(console, f"Note: {assumed}")
    return profile


def _resized(profile: Profile, size_nm: float, origin: str) -> Profile:
    content = profile.model_dump(exclude_unset=True)
    content.setdefault("optics", {})["pixel_size_nm"] = size_nm
    return check_profile(content, origin)
