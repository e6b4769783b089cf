"""The command calibrate: bead stacks in, a calibration's folder or a PSF out."""

from __future__ import annotations

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
    write_mean_bead,
    write_psf,
)
from deepblur_live.calibration.verdict import advice
from deepblur_live.cli.console import say
from deepblur_live.profile import Profile, ProfileError, check_profile
from deepblur_live.session.calibration_report import write_calibration_report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from rich.console import Console

    from deepblur_live.acquisition.series import Series
    from deepblur_live.calibration import Calibration

__all__ = ["calibrate_files", "file_optics"]

# Numbers of file and profile that differ by more than this share contradict each other.
_TOLERANCE = 0.01
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

    A file that cannot be used is named and left out.

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
    ValueError
        `single` and several files.
    """
    if single and len(files) > 1:
        raise ValueError(f"--single: give one stack, not {len(files)}")
    # The arrays of one bead are small: a second thread costs more than it gains.
    torch.set_num_threads(1)
    target = output or Path(_stem(files[0]) + (".psf.ome.tif" if single else ".calib"))
    if target.exists() and (target.is_file() or any(target.iterdir())):
        raise FileExistsError(f"{target} exists already: give another name with -o")
    found: list[tuple[Source, Calibration]] = []
    for file in files:
        try:
            noll = found[0][1].model.noll if found else ()
            one = _calibrate(console, file, profile, bead_nm, z_step_um, channel, noll)
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
    write_psf(found[0][1], target / "psf.ome.tif")
    write_mean_bead(found[0][1], target / "mean_bead.ome.tif")
    report = write_calibration_report(target, manifest, [one for _, one in found])
    say(console, f"{report}: the report")


def _stem(file: str) -> str:
    return Path(file).name.split(".")[0] or "beads"


def _calibrate(
    console: Console,
    file: str,
    profile: Profile | None,
    bead_nm: float,
    z_step_um: float | None,
    channel: str | None,
    noll: tuple[int, ...],
) -> Calibration:
    with open_series(file, channel=channel) as series:
        rig = file_optics(series, profile)
        step = z_step_um or series.z_step_um
        if not step:
            raise CalibrationError(
                f"{file}: does not say how far apart the planes are: give --z-step, "
                "such as 300nm"
            )
        frames, z_um = _planes(console, series, step)
    with console.status("") as status:
        try:
            return calibrate_stack(
                frames,
                z_um,
                rig,
                bead_nm,
                lambda text, share: status.update(f"{file}: {text} ({share:.0%})"),
                noll,
            )
        except CalibrationError as error:
            raise CalibrationError(f"{file}: {error}") from error


def _planes(
    console: Console, series: Series, step_um: float
) -> tuple[list[NDArray[Any]], list[float]]:
    """Return the readable planes of the first time point, and their positions."""
    count = series.planes if series.planes > 1 else len(series)
    frames, z_um = [], []
    for k in range(count):
        try:
            frames.append(series[k])
        except SeriesError as error:
            say(console, f"Left out: {error}")
            continue
        z_um.append(k * step_um)
    if not frames:
        raise CalibrationError(f"{series.path}: no plane can be read")
    return frames, z_um


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
