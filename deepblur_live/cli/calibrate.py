"""The command calibrate: bead stacks in, a calibration's folder or a PSF out."""

from __future__ import annotations

import contextlib
import importlib.metadata
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from deepblur_live.cli.console import say
from deepblur_live.profile import Profile, ProfileError, check_profile
from deepblur_live.session.calibration_report import write_calibration_report
from deepblur_live.session.folder import require_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from rich.console import Console

    from deepblur_live.acquisition.series import Series
    from deepblur_live.calibration import Calibration
    from deepblur_live.profile import Optics

__all__ = ["calibrate_files", "file_optics"]

# Numbers of file and profile that differ by more than this share contradict each other.
_TOLERANCE = 0.01
_TIFF = (".ome.tif", ".ome.tiff", ".tif", ".tiff")
_NEEDED = {
    "numerical_aperture": "NA of the objective",
    "wavelength_nm": "emission wavelength",
    "refractive_index": "index of the immersion",
    "pixel_size_nm": "pixel size in the specimen",
}


def calibrate_files(
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
    """Calibrate from one or more stacks of bead slides.

    A file that cannot be used, or has other optics than the first, is named and left
    out.

    Parameters
    ----------
    console
        For progress and result.
    files
        One stack a state of the microscope, as `open_series` takes them.
    profile
        The rig; None if the files say everything.
    bead_nm
        Diameter of the beads.
    output
        The folder, or with `single` the file, to write; named after the first stack
        when None.
    z_step_um
        Distance of the planes, if the files do not hold it; negative if z falls.
    channel
        If there are several.
    single
        Whether to write a PSF alone.

    Raises
    ------
    CalibrationError
        No file gives a calibration.
    FileExistsError
        The output exists already.
    OSError
        The output cannot be written.
    ValueError
        `single` and several files, or an output that is no TIFF.
    """
    if single and len(files) > 1:
        raise ValueError(f"--single: give one stack, not {len(files)}")
    # The arrays of one bead are small: a second thread costs more than it gains.
    torch.set_num_threads(1)
    target = output or Path(_stem(files[0]) + (".psf.ome.tif" if single else ".calib"))
    _check_output(target, single=single)
    found: list[tuple[Source, Calibration]] = []
    for file in files:
        try:
            first = found[0][1] if found else None
            one = _calibrate(console, file, profile, bead_nm, z_step_um, channel, first)
        except (CalibrationError, SeriesError, ProfileError) as error:
            if len(files) == 1:
                raise
            say(console, f"Left out: {error}")
            continue
        found.append((Source.of(Path(file)), one))
        _say_result(console, file, one)
    if not found:
        raise CalibrationError("none of the files gives a calibration")
    if single:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_psf(found[0][1], target)
        say(console, f"{target}: the PSF, for Fiji and others")
        return
    version = importlib.metadata.version("deepblur-live")
    created = datetime.now(UTC).isoformat(timespec="seconds")
    name = Path(target).name if profile is None else profile.name
    manifest = save_calibration(
        target, found, name, created, f"deepblur-live {version}"
    )
    report = write_calibration_report(target, manifest, [one for _, one in found])
    say(console, f"{report}: the report")


def _check_output(target: Path, *, single: bool) -> None:
    """Refuse an output that cannot be written, before the fit, which takes long."""
    if single and not target.name.lower().endswith(_TIFF):
        raise ValueError(f"{target}: --single writes a TIFF: end it in {_TIFF[0]}")
    if target.exists() and (single or target.is_file() or any(target.iterdir())):
        raise FileExistsError(f"{target} exists already: give another name with -o")
    whole = target.absolute()
    require_folder(whole.parent if single else whole, "--output")


def _stem(file: str) -> str:
    return Path(file).name.split(".")[0] or "beads"


def _calibrate(
    console: Console,
    file: str,
    profile: Profile | None,
    bead_nm: float,
    z_step_um: float | None,
    channel: str | None,
    first: Calibration | None,
) -> Calibration:
    with open_series(file, channel=channel) as series:
        rig = file_optics(series, profile)
        if first is not None:
            _check_same_optics(file, rig.optics, first.model.optics)
        frames, z_um = _planes(console, series, _z_step_um(series, z_step_um))
    with _progress(console, file) as progress:
        try:
            return calibrate_stack(
                frames,
                z_um,
                rig,
                bead_nm,
                progress,
                () if first is None else first.model.noll,
            )
        except CalibrationError as error:
            raise CalibrationError(f"{file}: {error}") from error


@contextlib.contextmanager
def _progress(console: Console, file: str) -> Iterator[Callable[[str, float], None]]:
    """Show progress in place on a terminal, elsewhere a line for each step."""
    if not console.is_terminal:
        yield lambda text, share: say(console, f"{file}: {text} ({share:.0%})")
        return
    with console.status("") as status:
        yield lambda text, share: status.update(f"{file}: {text} ({share:.0%})")


def _check_same_optics(file: str, own: Optics, first: Optics) -> None:
    for key, here, there in different_optics(own, first):
        raise CalibrationError(
            f"{file}: has {key} {here:g}, and the first file {there:g}: calibrate "
            "other optics on their own"
        )


def _z_step_um(series: Series, given_um: float | None) -> float:
    """Return the distance of the planes; its sign is known from the option only."""
    own_um = series.z_step_um
    if given_um and own_um and abs(abs(given_um) / abs(own_um) - 1) > _TOLERANCE:
        raise CalibrationError(
            f"{series.path}: has planes {1e3 * abs(own_um):g} nm apart, and --z-step "
            f"is {1e3 * given_um:g} nm: leave --z-step out, or correct the file's "
            "metadata"
        )
    step = given_um or own_um
    if not step:
        raise CalibrationError(
            f"{series.path}: does not say how far apart the planes are: give --z-step, "
            "such as 300nm"
        )
    return step


def _planes(
    console: Console, series: Series, step_um: float
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
            say(console, f"Left out: {error}")
    if not frames:
        raise CalibrationError(f"{series.path}: no plane can be read")
    missing = np.full(next(iter(frames.values())).shape, np.nan)
    return (
        [frames.get(k, missing) for k in range(count)],
        [k * step_um for k in range(count)],
    )


def file_optics(series: Series, profile: Profile | None) -> Profile:
    """Return the rig with the optics of a file, and of the profile where it has none.

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
                f"{series.path}: has {key} {value:g}, and the profile has optics.{key} "
                f"= {own:g}: correct the profile, or the file's metadata"
            )
        if key not in given:
            content["optics"][key] = value
    if missing:
        raise CalibrationError(
            f"{series.path}: does not hold {', '.join(missing)}: give a profile with "
            "it, --profile rig.toml"
        )
    return check_profile(content, str(series.path))


def _say_result(console: Console, file: str, one: Calibration) -> None:
    counts = ", ".join(f"{n} {state}" for state, n in one.counts().items())
    say(console, f"{file}: {len(one.beads)} beads: {counts}.")
    judged = one.held_out
    if judged is not None:
        say(
            console,
            f"Held-out beads are explained to {judged.total_db:.1f} dB "
            f"({judged.pupil_db:.1f} dB by the pupil alone); beads scatter by "
            f"{one.scatter_nm:.1f} nm; the Gaussian blur is {one.blur_nm:.0f} nm.",
        )
    for item in advice(one):
        say(console, f"{'Redo: ' if item.redo else 'Note: '}{item.text}")
