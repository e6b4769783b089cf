"""A recorded series, read one frame at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ReplayError", "ReplaySource", "choose_channel"]


class ReplayError(ValueError):
    """A recording that cannot be replayed; names the file and what would be right."""


def _nothing_to_close() -> None:
    """Close a recording that holds nothing open."""


@dataclass(frozen=True)
class ReplaySource:
    """A series of grey frames, in the order they were taken.

    Iterate it for (pixels, metadata); index it for one frame's pixels; it is a
    context manager. Nothing is read before it is asked for.

    Parameters
    ----------
    path
        The file, folder or pattern it was opened from.
    length
        Number of frames.
    shape
        (H, W) of the first frame; files of a folder may differ.
    dtype
        Its type.
    read
        Frame number → (H, W) pixels. May raise anything; `__getitem__` names it.
    pixel_size_nm
        Size of a pixel in the specimen, where the recording tells.
    interval_s
        Time between frames, where the recording tells.
    planes
        Focal planes of each time, which follow each other as frames.
    close
        Releases the files; once closed it cannot be read.
    """

    path: Path
    length: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    read: Callable[[int], NDArray[Any]]
    pixel_size_nm: float | None = None
    interval_s: float | None = None
    planes: int = 1
    close: Callable[[], None] = _nothing_to_close

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> NDArray[Any]:
        if not 0 <= index < self.length:
            raise IndexError(f"{self.path}: frame {index} of {self.length}")
        try:
            pixels = self.read(index)
        except ReplayError:
            raise
        # A damaged file makes its reader raise whatever it stumbles over.
        except Exception as error:
            raise ReplayError(
                f"{self.path}: frame {index} of {self.length} cannot be read "
                f"({type(error).__name__}: {error}); is the file complete?"
            ) from error
        return pixels

    def __iter__(self) -> Iterator[tuple[NDArray[Any], dict[str, Any]]]:
        for index in range(self.length):
            metadata: dict[str, Any] = {"source_file": str(self.path), "index": index}
            if self.interval_s is not None:
                metadata["time_s"] = index * self.interval_s
            if self.pixel_size_nm is not None:
                metadata["pixel_size_nm"] = self.pixel_size_nm
            yield self[index], metadata

    def __enter__(self) -> ReplaySource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def choose_channel(
    path: Path, count: int, names: Sequence[str], channel: int | str | None
) -> int:
    """Return the index of the channel to replay.

    Raises
    ------
    ReplayError
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
        raise ReplayError(
            f"{path}: {count} channels: {listed}; choose one: --channel 0 on the "
            "command line, channel=0 in Python"
        )
    if isinstance(channel, str):
        # There may be more names than channels.
        if channel in names[:count]:
            return names.index(channel)
        if not channel.isdecimal():
            raise ReplayError(f"{path}: no channel {channel!r}; there are: {listed}")
        channel = int(channel)
    if not 0 <= channel < count:
        raise ReplayError(f"{path}: no channel {channel}; there are: {listed}")
    return channel
