"""The values recorded of each frame besides its pixels: columns and rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.runtime.frame import FrameState
from deepblur_live.session.columns import coefficient_columns

if TYPE_CHECKING:
    from deepblur_live.blur import BlurFamily
    from deepblur_live.runtime.frame import FrameResult

__all__ = ["Column", "deblurred_columns", "frame_values", "raw_columns"]

# The axes of a useq sequence: time, position, tile, channel, plane.
_MDA_AXES = ("t", "p", "g", "c", "z")


@dataclass(frozen=True)
class Column:
    """One value of each frame.

    Parameters
    ----------
    name, meaning
        Name of the array, and what it means.
    dtype
        Data type of the array. Texts are stored as codes: an array of uint8.
    parts
        Names of the components of a vector; empty for a single value.
    text
        Whether its values are texts.
    """

    name: str
    meaning: str
    dtype: str
    parts: tuple[str, ...] = ()
    text: bool = False


def raw_columns() -> tuple[Column, ...]:
    """Return the columns of a raw series."""
    return (
        Column(
            "number",
            "number of the frame in the session, from 0; missing numbers were not "
            "recorded",
            "int64",
        ),
        Column("time_s", "capture, seconds since the session began", "float64"),
        Column(
            "mda_index",
            "index of the frame in its MDA: time, position, tile, channel, plane; -1 "
            "where there is none",
            "int32",
            tuple(f"mda_{axis}" for axis in _MDA_AXES),
        ),
    )


def deblurred_columns(family: BlurFamily) -> tuple[Column, ...]:
    """Return the columns of a deblurred series."""
    return (
        *raw_columns(),
        Column("state", "deblurred, or raw-only: the raw frame", "uint8", text=True),
        Column(
            "strength",
            "share of the deblurred image in the frame; the rest is the raw frame",
            "float32",
        ),
        Column("averaged", "number of frames averaged in the image", "uint16"),
        Column(
            "coefficients",
            f"tracked coefficients with which the frame was deblurred, {family.unit}; "
            "NaN if it has none",
            "float64",
            tuple(coefficient_columns(family)),
        ),
        Column(
            "deviations",
            f"their standard deviations, {family.unit}",
            "float64",
            tuple(coefficient_columns(family, "sigma_")),
        ),
        Column(
            "reason",
            "why the frame is raw, or shown at less than 75 %",
            "uint8",
            text=True,
        ),
    )


def frame_values(result: FrameResult, family: BlurFamily) -> dict[str, Any]:
    """Return a frame's value for each column, of either kind of series."""
    track, info = result.track, result.info
    index = info.metadata.get("index")
    if not isinstance(index, Mapping):  # the number of a recording's frame
        index = {}
    unknown = np.full(family.n_coefficients, np.nan)
    raw = result.deblurred is None or result.state is FrameState.RAW_ONLY
    return {
        "number": info.number,
        "time_s": info.time,
        "mda_index": [int(index.get(axis, -1)) for axis in _MDA_AXES],
        "state": str(result.state),
        "strength": 0.0 if raw else result.strength,
        "averaged": result.averaged,
        "coefficients": unknown if track is None else track.coefficients,
        "deviations": unknown if track is None else np.sqrt(np.diag(track.covariance)),
        "reason": result.reason,
    }
