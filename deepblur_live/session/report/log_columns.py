"""The drift log's cells, of which a report uses about half."""

from __future__ import annotations

import csv
import io
import math
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["LogColumns"]


class LogColumns(dict[str, "NDArray[np.float64]"]):
    """Numbers by column, (N,) each, converted when a column is first used.

    NaN where a cell holds no number, and for a column that the log doesn't have.

    Parameters
    ----------
    head
        Names of the columns.
    cells
        All cells, row by row; each row has a cell for each name.
    """

    def __init__(self, head: Sequence[str], cells: Sequence[str]) -> None:
        super().__init__()
        self._head, self._cells = head, cells

    @classmethod
    def read(cls, path: Path) -> LogColumns:
        """Read a log; rows that are not whole, or have no time, are left out.

        Raises
        ------
        OSError, csv.Error
            It cannot be read.
        """
        with path.open(encoding="utf-8", errors="replace") as file:
            # After a power cut a file may end with zero bytes.
            text = file.read().replace("\0", "")
        if '"' in text:
            head, *rows = csv.reader(io.StringIO(text))
            whole = (row for row in rows if len(row) == len(head))
            cells = list(chain.from_iterable(whole))
        else:  # several times faster
            first, *lines = text.split("\n")
            lines = [line for line in lines if line.count(",") == first.count(",")]
            head, cells = first.split(","), ",".join(lines).split(",") if lines else []
        log = cls(head, cells)
        timed = np.isfinite(log["time_s"])
        return log if timed.all() else log.only(np.flatnonzero(timed).tolist())

    def __missing__(self, name: str) -> NDArray[np.float64]:
        """Convert a column."""
        cells = self.texts(name)
        try:
            # Ten times faster than an array of the texts.
            values = np.array([float(cell) if cell else math.nan for cell in cells])
        except ValueError:
            values = np.array([_number(cell) for cell in cells])
        self[name] = values
        return values

    def texts(self, name: str) -> Sequence[str]:
        """Return the cells of a column; empty ones if the log doesn't have it."""
        if name not in self._head:
            return [""] * (len(self._cells) // len(self._head))
        return self._cells[self._head.index(name) :: len(self._head)]

    def only(self, rows: Sequence[int]) -> LogColumns:
        """Return some of the rows."""
        width = len(self._head)
        if len(rows) * width == len(self._cells):
            return self
        starts = [row * width for row in rows]
        parts = (self._cells[start : start + width] for start in starts)
        return LogColumns(self._head, list(chain.from_iterable(parts)))


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan
