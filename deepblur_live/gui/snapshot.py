"""Save a snapshot: raw TIFF, deblurred TIFF, and the blur as JSON."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import tifffile

from deepblur_live.acquisition.truth import read_truth
from deepblur_live.runtime.series_key import series_key
from deepblur_live.session.folder import plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deepblur_live.runtime.frame import FrameResult
    from deepblur_live.session import LiveSession

__all__ = ["save_snapshot"]


def save_snapshot(
    result: FrameResult, session: LiveSession, folder: Path
) -> tuple[Path, ...]:
    """Write a result as ``…_raw.tif``, ``…_deblurred.tif`` and ``….json``.

    Parameters
    ----------
    result
        The result to save; without a deblurred image, that file is left out.
    session
        Its profile and family are described in the JSON file.
    folder
        Created if missing. Existing files are never overwritten.

    Returns
    -------
    paths
        The files written, raw first.

    Raises
    ------
    OSError
        The folder or a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    saved_at = datetime.now().astimezone()
    images: dict[str, np.ndarray[Any, Any]] = {"raw": result.raw}
    if result.deblurred is not None:
        images["deblurred"] = result.deblurred
    stem = f"snapshot_{saved_at:%Y%m%d-%H%M%S}_frame{result.info.number:06d}"
    with ExitStack() as stack:
        paths, files = _create(folder, stem, tuple(images), stack)
        for file, image in zip(files, images.values(), strict=False):
            _write_picture(file, image, session.optics.pixel_size_nm)
        description = plain(
            {
                "saved_at": saved_at.isoformat(timespec="milliseconds"),
                "files": [path.name for path in paths[:-1]],
                **_description(result, session),
            }
        )
        text = json.dumps(description, indent=2, ensure_ascii=False, allow_nan=False)
        files[-1].write(text.encode())
    return paths


def _write_picture(
    file: BinaryIO, image: np.ndarray[Any, Any], pixel_size_nm: float | None
) -> None:
    """Write a TIFF with its pixel size: for ImageJ, and as OME for other readers.

    Without one if it is None.
    """
    rgb = image.ndim == 3 and image.shape[-1] in (3, 4)
    size: dict[str, Any] = {}
    resolution: dict[str, Any] = {}
    if pixel_size_nm is not None:
        size = {"PhysicalSizeX": pixel_size_nm / 1000, "PhysicalSizeXUnit": "µm"}
        size |= {"PhysicalSizeY": pixel_size_nm / 1000, "PhysicalSizeYUnit": "µm"}
        per_cm = 1e7 / pixel_size_nm
        resolution = {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
    # OME has no pixel types for one-byte booleans or 64-bit integers.
    ome = image.dtype.str[1:] in ("u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8")
    tifffile.imwrite(
        file,
        np.ascontiguousarray(image),
        photometric="rgb" if rgb else "minisblack",
        ome=ome,
        metadata=size if ome else None,
        **resolution,
    )


def _create(
    folder: Path, stem: str, kinds: tuple[str, ...], stack: ExitStack
) -> tuple[tuple[Path, ...], tuple[BinaryIO, ...]]:
    """Create the files of all kinds and the JSON file, under the first free name."""
    for suffix in _suffixes():
        names = [f"{stem}{suffix}_{kind}.tif" for kind in kinds]
        paths = tuple(folder / name for name in (*names, f"{stem}{suffix}.json"))
        if any(path.exists() for path in paths):
            continue
        try:
            # "x" fails if another program has created the file since the check.
            return paths, tuple(stack.enter_context(path.open("xb")) for path in paths)
        except FileExistsError:
            continue
    raise FileExistsError(f"{folder}: no free name left for {stem}")


def _suffixes() -> Iterator[str]:
    yield ""
    yield from (f"-{number}" for number in range(2, 10_000))


def _description(result: FrameResult, session: LiveSession) -> dict[str, Any]:
    family, track = session.family_of(result), result.track
    key = series_key(result.info.metadata)
    profile = session.profile
    profile = profile.at_wavelength(profile.wavelength_of(key.channel))
    truth = read_truth(result.info.metadata)
    known: dict[str, Any] = {}
    if track is not None:
        known = {
            "coefficients": track.coefficients,
            "covariance": track.covariance,
            "quality": [
                {"name": q.name, "value": q.value, "unit": q.unit}
                for q in family.quality(track.coefficients)
            ],
        }
    return {
        "frame": result.info.number,
        "session_time_s": result.info.time,
        "source": result.info.source,
        "channel": key.channel,
        "position": key.place,
        "z": key.z,
        "state": str(result.state),
        "reason": result.reason,
        "profile": profile.name,
        "model": profile.model.name,
        "optics": profile.optics.model_dump(),
        # If not empty, the pictures are without a pixel size.
        "optics_contradicted": session.optics.contradiction,
        "coefficient_names": family.names,
        "coefficient_unit": family.unit,
        "coefficients": None,
        "covariance": None,
        "quality": None,
        "verification": session.series_history(key).verification.text,
        "true_coefficients": None if truth is None else truth.coefficients,
        "timings_ms": result.timings,
        **known,
    }
