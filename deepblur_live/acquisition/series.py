"""A recorded series, read one frame at a time, and the order of its planes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "PlaneOrder",
    "RecordedOptics",
    "Series",
    "SeriesError",
    "choose_channel",
    "parse_binning",
    "plane_order",
]


class SeriesError(ValueError):
    """A recording that cannot be read; names the file and what would be right."""


def _nothing_to_close() -> None:
    """Close a recording that holds nothing open."""


class RecordedOptics(NamedTuple):
    """Optics stated in a recording; None for those it does not state."""

    numerical_aperture: float | None = None
    refractive_index: float | None = None
    wavelength_nm: float | None = None


_UNKNOWN = RecordedOptics()


@dataclass(frozen=True)
class Series:
    """A series of grey frames, in the order of their acquisition.

    Iterate it for (pixels, metadata); index it for one frame's pixels; it is a
    context manager. Frames are read when they are asked for.

    Parameters
    ----------
    path
        The file, folder or pattern it was opened from.
    length
        Number of frames.
    shape
        (H, W) of the first frame; files of a folder may differ.
    dtype
        Data type of the first frame.
    read
        Frame number → (H, W) pixels. May raise anything; `__getitem__` makes it a
        `SeriesError`.
    pixel_size_nm
        Pixel size in the specimen, if recorded.
    interval_s
        Time between frames, if recorded.
    planes
        Focal planes of each time point, which follow each other as frames.
    z_step_um
        Distance of neighbouring focal planes, if recorded; its sign is not.
    optics
        Objective and emission of the channel, as far as recorded.
    channel
        The channel's name, if recorded.
    binning
        Sensor pixels per frame pixel along each side, if recorded.
    close
        Closes the files.
    """

    path: Path
    length: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    read: Callable[[int], NDArray[Any]]
    pixel_size_nm: float | None = None
    interval_s: float | None = None
    planes: int = 1
    z_step_um: float | None = None
    optics: RecordedOptics = _UNKNOWN
    channel: str = ""
    binning: int | None = None
    close: Callable[[], None] = _nothing_to_close

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> NDArray[Any]:
        if not 0 <= index < self.length:
            raise IndexError(f"{self.path}: frame {index} of {self.length}")
        try:
            return self.read(index)
        except SeriesError:
            raise
        # Readers raise all kinds of errors on a damaged file.
        except Exception as error:
            raise SeriesError(
                f"{self.path}: frame {index} of {self.length} cannot be read "
                f"({type(error).__name__}: {error}); is the file complete?"
            ) from error

    def __iter__(self) -> Iterator[tuple[NDArray[Any], dict[str, Any]]]:
        for index in range(self.length):
            metadata: dict[str, Any] = {"source_file": str(self.path), "index": index}
            if self.interval_s is not None:
                metadata["time_s"] = index * self.interval_s
            if self.pixel_size_nm is not None:
                metadata["pixel_size_nm"] = self.pixel_size_nm
            if self.binning is not None:
                metadata["binning"] = self.binning
            yield self[index], metadata

    def __enter__(self) -> Series:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def parse_binning(text: object) -> int | None:
    """Return a camera's binning; None unless it is the same along both sides.

    >>> parse_binning("2x2"), parse_binning(4), parse_binning("2x1")
    (2, 4, None)
    """
    sides = {side.strip() for side in str(text).lower().split("x")}
    side = sides.pop() if len(sides) == 1 else ""
    return int(side) if side.isdecimal() and int(side) > 0 else None


class PlaneOrder(NamedTuple):
    """Which plane of a stored array each frame of a series is.

    Parameters
    ----------
    numbers
        (frames,) number of the plane, in the array's own (C) order.
    leading
        Lengths of the axes before Y and X.
    shape
        (H, W) of a plane.
    focal_planes
        Length of the Z axis, or 1.
    channel
        Number of the channel.
    name
        Its name, if it has one.
    """

    numbers: NDArray[np.intp]
    leading: tuple[int, ...]
    shape: tuple[int, int]
    focal_planes: int
    channel: int
    name: str = ""

    def position(self, index: int) -> tuple[int, ...]:
        """Return the position of frame `index` along the leading axes."""
        return tuple(map(int, np.unravel_index(self.numbers[index], self.leading)))


def plane_order(
    path: Path,
    axes: str,
    sizes: Sequence[int],
    names: Sequence[str],
    channel: int | str | None,
) -> PlaneOrder:
    """Return the order of the planes of one channel: time slowest, others as stored.

    Parameters
    ----------
    path
        Path of the recording, for messages.
    axes, sizes
        Names (one letter each) and lengths of the array's axes.
    names
        Names of the channels, as far as they are known.
    channel
        Number or name of the channel; may be None if there is only one.

    Raises
    ------
    SeriesError
        The array is empty, in colour, or not made of Y by X planes, or the channel is
        missing or ambiguous.
    """
    lengths = dict(zip(axes, sizes, strict=False))
    chosen = choose_channel(path, lengths.get("C", 1), names, channel)
    described = " × ".join(f"{a} {n}" for a, n in zip(axes, sizes, strict=True))
    if lengths.get("S", 1) > 1:
        raise SeriesError(
            f"{path}: colour images ({described}); give greyscale frames, or split "
            "the channels first (if these are 3 or 4 grey frames: tifffile writes them "
            'as colour unless photometric="minisblack" is given)'
        )
    if 0 in sizes:
        raise SeriesError(f"{path}: contains no frames ({described})")
    kept = [(a, n) for a, n in zip(axes, sizes, strict=True) if a != "S"]
    axes = "".join(a for a, _ in kept)
    if axes[-2:] != "YX":
        raise SeriesError(
            f"{path}: not a series of planes ({described}); the last two axes must be "
            "Y and X"
        )
    leading = tuple(n for _, n in kept[:-2])
    numbers: NDArray[np.intp] = np.arange(math.prod(leading)).reshape(leading)
    if "T" in axes:
        numbers = np.moveaxis(numbers, axes.index("T"), 0)
        axes = "T" + axes.replace("T", "", 1)
    if "C" in axes:
        numbers = numbers.take([chosen], axes.index("C"))
    shape = (kept[-2][1], kept[-1][1])
    name = names[chosen] if chosen < len(names) else ""
    planes = lengths.get("Z", 1)
    return PlaneOrder(numbers.ravel(), leading, shape, planes, chosen, name or "")


def choose_channel(
    path: Path, count: int, names: Sequence[str], channel: int | str | None
) -> int:
    """Return the index of the channel to read.

    Raises
    ------
    SeriesError
        There are several and none was chosen, or there is no such channel; the text
        lists them.
    """
    labels = [
        f"{index} ({names[index]})"
        if index < len(names) and names[index]
        else f"{index}"
        for index in range(count)
    ]
    listed = ", ".join(labels)
    if channel is None:
        if count == 1:
            return 0
        raise SeriesError(
            f"{path}: {count} channels: {listed}; choose one: --channel 0 on the "
            "command line, channel=0 in Python"
        )
    if isinstance(channel, str):
        # There may be more names than channels.
        if channel in names[:count]:
            return names.index(channel)
        if not channel.isdecimal():
            raise SeriesError(f"{path}: no channel {channel!r}; there are: {listed}")
        channel = int(channel)
    if not 0 <= channel < count:
        raise SeriesError(f"{path}: no channel {channel}; there are: {listed}")
    return channel
