"""The order in which a recording's planes are frames: time slowest, then the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.acquisition.replay_source import ReplayError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PlaneOrder"]


@dataclass(frozen=True)
class PlaneOrder:
    """Frame number → position of the plane in an array with named axes.

    Parameters
    ----------
    axes, sizes
        Names and lengths of the leading axes (all but Y and X), as stored.
    shape
        (H, W) of a plane.
    running
        The leading axes longer than 1 (without C), slowest first.
    channel
        Position along C.
    """

    axes: str
    sizes: tuple[int, ...]
    shape: tuple[int, int]
    running: str
    channel: int

    @classmethod
    def of(
        cls, path: Path, axes: str, sizes: tuple[int, ...], channel: int
    ) -> PlaneOrder:
        """Make the order of an array, time slowest, other axes as stored.

        Raises
        ------
        ReplayError
            The array is empty, in colour, or not made of Y by X planes.
        """
        described = " × ".join(f"{a} {n}" for a, n in zip(axes, sizes, strict=True))
        if "S" in axes and sizes[axes.index("S")] > 1:
            raise ReplayError(
                f"{path}: a picture in colour ({described}); give grey frames, or "
                "split the channels first (if they are grey frames: tifffile writes 3 "
                'or 4 of them as colour unless told photometric="minisblack")'
            )
        if 0 in sizes:
            raise ReplayError(f"{path}: empty ({described})")
        kept = [(a, n) for a, n in zip(axes, sizes, strict=True) if a != "S"]
        axes = "".join(a for a, _ in kept)
        if axes[-2:] != "YX":
            raise ReplayError(
                f"{path}: not a series of planes ({described}); the last two axes "
                "must be Y and X"
            )
        leading, lengths = axes[:-2], tuple(n for _, n in kept[:-2])
        running = [
            a for a, n in zip(leading, lengths, strict=True) if n > 1 and a != "C"
        ]
        running.sort(key=lambda axis: axis != "T")
        return cls(
            axes=leading,
            sizes=lengths,
            shape=(kept[-2][1], kept[-1][1]),
            running="".join(running),
            channel=channel,
        )

    def _length(self, axis: str) -> int:
        return self.sizes[self.axes.index(axis)]

    @property
    def planes(self) -> int:
        """Focal planes of each time."""
        return self._length("Z") if "Z" in self.running else 1

    def __len__(self) -> int:
        return int(np.prod([self._length(axis) for axis in self.running], dtype=int))

    def position(self, index: int) -> tuple[int, ...]:
        """Return where frame `index` lies along the stored leading axes."""
        lengths = tuple(self._length(axis) for axis in self.running)
        at = dict.fromkeys(self.axes, 0) | {"C": self.channel}
        if lengths:
            where = np.unravel_index(index, lengths)
            at |= dict(zip(self.running, map(int, where), strict=True))
        return tuple(at[axis] for axis in self.axes)

    def page(self, index: int) -> int:
        """Return the number of the plane of frame `index` in the file's own order."""
        position = self.position(index)
        if not position:
            return 0
        return int(np.ravel_multi_index(position, self.sizes))
