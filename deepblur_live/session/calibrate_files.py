"""Calibrate from files of bead slides: write a calibration's folder, or a PSF file."""

from __future__ import annotations

import importlib.metadata
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from deepblur_live.acquisition import open_series
from deepblur_live.acquisition.series import SeriesError
from deepblur_live.calibration import (
    CalibrationError,
    Source,
    calibrate_stack,
    save_calibration,
    write_psf,
)
from deepblur_live.calibration.manifest import different_optics
from deepblur_live.calibration.verdict import advice
from deepblur_live.profile import Profile, ProfileError, check_profile, load_profile
from deepblur_live.session.calibration_report import write_calibration_report
from deepblur_live.session.folder import require_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from deepblur_live.acquisition.series import Series
    from deepblur_live.calibration import Calibration
    from deepblur_live.profile import Optics

__all__ = ["CalibratedFiles", "calibrate_files", "file_optics", "summary"]

# Values of file and profile contradict each other if they differ by more than this.
_TOLERANCE = 0.01
_TIFF = (".ome.tif", ".ome.tiff", ".tif", ".tiff")
_NEEDED = {
    "numerical_aperture": "NA of the objective",
    "wavelength_nm": "emission wavelength",
    "refractive_index": "index of the immersion",
    "pixel_size_nm": "pixel size in the specimen",
}


class CalibratedFiles(NamedTuple):
    """The output of a calibration, and the calibrations in it.

    Parameters
    ----------
    path
        The calibration's folder, for ``model.calibration``; or with `single` the PSF
        file, for ``model.psf``.
    calibrations
        One for each file that was used, in order.
    left_out
        Files and planes that were left out and why, one sentence each.
    """

    path: Path
    calibrations: tuple[Calibration, ...]
    left_out: tuple[str, ...]


def calibrate_files(
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    profile: Profile | str | os.PathLike[str] | None = None,
    *,
    bead_nm: float,
    output: str | os.PathLike[str] | None = None,
    z_step_um: float | None = None,
    channel: str | None = None,
    single: bool = False,
    progress: Callable[[str, float], None] = lambda text, share: None,
    on_message: Callable[[str], None] = lambda text: None,
) -> CalibratedFiles:
    """Calibrate a microscope from files of bead slides, as the command does.

    A file that cannot be used, has other optics than the first, or is given twice, is
    left out.

    Parameters
    ----------
    files
        A stack of a bead slide through focus, or several: one per state of the
        microscope. Any recordings that `open_series` reads.
    profile
        The rig, or the file that describes it; None if the stacks' metadata state all
        optics.
    bead_nm
        Diameter of the beads, nm.
    output
        The folder, or with `single` the file, to write; named after the first stack
        when None.
    z_step_um
        Distance between planes, if the files do not state it; negative if z decreases.
    channel
        Name or number of the channel, if there are several.
    single
        Whether to write only a PSF file.
    progress
        Called with the file and what is being done with it, and the share of that
        file's work that is done, 0 to 1.
    on_message
        Called with each sentence for the user, when it is known: what is left out, and
        for each file the `summary` of its calibration.

    Raises
    ------
    CalibrationError
        No file could be calibrated.
    SeriesError
        The only file cannot be read.
    ProfileError
        The profile cannot be read.
    FileExistsError
        The output exists already.
    OSError
        The output cannot be written.
    ValueError
        `single` with several files, no file, or an output that is not a TIFF.
    """
    stacks = [files] if isinstance(files, str | os.PathLike) else files
    names = [str(stack) for stack in stacks]
    if not names:
        raise ValueError("no stack of a bead slide is given")
    if single and len(names) > 1:
        raise ValueError(
            f"a PSF file is made from one stack: give one, not {len(names)}"
        )
    if profile is not None and not isinstance(profile, Profile):
        profile = load_profile(Path(profile))
    ending = ".psf.ome.tif" if single else ".calib"
    target = Path(_stem(names[0]) + ending if output is None else output)
    _check_output(target, single=single)
    left_out: list[str] = []

    def leave_out(error: Exception) -> None:
        left_out.append(str(error))
        on_message(f"Left out: {error}")

    found: list[tuple[Source, Calibration]] = []
    for name, short in zip(names, _short_names(names), strict=True):
        try:
            source = replace(Source.of(Path(name)), file=short)
            _check_new(name, source, [known for known, _ in found])
            first = found[0][1] if found else None
            one = _calibrate(
                name, profile, bead_nm, z_step_um, channel, first, progress, leave_out
            )
        # One bad file must not end the run, whatever is wrong with it.
        except (OSError, RuntimeError, ValueError) as error:
            if len(names) == 1:
                raise
            known = isinstance(error, CalibrationError | SeriesError | ProfileError)
            leave_out(error if known else CalibrationError(f"{name}: {error}"))
            continue
        found.append((source, one))
        for line in summary(name, one, short if len(names) > 1 else ""):
            on_message(line)
    if not found:
        raise CalibrationError("none of the files could be calibrated")
    calibrations = tuple(one for _, one in found)
    if single:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_psf(calibrations[0], target)
        on_message(f"{target}: the PSF, for Fiji and others")
    else:
        version = importlib.metadata.version("deepblur-live")
        created = datetime.now(UTC).isoformat(timespec="seconds")
        rig = target.name if profile is None else profile.name
        program = f"deepblur-live {version}"
        manifest = save_calibration(target, found, rig, created, program)
        report = write_calibration_report(target, manifest, calibrations)
        on_message(f"{report}: the report")
    return CalibratedFiles(target, calibrations, tuple(left_out))


