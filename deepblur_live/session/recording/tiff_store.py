"""A series as OME-TIFF (BigTIFF), with a CSV table of the frames.

Written here and not by tifffile because of the order: tifffile links a page before it
writes it, so that a file that is cut off ends in a link to nothing. Here a page is
linked when it is complete (docs/decisions/0178).
"""

from __future__ import annotations

import contextlib
import json
import logging
import struct
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import tifffile

from deepblur_live.session.folder import plain
from deepblur_live.session.line_file import LineFile, csv_line
from deepblur_live.session.recording.names import table_of
from deepblur_live.session.recording.store import mean_interval

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from deepblur_live.session.recording.store import SeriesHead

__all__ = ["TiffStore"]

_log = logging.getLogger(__name__)

# Types of a TIFF's values, and the sample format of numpy's kinds.
_ASCII, _SHORT, _LONG, _RATIONAL, _LONG8 = 2, 3, 4, 5, 16
_SAMPLE_FORMAT = {"u": 1, "i": 2, "f": 3}
_NO_UNIT, _CENTIMETRE = 1, 3
_HEADER = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0)
_FIRST_LINK = 8
# Room for longer numbers in the description, which is rewritten in place.
_SPARE_BYTES = 128


class TiffStore:
    """A BigTIFF with one uncompressed page per frame and OME-XML, and ``NAME.csv``.

    Parameters
    ----------
    path
        The file to create.
    head
        The series.

    Raises
    ------
    OSError
        A file exists, or cannot be created.
    ValueError
        OME-TIFF has no such pixel type.
    """

    def __init__(self, path: Path, head: SeriesHead) -> None:
        self.path = path
        self.written = self.lost = 0
        self._head = head
        self._pages = head.dtype.newbyteorder("<")
        self._times = (0.0, 0.0)
        self._room = len(self._xml(1, None)) + _SPARE_BYTES
        self._end, self._link = len(_HEADER), _FIRST_LINK
        self._description_at = 0
        names = [n for c in head.columns for n in c.parts or (c.name,)]
        self._table = LineFile(table_of(path), csv_line(["page", *names]))
        try:
            # Unbuffered: what is written outlives this process, and nothing is written
            # later that a full disk has refused before.
            self._file: BinaryIO = path.open("xb+", buffering=0)
        except OSError:
            self._table.close()
            self._table.path.unlink()
            raise

    def append(self, pixels: NDArray[Any], values: Mapping[str, Any]) -> None:
        """Write a frame.

        Raises
        ------
        OSError
            It cannot be written; the frame is lost, and the file is unchanged.
        """
        first = values["time_s"] if self.written == 0 else self._times[0]
        try:
            self._write_page(np.ascontiguousarray(pixels, self._pages).tobytes())
        except OSError:
            self.lost += 1
            # Nothing links to the part of the page that was written.
            with contextlib.suppress(OSError):
                self._file.truncate(self._end if self.written else 0)
            raise
        self.written += 1
        self._times = (first, values["time_s"])
        row: list[Any] = [self.written - 1]
        for column in self._head.columns:
            value = plain(values[column.name])
            row += value if column.parts else [value]
        failed = bool(self._table.error)
        if not self._table.write(csv_line(row)) and not failed:
            _log.error(
                "%s: cannot be written (%s)", self._table.path, self._table.error
            )
        self.flush()

    def flush(self) -> None:
        """Update the number of frames and their mean interval in the description."""
        if self.written == 0:
            return
        text = self._xml(self.written, mean_interval(*self._times, self.written))
        self._write(self._description_at, text.ljust(self._room))

    def close(self) -> None:
        """Close the files; remove those of an empty series.

        They stay if another program has them open, on Windows.
        """
        self._table.close()
        self._file.close()
        if not self.written:
            for path in (self.path, self._table.path):
                with contextlib.suppress(PermissionError):
                    path.unlink(missing_ok=True)

    def _write_page(self, data: bytes) -> None:
        """Write a page and its directory, then the link to it."""
        start = self._end
        if self.written == 0:
            self._write(0, _HEADER)
        self._write(start, data)
        at = start + _aligned(len(data))
        directory, link, description = self._directory(at, start, len(data))
        self._write(at, directory)
        self._write(self._link, struct.pack("<Q", at))
        self._end, self._link = at + _aligned(len(directory)), link
        if self.written == 0:
            self._description_at = description

    def _write(self, position: int, data: bytes) -> None:
        self._file.seek(position)
        left = memoryview(data)
        while left:
            # A disk that fills up takes a part first, and then raises.
            left = left[self._file.write(left) :]

    def _directory(self, at: int, data_at: int, size: int) -> tuple[bytes, int, int]:
        """Return a page's directory, where its link is, and its description."""
        rows, columns = self._head.shape
        size_nm, unit, per_cm = self._head.pixel_size_nm, _NO_UNIT, 1000
        if size_nm is not None:
            unit, per_cm = _CENTIMETRE, round(1e7 / size_nm * 1000)
        resolution = struct.pack("<II", per_cm, 1000)
        tags: list[tuple[int, int, int, bytes]] = [
            (256, _LONG, 1, struct.pack("<I", columns)),
            (257, _LONG, 1, struct.pack("<I", rows)),
            (258, _SHORT, 1, struct.pack("<H", 8 * self._pages.itemsize)),
            (259, _SHORT, 1, struct.pack("<H", 1)),
            (262, _SHORT, 1, struct.pack("<H", 1)),
            (273, _LONG8, 1, struct.pack("<Q", data_at)),
            (277, _SHORT, 1, struct.pack("<H", 1)),
            (278, _LONG, 1, struct.pack("<I", rows)),
            (279, _LONG8, 1, struct.pack("<Q", size)),
            (282, _RATIONAL, 1, resolution),
            (283, _RATIONAL, 1, resolution),
            (296, _SHORT, 1, struct.pack("<H", unit)),
            (339, _SHORT, 1, struct.pack("<H", _SAMPLE_FORMAT[self._pages.kind])),
        ]
        text = b""
        if self.written == 0:
            text = self._xml(1, None).ljust(self._room) + b"\0"
            tags.insert(5, (270, _ASCII, len(text), b""))
        link_at = at + 8 + 20 * len(tags)
        text_at = link_at + 8
        entries = b"".join(
            struct.pack("<HHQ", code, kind, count)
            + (value or struct.pack("<Q", text_at)).ljust(8, b"\0")
            for code, kind, count, value in tags
        )
        content = struct.pack("<Q", len(tags)) + entries + struct.pack("<Q", 0) + text
        return content, link_at, text_at

    def _xml(self, frames: int, interval_s: float | None) -> bytes:
        head, size = self._head, {}
        if head.pixel_size_nm is not None:
            size_um = head.pixel_size_nm / 1000
            size = {"PhysicalSizeX": size_um, "PhysicalSizeXUnit": "µm"}
            size |= {"PhysicalSizeY": size_um, "PhysicalSizeYUnit": "µm"}
        ome = tifffile.OmeXml(
            Creator=f"deepblur-live {head.provenance.get('version', '')}",
            UUID=f"urn:uuid:{head.provenance['uuid']}",
        )
        timed = head.timed and interval_s is not None
        ome.addimage(
            dtype=head.dtype.name,
            shape=(frames, *head.shape),
            storedshape=(frames, 1, 1, *head.shape, 1),
            axes="TYX",
            Name=head.name,
            **size,
            MapAnnotation={"Namespace": "deepblur-live"}
            | {
                key: value if isinstance(value, str) else json.dumps(plain(value))
                for key, value in head.provenance.items()
            },
            **(
                {"TimeIncrement": interval_s, "TimeIncrementUnit": "s"} if timed else {}
            ),
        )
        return str(ome.tostring()).encode()


def _aligned(size: int) -> int:
    return -(-size // 8) * 8
