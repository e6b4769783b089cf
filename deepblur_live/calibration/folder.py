"""A calibration's folder: strict manifest, tensors with hashes, table of beads."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from deepblur_live.calibration.bead_table import bead_table, place_of
from deepblur_live.calibration.manifest import (
    FORMAT,
    OPTICS,
    VERSION,
    CalibratedOptics,
    CalibrationManifest,
    State,
    check_optics,
    read_manifest,
)
from deepblur_live.calibration.psf_file import write_mean_bead, write_psf
from deepblur_live.calibration.registered import registered
from deepblur_live.calibration.stack import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from deepblur_live.calibration.calibrate import Calibration
    from deepblur_live.profile import Optics

__all__ = [
    "MANIFEST",
    "TENSORS",
    "SavedCalibration",
    "Source",
    "load_calibration",
    "save_calibration",
]

MANIFEST, TENSORS, BEADS = "manifest.json", "calibration.safetensors", "beads.csv"
PSF, MEAN_BEAD = "psf.ome.tif", "mean_bead.ome.tif"
FILES = (TENSORS, BEADS, PSF, MEAN_BEAD)


@dataclass(frozen=True)
class Source:
    """A recording: its name and the hash of its bytes."""

    file: str
    sha256: str = ""

    @classmethod
    def of(cls, path: Path) -> Source:
        """Return the source of a file; folders have no hash."""
        if not path.is_file():
            return cls(path.name)
        with path.open("rb") as stream:
            return cls(path.name, hashlib.file_digest(stream, "sha256").hexdigest())


@dataclass(frozen=True)
class SavedCalibration:
    """A calibration that was read and checked.

    Parameters
    ----------
    folder, manifest
        The folder, and its manifest.
    tensors
        For state k: ``"k.trend"`` (3, P), ``"k.scatter"`` (P,), ``"k.covariance"``
        (P, P), ``"k.residual"`` (Z, K, K), ``"k.mean"`` and ``"k.deviation"`` of the
        beads, ``"k.coefficients"`` (n, P), ``"k.sigma"`` (n, P) and ``"k.places"``
        (n, 3) row, column in pixels and z in µm of the n used beads, and their
        registered images ``"k.beads"`` (n, Z, K, K).
    """

    folder: Path
    manifest: CalibrationManifest
    tensors: dict[str, NDArray[np.float64]]


def save_calibration(
    folder: Path,
    calibrations: Sequence[tuple[Source, Calibration]],
    name: str,
    created: str,
    program: str,
) -> CalibrationManifest:
    """Write one calibration per state: tensors, table, PSF, mean bead, manifest.

    PSF and mean bead are those of the first state.

    Parameters
    ----------
    folder
        Created if it does not exist.
    calibrations
        Each with its recording; all with the same modes and optics.
    name
        Name of the rig.
    created
        Time, ISO 8601.
    program
        Name and version of the program.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = save(_tensors([calibration for _, calibration in calibrations]))
    (folder / TENSORS).write_bytes(tensors)
    table = bead_table([(source.file, one) for source, one in calibrations])
    (folder / BEADS).write_bytes(table.encode())
    write_psf(calibrations[0][1], folder / PSF)
    write_mean_bead(calibrations[0][1], folder / MEAN_BEAD)
    model = calibrations[0][1].model
    manifest = CalibrationManifest(
        format=FORMAT,
        version=VERSION,
        name=name,
        created=created,
        program=program,
        optics=CalibratedOptics(
            **{key: float(getattr(model.optics, key)) for key in OPTICS}
        ),
        noll=list(model.noll),
        bead_diameter_nm=model.diameter_nm,
        states=[_state(source, one) for source, one in calibrations],
        files={file: _sha256((folder / file).read_bytes()) for file in FILES},
    )
    # Last: a folder without a manifest is no calibration.
    text = json.dumps(manifest.model_dump(), indent=1, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return manifest


def load_calibration(folder: Path, optics: Optics | None = None) -> SavedCalibration:
    """Read a calibration.

    Parameters
    ----------
    folder
        With a ``manifest.json``.
    optics
        The profile's, which the calibration must not contradict; None if there are
        none yet.

    Raises
    ------
    CalibrationError
        It is no calibration, of another version, incomplete or altered, or of other
        optics; the text names the file, and both numbers.
    """
    manifest = read_manifest(folder / MANIFEST)
    contents = {}
    for file, digest in manifest.files.items():
        path = folder / file
        try:
            contents[file] = path.read_bytes()
        except OSError as error:
            raise CalibrationError(f"{path}: cannot be read: {error}") from error
        if _sha256(contents[file]) != digest:
            raise CalibrationError(
                f"{path}: was altered or is incomplete: its sha256 is not the "
                "manifest's; copy it again, or calibrate again"
            )
    try:
        tensors = load(contents[TENSORS])
        for k, state in enumerate(manifest.states):
            _check_shapes(tensors, k, len(manifest.noll), len(state.z_um))
    except (KeyError, SafetensorError, ValueError) as error:
        raise CalibrationError(
            f"{folder / TENSORS}: does not contain this calibration: {error}"
        ) from error
    if optics is not None:
        check_optics(folder, manifest.optics, optics)
    return SavedCalibration(folder, manifest, tensors)


def _check_shapes(
    tensors: dict[str, NDArray[Any]], k: int, modes: int, planes: int
) -> None:
    shapes = {"trend": (3, modes), "covariance": (modes, modes), "scatter": (modes,)}
    for name, shape in shapes.items():
        if tensors[f"{k}.{name}"].shape != shape:
            raise ValueError(f"{k}.{name} has shape {tensors[f'{k}.{name}'].shape}")
    if len(tensors[f"{k}.residual"]) != planes:
        raise ValueError(f"{k}.residual has {len(tensors[f'{k}.residual'])} planes")


def _tensors(calibrations: Sequence[Calibration]) -> dict[str, NDArray[Any]]:
    tensors: dict[str, NDArray[Any]] = {}
    for k, one in enumerate(calibrations):
        fits = [bead.fit for bead in one.used if bead.fit is not None]
        places = [
            (*place_of(bead), bead.fit.bead.z_um) for bead in one.used if bead.fit
        ]
        parts = {
            "trend": one.trend.terms,
            "scatter": one.trend.scatter,
            "covariance": one.covariance,
            "residual": one.residual.numpy(),
            "mean": one.mean.mean,
            "deviation": one.mean.deviation,
            "beads": registered(fits, one.model).astype(np.float32),
            "coefficients": np.array([fit.coefficients for fit in fits]),
            "sigma": np.array([fit.sigma for fit in fits]),
            "places": np.array(places),
        }
        tensors |= {
            f"{k}.{name}": np.ascontiguousarray(part) for name, part in parts.items()
        }
    return tensors


def _state(source: Source, one: Calibration) -> State:
    aperture, judged = one.aperture, one.held_out
    error_nm = 0.0
    if one.blur > 0:
        error_nm = one.blur_nm * one.blur_error / (2 * one.blur)
    return State(
        file=source.file,
        sha256=source.sha256,
        shape=list(one.trend.shape),
        planes=list(one.stack.numbers),
        z_um=[round(z, 6) for z in one.model.z_um],
        beads={str(state): n for state, n in one.counts().items()},
        blur_nm=one.blur_nm,
        blur_error_nm=error_nm,
        preferred_aperture=None if aperture is None else aperture.value,
        preferred_aperture_error=None if aperture is None else aperture.error,
        scatter_nm=one.scatter_nm,
        held_out_pupil_db=None if judged is None else judged.pupil_db,
        held_out_db=None if judged is None else judged.total_db,
        modes_tried={str(last): score for last, score in one.tried},
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
