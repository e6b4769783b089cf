"""What happened in a session, one JSON object a line: alerts, states, gaps, faults."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from deepblur_live.session.folder import plain
from deepblur_live.session.line_file import LineFile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["EventLog"]


class EventLog:
    """An append-only JSONL on a :class:`~deepblur_live.session.line_file.LineFile`.

    Parameters
    ----------
    path
        Made anew.
    options
        Of the `LineFile`.

    Raises
    ------
    OSError
        The file exists, or cannot be made.
    """

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self._file = LineFile(path, **options)

    @property
    def lost(self) -> int:
        """Events that could not be written, over the session."""
        return self._file.lost

    @property
    def error(self) -> str:
        """Why events are being lost at this moment, or empty."""
        return self._file.error

    def write(self, event: Mapping[str, Any]) -> bool:
        """Append an event; return whether it is in the file."""
        text = json.dumps(plain(dict(event)), ensure_ascii=False, allow_nan=False)
        return self._file.write(text.encode() + b"\n")

    def close(self) -> None:
        """Close the file; nothing is written afterwards."""
        self._file.close()
