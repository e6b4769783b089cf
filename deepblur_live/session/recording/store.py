"""One series of frames on disk: the interface of both formats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from deepblur_live.session.recording.frame_values import Column

__all__ = ["FrameStore", "SeriesHead", "mean_interval"]


@dataclass(frozen=True)
class SeriesHead:
    """Properties that all frames of a series share.

    Parameters
    ----------
    name
        Name of the image, for readers.
    shape
        (H, W) of every frame.
    dtype
        Data type of the pixels.
    pixel_size_nm
        Pixel size in the specimen; None if it is contradicted.
    columns
        The values recorded of each frame besides its pixels.
    provenance
        How the series was created, as JSON values.
    timed
        Whether the frames' times are those of their capture.
    """

    name: str
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    pixel_size_nm: float | None
    columns: tuple[Column, ...]
    provenance: Mapping[str, Any]
    timed: bool = True


class FrameStore(Protocol):
    """A series being written, by one thread.

    Whatever interrupts it, all frames but the last are on the disk and readable. A
    method that raises OSError leaves the series unchanged; the next call tries again.
    """

    path: Path
    written: int
    """Frames on the disk."""
    lost: int
    """Frames that could not be written."""

    def append(self, pixels: NDArray[Any], values: Mapping[str, Any]) -> None:
        """Add a frame of the head's shape, and its value for each column."""

    def flush(self) -> None:
        """Write what is still in memory."""

    def close(self) -> None:
        """Write what is still in memory and the metadata; remove an empty series."""


def mean_interval(first_s: float, last_s: float, frames: int) -> float | None:
    """Return the mean time between frames, seconds; None for fewer than two times."""
    if frames < 2 or last_s <= first_s:
        return None
    return (last_s - first_s) / (frames - 1)