def summary(name: str, one: Calibration, about: str = "") -> list[str]:
    """Return the quality of a calibration, and what to improve, in sentences.

    If there are several files, `about` is the name with which advice begins.
    """
    counts = ", ".join(f"{n} {state}" for state, n in one.counts().items())
    lines = [f"{name}: {len(one.beads)} beads: {counts}."]
    judged = one.held_out
    if judged is not None:
        lines.append(
            f"Held-out beads are explained to {judged.total_db:.1f} dB "
            f"({judged.pupil_db:.1f} dB by the pupil alone); beads scatter by "
            f"{one.scatter_nm:.1f} nm; the Gaussian blur is {one.blur_nm:.0f} nm."
        )
    about = f"{about}: " if about else ""
    for item in advice(one):
        lines.append(f"{'Redo' if item.redo else 'Note'}: {about}{item.text}")
    return lines


def _check_output(target: Path, *, single: bool) -> None:
    """Check that the output can be written, before the fit, which takes long."""
    if single and not target.name.lower().endswith(_TIFF):
        raise ValueError(f"{target}: a PSF file is a TIFF: end its name in {_TIFF[0]}")
    if target.exists() and (single or target.is_file() or any(target.iterdir())):
        raise FileExistsError(f"{target} exists already: give another name")
    whole = target.absolute()
    require_folder(whole.parent if single else whole, "the calibration")


def _short_names(names: Sequence[str]) -> list[str]:
    """Return names without folders; with the last folder where names are equal."""
    own = [Path(name).name for name in names]
    return [
        f"{Path(name).absolute().parent.name}/{short}"
        if own.count(short) > 1
        else short
        for name, short in zip(names, own, strict=True)
    ]


def _check_new(name: str, source: Source, others: Sequence[Source]) -> None:
    """Refuse a recording that was used before: it would count as two states."""
    for other in others:
        if source.sha256 and source.sha256 == other.sha256:
            raise CalibrationError(f"{name}: is the same recording as {other.file}")


def _stem(file: str) -> str:
    return Path(file).name.split(".")[0] or "beads"


def _calibrate(
    file: str,
    profile: Profile | None,
    bead_nm: float,
    z_step_um: float | None,
    channel: str | None,
    first: Calibration | None,
    progress: Callable[[str, float], None],
    leave_out: Callable[[Exception], None],
) -> Calibration:
    with open_series(file, channel=channel) as series:
        rig = file_optics(series, profile)
        if first is not None:
            _check_same_optics(file, rig.optics, first.model.optics)
        step_um = _z_step_um(series, z_step_um)
        frames, z_um = _planes(series, step_um, leave_out)
    threads = torch.get_num_threads()
    # The arrays of one bead are small: a second thread costs more than it gains.
    torch.set_num_threads(1)
    try:
        return calibrate_stack(
            frames,
            z_um,
            rig,
            bead_nm,
            lambda text, share: progress(f"{file}: {text}", share),
            () if first is None else first.model.noll,
        )
    except CalibrationError as error:
        raise CalibrationError(f"{file}: {error}") from error
    finally:
        torch.set_num_threads(threads)


def _check_same_optics(file: str, own: Optics, first: Optics) -> None:
    for key, here, there in different_optics(own, first):
        raise CalibrationError(
            f"{file}: has {key} {here:g}, but the first file {there:g}: calibrate "
            "different optics separately"
        )


def _z_step_um(series: Series, given_um: float | None) -> float:
    """Return the distance between planes; only a given one has a sign."""
    own_um = series.z_step_um
    if given_um and own_um and abs(abs(given_um) / abs(own_um) - 1) > _TOLERANCE:
        raise CalibrationError(
            f"{series.path}: states planes {1e3 * abs(own_um):g} nm apart, but "
            f"{1e3 * given_um:g} nm are given: leave the distance out, or correct the "
            "file's metadata"
        )
    step = given_um or own_um
    if not step:
        raise CalibrationError(
            f"{series.path}: does not state the distance between planes: give it "
            "(--z-step 300nm; in Python z_step_um=0.3)"
        )
    return step


def _planes(
    series: Series, step_um: float, leave_out: Callable[[Exception], None]
) -> tuple[list[NDArray[Any]], list[float]]:
    """Return the planes of the first time point, and their positions.

    Those that cannot be read are NaN, so that the others keep their numbers.
    """
    count = series.planes if series.planes > 1 else len(series)
    frames: dict[int, NDArray[Any]] = {}
    for k in range(count):
        try:
            frames[k] = series[k]
        except SeriesError as error:
            leave_out(error)
    if not frames:
        raise CalibrationError(f"{series.path}: no plane can be read")
    missing = np.full(next(iter(frames.values())).shape, np.nan)
    return (
        [frames.get(k, missing) for k in range(count)],
        [k * step_um for k in range(count)],
    )


def file_optics(series: Series, profile: Profile | None) -> Profile:
    """Return the rig with the optics of a file, and the profile's for missing ones.

    Raises
    ------
    CalibrationError
        A number is in neither, or differs between them; the text names it.
    """
    recorded = {**series.optics._asdict(), "pixel_size_nm": series.pixel_size_nm}
    content = (profile or Profile()).model_dump()
    given = set() if profile is None else profile.optics.model_fields_set
    missing = []
    for key, meaning in _NEEDED.items():
        value = recorded.get(key)
        if value is None:
            if key not in given:
                missing.append(f"optics.{key} ({meaning})")
            continue
        own = content["optics"][key]
        if key in given and not np.isclose(value, own, rtol=_TOLERANCE, atol=0):
            raise CalibrationError(
                f"{series.path}: states {key} {value:g}, but the profile optics.{key} "
                f"= {own:g}: correct the profile, or the file's metadata"
            )
        if key not in given:
            content["optics"][key] = value
    if missing:
        raise CalibrationError(
            f"{series.path}: does not state {', '.join(missing)}: give a profile that "
            "does"
        )
    return check_profile(content, str(series.path))
