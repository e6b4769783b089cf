"""The drift log: a CSV of one row a point, written as the points come."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any

from deepblur_live.session.line_file import LineFile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["DriftLog"]


class DriftLog:
    """An append-only CSV on a :class:`~deepblur_live.session.line_file.LineFile`.

    Parameters
    ----------
    path
        Made anew.
    columns
        Names in the first line, units in the names.
    options
        Of the `LineFile`.

    Raises
    ------
    OSError
        The file exists, or cannot be made.
    """

    def __init__(self, path: Path, columns: Sequence[str], **options: Any) -> None:
        self.path = path
        self.columns = tuple(columns)
        self._file = LineFile(path, _line(self.columns), **options)

    @property
    def rows(self) -> int:
        """Rows in the file."""
        return self._file.lines

    @property
    def lost(self) -> int:
        """Rows that could not be written, over the session."""
        return self._file.lost

    @property
    def error(self) -> str:
        """Why rows are being lost at this moment, or empty."""
        return self._file.error

    def write(self, values: Sequence[Any]) -> bool:
        """Append a row; return whether it is in the file.

        Parameters
        ----------
        values
            One a column. None and NaN become empty cells.

        Raises
        ------
        ValueError
            Another number of values than columns.
        """
        if len(values) != len(self.columns):
            raise ValueError(
                f"{len(values)} values for the {len(self.columns)} columns of "
                f"{self.path}"
            )
        return self._file.write(_line([_cell(value) for value in values]))

    def close(self) -> None:
        """Close the file; nothing is written afterwards."""
        self._file.close()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return format(value, ".9g") if math.isfinite(value) else ""
    return str(value)


def _line(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()
