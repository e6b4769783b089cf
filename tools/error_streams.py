"""How a model errs over time, as it is kept beside its manifest and read back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from deepblur_live.optics import reach
from deepblur_live.runtime.pack import find_packs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "FILE_NAME",
    "Part",
    "StaleMeasurementError",
    "Stream",
    "keep_streams",
    "load_streams",
    "understated",
]

FILE_NAME = "identification_error.json"
# Estimates are kept in whole units of so many waves.
_UNIT = 1e-4
# So many of the still estimates stand for all, whatever their number.
_SPREAD = 50
_COMMAND = "python tools/simulate_drift.py --measure DATA"


class StaleMeasurementError(ValueError):
    """What was measured is not what would be now; the text says what differs."""


class Part(NamedTuple):
    """Another part of a stream: (P,) mean error, and (P,) what is stated of it."""

    error: NDArray[np.float64]
    stated: NDArray[np.float64]


@dataclass(frozen=True)
class Stream:
    """The error of one specimen's estimates, in waves rms, twins taken out.

    Parameters
    ----------
    specimen, sigma
        The picture, and its noise over its range.
    coefficients, change
        (P,) true γ, and the change of the optics tried, 0.072 waves rms.
    still
        (n, P) errors of the trusted still estimates, in order, one a second.
    stated
        (P,) standard deviation the still estimates claim, in the mean (of squares).
    answered
        Share of the still estimates that were trusted.
    bleached, changed, moved
        The other parts; None where nothing was trusted.
    """

    specimen: str
    sigma: float
    coefficients: NDArray[np.float64]
    change: NDArray[np.float64]
    still: NDArray[np.float64]
    stated: NDArray[np.float64]
    answered: float
    bleached: Part | None
    changed: Part | None
    moved: Part | None


def _under(model: str, measured: Mapping[str, object]) -> dict[str, object]:
    """Return what a file of the model as it is would say of how it was measured."""
    manifest = json.loads((find_packs()[model] / "manifest.json").read_text("utf-8"))
    # All that identification reads; deblurring comes after it.
    weights = {
        part["file"]: part["sha256"]
        for name, part in manifest.items()
        if isinstance(part, dict) and "sha256" in part and name != "deblurring"
    }
    return {**measured, "weights_sha256": weights}


def keep_streams(
    model: str, measured: Mapping[str, object], streams: Sequence[Stream]
) -> Path:
    """Write the streams beside the model's manifest; return the file."""
    about = {
        "what": "error of the live estimates on held-out pictures, 1e-4 waves rms",
        "command": _COMMAND,
        **_under(model, measured),
    }
    rows = ",\n".join(json.dumps(_packed(stream)) for stream in streams)
    header = json.dumps(about, indent=1)[:-2]
    path = find_packs()[model] / FILE_NAME
    path.write_text(f'{header},\n "streams": [\n{rows}\n]}}\n', "utf-8", newline="\n")
    return path


def load_streams(model: str, measured: Mapping[str, object]) -> list[Stream]:
    """Return the streams measured for a model.

    Parameters
    ----------
    model
        Its name.
    measured
        How it would be measured now.

    Raises
    ------
    FileNotFoundError
        The model was not measured yet; the text says by which command.
    StaleMeasurementError
        It was, with other weights or otherwise.
    """
    path = find_packs()[model] / FILE_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not measured yet; run {_COMMAND}")
    kept = json.loads(path.read_text("utf-8"))
    wanted = _under(model, measured)
    other = [key for key, value in wanted.items() if kept.get(key) != value]
    if other:
        raise StaleMeasurementError(
            f"{path}: measured under another {', '.join(other)}; run {_COMMAND}"
        )
    return [_unpacked(row) for row in kept["streams"]]


def understated(streams: Sequence[Stream]) -> dict[float, float]:
    """Return by how much stated σ must be multiplied to hold shares of the errors.

    Specimens count alike, and so do the parts of a stream and its modes.

    Returns
    -------
    factors
        By share: 0.68, 0.90 and 0.95.
    """
    scores = []
    for stream in streams:
        parts = (stream.bleached, stream.changed, stream.moved)
        if len(stream.still):
            spread = np.linspace(0, len(stream.still) - 1, _SPREAD).round().astype(int)
            scores.append((stream.still[spread] / stream.stated).ravel())
        scores += [
            np.repeat(part.error / part.stated, _SPREAD)
            for part in parts
            if part is not None
        ]
    errors = np.abs(np.concatenate(scores))
    return {
        share: float(np.quantile(errors, share) / reach(share))
        for share in (0.68, 0.90, 0.95)
    }


_VECTORS = ("coefficients", "change", "stated", "still")
_PARTS = ("bleached", "changed", "moved")


def _whole(values: NDArray[np.float64]) -> list[object]:
    whole: list[object] = np.rint(values / _UNIT).astype(int).tolist()
    return whole


def _packed(stream: Stream) -> dict[str, object]:
    row: dict[str, object] = {
        "specimen": stream.specimen,
        "sigma": stream.sigma,
        "answered": round(stream.answered, 3),
    }
    row |= {name: _whole(getattr(stream, name)) for name in _VECTORS}
    for name in _PARTS:
        part = getattr(stream, name)
        row[name] = None if part is None else _whole(np.stack(part))
    return row


def _unpacked(row: dict[str, Any]) -> Stream:
    values = {name: np.array(row[name], float) * _UNIT for name in _VECTORS}
    values["still"] = values["still"].reshape(-1, len(row["coefficients"]))
    parts = {
        name: None if row[name] is None else Part(*np.array(row[name], float) * _UNIT)
        for name in _PARTS
    }
    told = {name: row[name] for name in ("specimen", "sigma", "answered")}
    return Stream(**told, **values, **parts)
