"""A snapshot on disk: raw TIFF, deblurred TIFF, and what is known of the blur."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import tifffile

from deepblur_live.acquisition.truth import read_truth

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deepblur_live.gui.session_view import SessionView
    from deepblur_live.runtime.frame import FrameResult

__all__ = ["save_snapshot"]


def save_snapshot(
    result: FrameResult, session: SessionView, folder: Path
) -> tuple[Path, ...]:
    """Write a result as ``…_raw.tif``, ``…_deblurred.tif`` and ``….json``.

    Parameters
    ----------
    result
        What is saved; a raw-only one gives no deblurred file.
    session
        Whose profile and family go into the JSON.
    folder
        Made where missing. Nothing in it is ever overwritten.

    Returns
    -------
    paths
        The files written, raw first.

    Raises
    ------
    OSError
        When the folder or a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    taken = datetime.now().astimezone()
    images: dict[str, np.ndarray[Any, Any]] = {"raw": result.frame.pixels}
    if result.deblurred is not None:
        images["deblurred"] = result.deblurred
    stem = f"snapshot_{taken:%Y%m%d-%H%M%S}_frame{result.frame.number:06d}"
    with ExitStack() as stack:
        paths, files = _reserve(folder, stem, tuple(images), stack)
        for file, image in zip(files, images.values(), strict=False):
            rgb = image.ndim == 3 and image.shape[-1] in (3, 4)
            tifffile.imwrite(
                file,
                np.ascontiguousarray(image),
                photometric="rgb" if rgb else "minisblack",
            )
        about = _about(result, session, taken.isoformat(timespec="milliseconds"))
        about["files"] = [path.name for path in paths[:-1]]
        text = json.dumps(_plain(about), indent=2, ensure_ascii=False, allow_nan=False)
        files[-1].write(text.encode())
    return paths


def _reserve(
    folder: Path, stem: str, kinds: tuple[str, ...], stack: ExitStack
) -> tuple[tuple[Path, ...], tuple[BinaryIO, ...]]:
    """Open new files for all kinds and the JSON, under the first free name."""
    for suffix in _suffixes():
        names = [f"{stem}{suffix}_{kind}.tif" for kind in kinds]
        paths = tuple(folder / name for name in (*names, f"{stem}{suffix}.json"))
        if any(path.exists() for path in paths):
            continue
        try:
            # "x" refuses what another program has made since we looked.
            return paths, tuple(stack.enter_context(path.open("xb")) for path in paths)
        except FileExistsError:
            continue
    raise FileExistsError(f"{folder}: no free name left for {stem}")


def _suffixes() -> Iterator[str]:
    yield ""
    yield from (f"-{number}" for number in range(2, 10_000))


def _about(result: FrameResult, session: SessionView, taken: str) -> dict[str, Any]:
    track, truth = result.track, read_truth(result.frame.metadata)
    about: dict[str, Any] = {
        "saved_at": taken,
        "frame": result.frame.number,
        "session_time_s": result.frame.time,
        "source": result.frame.source,
        "state": str(result.state),
        "reason": result.reason,
        "profile": session.profile.name,
        "model": session.profile.model.name,
        "optics": session.profile.optics.model_dump(),
        "modes": list(session.family.names),
        "units": "waves rms",
        "coefficients": None if track is None else track.coefficients,
        "covariance": None if track is None else track.covariance,
        "true_coefficients": None if truth is None else truth.coefficients,
        "timings_ms": dict(result.timings),
    }
    if track is not None:
        about["wavefront_rms_waves"] = session.family.wavefront_rms(track.coefficients)
        about["strehl"] = session.family.strehl(track.coefficients)
    return about


def _plain(value: Any) -> Any:
    """Return what JSON can say; numbers that are none become null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)
