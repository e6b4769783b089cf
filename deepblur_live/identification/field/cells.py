"""The cells of a frame, and their power spectra averaged over the last seconds.

A field is identified from the spectra of parts of the frame in which the blur hardly
varies. Each window of the frame's spectrum belongs to one cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deepblur_live.identification.observed import ObservedSpectrum, observe
from deepblur_live.identification.running import PowerSpectrum
from deepblur_live.identification.spectrum import (
    AVERAGES_PER_WINDOW,
    WINDOW,
    FrameSpectrum,
    detail_weights,
    noise_floor,
    weighted_windows,
    window_powers,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.identification.field.change import ChangeOfField
    from deepblur_live.identification.identifier import Noise
    from deepblur_live.identification.specimen import SpecimenSpectrum

__all__ = ["CellSpectra", "CellSpectrum", "Cells", "observed_cells"]

_HOP = WINDOW // 2
# Side of a cell in pixels, and most cells along a side: in larger cells the blur
# varies, smaller ones have few windows (docs/decisions/0170-identifying-a-field.md).
_SIDE, _MOST = 170, 8


@dataclass(frozen=True)
class Cells:
    """The division of a frame's windows into rows × columns cells.

    Parameters
    ----------
    height, width
        Of the frame, pixels.
    rows, columns
        Number of cells along each axis.
    """

    height: int
    width: int
    rows: int
    columns: int

    @classmethod
    def of_frame(cls, height: int, width: int) -> Cells:
        """Return the cells for a frame (H, W)."""
        return cls(height, width, *(_number(side) for side in (height, width)))

    def __len__(self) -> int:
        return self.rows * self.columns

    def together(self, side: int) -> torch.Tensor:
        """Return (C', C): 1 where a cell belongs to one of at most side² groups."""
        rows, columns = (_groups(n, min(side, n)) for n in (self.rows, self.columns))
        return torch.kron(rows, columns)

    @property
    def _edges(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First window of each cell along either axis, and the number of windows."""
        return _edges(self.height, self.rows), _edges(self.width, self.columns)

    @property
    def parts(self) -> list[tuple[slice, slice]]:
        """The pixels of each cell's windows; neighbours overlap by half a window."""
        lines = [
            [slice(a * _HOP, (b + 1) * _HOP) for a, b in pairwise(e)]
            for e in self._edges
        ]
        return [(row, column) for row in lines[0] for column in lines[1]]

    @property
    def positions(self) -> NDArray[np.float64]:
        """(C, 2) centre of each cell, row and column, 0 to 1 over the frame."""
        sides = self.height, self.width
        centres = [
            [
                (part.start + part.stop) / 2 / side
                for part, side in zip(cell, sides, strict=True)
            ]
            for cell in self.parts
        ]
        return np.array(centres)

    @property
    def members(self) -> torch.Tensor:
        """(C, T), 1 for the windows of each cell among all of `window_powers`."""
        return _members(self)


def _number(side: int) -> int:
    return int(np.clip(round(side / _SIDE), 1, _MOST))


def _edges(side: int, cells: int) -> NDArray[np.int64]:
    windows = (side - WINDOW) // _HOP + 1
    return np.linspace(0, windows, cells + 1).round().astype(np.int64)


def _groups(n: int, groups: int) -> torch.Tensor:
    """Return (groups, n), 1 where one of n belongs to a group of neighbours."""
    group = torch.arange(n) * groups // n
    return torch.nn.functional.one_hot(group, groups).T.float()


@lru_cache(maxsize=4)
def _members(cells: Cells) -> torch.Tensor:
    along = []
    for edges in cells._edges:
        windows = torch.arange(int(edges[-1]))
        index = torch.searchsorted(torch.from_numpy(edges[1:]), windows, right=True)
        along.append(torch.nn.functional.one_hot(index, len(edges) - 1).T.float())
    return torch.kron(*along)


def _averages(cells: Cells, weight: torch.Tensor, power: torch.Tensor) -> torch.Tensor:
    """Return `weight` (C, T) times the spectra (T, W, W//2+1) of all windows.

    Row by row of cells, whose windows follow one another.
    """
    rows, columns = cells._edges
    parts = []
    for number, (first, last) in enumerate(pairwise(rows * columns[-1])):
        some = slice(number * cells.columns, (number + 1) * cells.columns)
        part = weight[some, first:last]
        parts.append(torch.tensordot(part, power[first:last], 1))
    return torch.cat(parts)


@dataclass(frozen=True)
class CellSpectrum(FrameSpectrum):
    """The average spectrum of one frame's windows, and those of its cells.

    Parameters
    ----------
    cell_power, cell_averages
        (C, W, W//2+1), as `power` and `averages`.
    cell_level
        (C,), as `level`.
    cell_plain
        (C, W, W//2+1), as `plain`.
    """

    cell_power: torch.Tensor
    cell_averages: torch.Tensor
    cell_level: torch.Tensor
    cell_plain: torch.Tensor


class CellSpectra(PowerSpectrum):
    """Running average spectrum of frames, and of their cells.

    The parameters are those of `PowerSpectrum`. Whether the blur has changed is decided
    by the whole frame and, once `watch` has a field, by the cells.
    """

    watch: ChangeOfField | None = None

    def reset(self) -> None:
        """Forget all frames, and the field."""
        super().reset()
        self.watch = None

    @property
    def cells(self) -> CellSpectrum:
        """The average spectrum with its cells.

        Raises
        ------
        RuntimeError
            Before the first frame.
        """
        average = self.average
        assert isinstance(average, CellSpectrum)
        return average

    def _differs(self, spectrum: Any) -> bool:
        if super()._differs(spectrum):
            return True
        if self.watch is None:
            return False
        before, after = self.cells.cell_plain, spectrum.cell_plain
        averages = spectrum.plain_averages / len(after)
        return self.watch.between(before, after, averages, self.frames).clear

    def spectrum_of(self, image: torch.Tensor) -> CellSpectrum:
        """Return the spectrum of a frame (H, W) and of its cells."""
        frames = max(1.0, self.frames)
        power, means = window_powers(image)
        whole = weighted_windows(power, means, self.cutoff, frames)
        cells = Cells.of_frame(*image.shape)
        members = cells.members.to(power)
        equal = members / members.sum(1, keepdim=True)
        plain = _averages(cells, equal, power)
        floor = noise_floor(
            plain, len(power) / len(members) * AVERAGES_PER_WINDOW, self.cutoff
        )
        weight, averages = detail_weights(power, plain, floor, members, frames)
        average = _averages(cells, weight, power)
        # A single transfer from a card.
        arrays = torch.stack([average, averages, plain]).cpu()
        level = (weight @ means).cpu()
        return CellSpectrum(
            whole.power,
            whole.averages,
            whole.level,
            whole.plain,
            whole.plain_averages,
            cell_power=arrays[0],
            cell_averages=arrays[1],
            cell_level=level,
            cell_plain=arrays[2],
        )


def observed_cells(
    spectrum: CellSpectrum,
    frames: float,
    cutoff: float,
    specimen: SpecimenSpectrum,
    noise: Noise | None,
    parts: torch.Tensor | None = None,
) -> ObservedSpectrum:
    """Return the spectra of the cells as data of a fit.

    Parameters
    ----------
    spectrum
        Average over frames.
    frames
        Effective number of frames in it.
    cutoff
        Coherent cut-off in cycles per pixel.
    specimen
        Prior of specimens' own spectra.
    noise
        A calibrated camera's noise; measured from the spectra if None.
    parts
        (C', C), 1 for the cells that are taken together (`Cells.together`).
    """
    power, averages = spectrum.cell_power, spectrum.cell_averages
    level = spectrum.cell_level
    if parts is not None:
        share = parts / parts.sum(1, keepdim=True)
        level = share @ level
        # The variance of a cell's spectrum is its square over the averages.
        variance = torch.tensordot(share**2, power**2 / averages, 1)
        power = torch.tensordot(share, power, 1)
        averages = power**2 / variance.clamp(min=torch.finfo(power.dtype).tiny)
    known = None if noise is None else torch.tensor([noise(float(x)) for x in level])
    return observe(power, averages, frames, cutoff, specimen, known)
