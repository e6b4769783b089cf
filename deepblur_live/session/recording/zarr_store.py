"""A series as OME-Zarr 0.5: the image, and an array for each value of the frames."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorstore as ts
from yaozarrs import v05

from deepblur_live.session.folder import write_json
from deepblur_live.session.recording.store import mean_interval

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from deepblur_live.session.recording.frame_values import Column
    from deepblur_live.session.recording.store import SeriesHead

__all__ = ["ZarrStore"]

# A file holds several small frames, or one large one (docs/decisions/0177). It is
# rewritten at each flush until it is full.
_SHARD_BYTES, _MOST_IN_A_SHARD = 16 << 20, 16
_ROWS_IN_A_CHUNK = 1024
_MOST_TEXTS = 255
_ENDLESS = 2**40

_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
_LZ4 = {"cname": "lz4", "clevel": 3, "shuffle": "shuffle", "blocksize": 0}


class ZarrStore:
    """An OME-Zarr 0.5 image (t, y, x) with a group ``frames``: an array per column.

    Parameters
    ----------
    path
        The folder to create.
    head
        The series.

    Raises
    ------
    OSError
        The folder exists, or cannot be created.
    """

    def __init__(self, path: Path, head: SeriesHead) -> None:
        self.path = path
        self.written = self.lost = 0
        path.mkdir()
        self._head = head
        frame_bytes = head.dtype.itemsize * head.shape[0] * head.shape[1]
        self._capacity = max(1, min(_MOST_IN_A_SHARD, _SHARD_BYTES // frame_bytes))
        self._image = _image_array(path / "0", head, self._capacity)
        self._columns = [_ColumnArray(path / "frames", c) for c in head.columns]
        # The frames of the last file, of which the first may be written already.
        self._first = 0
        self._frames: list[NDArray[Any]] = []
        self._values: list[Mapping[str, Any]] = []
        self._times = (0.0, 0.0)
        self._described = -1

    def append(self, pixels: NDArray[Any], values: Mapping[str, Any]) -> None:
        """Add a frame; written when its file is full, or at the next flush."""
        self._frames.append(pixels)
        self._values.append(values)
        if len(self._frames) == self._capacity:
            self.flush()

    def flush(self) -> None:
        """Write what is still in memory.

        Raises
        ------
        OSError
            It cannot be written. Frames for which there is no memory left are lost.
        """
        end = self._first + len(self._frames)
        if end == self.written:
            return
        full = len(self._frames) == self._capacity
        try:
            self._write(end)
        except Exception as error:  # tensorstore's are of many types
            if full:
                self.lost += end - self.written
                kept = self.written - self._first
                del self._frames[kept:], self._values[kept:]
            raise OSError(_reason(error)) from error
        if full:
            self._first = end
            self._frames, self._values = [], []

    def close(self) -> None:
        """Write what is still in memory and the mean interval; remove an empty series.

        Raises
        ------
        OSError
            It cannot be written; the frames in memory are lost.
        """
        try:
            self.flush()
            if self.written:
                self._describe()
        finally:
            self.lost += self._first + len(self._frames) - self.written
            self._first, self._frames, self._values = self.written, [], []
            if not self.written:
                shutil.rmtree(self.path, ignore_errors=True)

    def _write(self, end: int) -> None:
        self._image.write(self._first, np.stack(self._frames))
        new = self._values[self.written - self._first :]
        for column in self._columns:
            column.write(self.written, new)
        # The image last: it is then never longer than its columns.
        for column in self._columns:
            column.publish(end)
        self._image.publish(end)
        first = new[0]["time_s"] if self.written == 0 else self._times[0]
        self._times, self.written = (first, new[-1]["time_s"]), end
        # If the series is cut off, its stated interval covers at least half of its
        # frames.
        if end >= 2 * self._described:
            self._describe()

    def _describe(self) -> None:
        """Write the groups' metadata, with the mean interval so far."""
        interval = mean_interval(*self._times, self.written)
        self._described = self.written
        write_json(
            self.path / "frames" / "zarr.json",
            {"zarr_format": 3, "node_type": "group", "attributes": {}},
        )
        write_json(
            self.path / "zarr.json",
            {
                "zarr_format": 3,
                "node_type": "group",
                "attributes": {
                    "ome": _ome(self._head, interval),
                    "deepblur_live": self._head.provenance,
                },
            },
        )


class _GrowingArray:
    """A Zarr array whose length on disk is set only after its data are there.

    tensorstore writes the chunks of an array without end, whose metadata it keeps in
    memory; those on disk are written by `publish`.
    """

    def __init__(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        self._folder = folder
        self._metadata = {"zarr_format": 3, "node_type": "array", **metadata}
        layers = [
            {"base": {"driver": "file", "path": f"{folder.as_posix()}/"}},
            {"exact": "zarr.json", "base": {"driver": "memory"}},
        ]
        spec = {
            "driver": "zarr3",
            "kvstore": {"driver": "kvstack", "layers": layers},
            "metadata": self._with_length(_ENDLESS),
        }
        self._store = ts.open(spec, create=True).result()

    def write(self, start: int, rows: NDArray[Any]) -> None:
        self._store[start : start + len(rows)].write(rows).result()

    def publish(self, length: int, attributes: Mapping[str, Any] | None = None) -> None:
        more = {"attributes": attributes} if attributes else {}
        write_json(self._folder / "zarr.json", self._with_length(length) | more)

    def _with_length(self, length: int) -> dict[str, Any]:
        return {**self._metadata, "shape": [length, *self._metadata["shape"]]}


class _ColumnArray:
    """One value of each frame; texts as codes, with the texts in the attributes."""

    def __init__(self, parent: Path, column: Column) -> None:
        self._column = column
        self._texts: list[str] = []
        inner = [len(column.parts)] if column.parts else []
        self._stored = _GrowingArray(
            parent / column.name,
            {
                "shape": inner,
                "data_type": column.dtype,
                "chunk_grid": _regular([_ROWS_IN_A_CHUNK, *inner]),
                "chunk_key_encoding": {"name": "default"},
                "codecs": [_BYTES],
                "fill_value": 0,
                "dimension_names": ["t", column.name][: 1 + len(inner)],
            },
        )

    def write(self, start: int, values: list[Mapping[str, Any]]) -> None:
        found = [row[self._column.name] for row in values]
        if self._column.text:
            found = [self._code(text) for text in found]
        self._stored.write(start, np.asarray(found, self._column.dtype))

    def publish(self, length: int) -> None:
        attributes: dict[str, Any] = {"meaning": self._column.meaning}
        if self._column.text:
            attributes["texts"] = self._texts
        if self._column.parts:
            attributes["parts"] = self._column.parts
        self._stored.publish(length, attributes)

    def _code(self, text: str) -> int:
        """Return the number of a text; 255 for all texts after the first 255."""
        if text not in self._texts:
            if len(self._texts) == _MOST_TEXTS:
                return _MOST_TEXTS
            self._texts.append(text)
        return self._texts.index(text)


def _image_array(folder: Path, head: SeriesHead, in_a_shard: int) -> _GrowingArray:
    blosc = _LZ4 | {"typesize": head.dtype.itemsize}
    inner = [_BYTES, {"name": "blosc", "configuration": blosc}]
    codecs: list[Any] = inner
    if in_a_shard > 1:
        sharding = {
            "chunk_shape": [1, *head.shape],
            "codecs": inner,
            "index_codecs": [_BYTES, {"name": "crc32c"}],
            "index_location": "end",
        }
        codecs = [{"name": "sharding_indexed", "configuration": sharding}]
    return _GrowingArray(
        folder,
        {
            "shape": list(head.shape),
            "data_type": head.dtype.name,
            "chunk_grid": _regular([in_a_shard, *head.shape]),
            "chunk_key_encoding": {"name": "default"},
            "codecs": codecs,
            "fill_value": 0,
            "dimension_names": ["t", "y", "x"],
        },
    )


def _regular(shape: list[int]) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": shape}}


def _ome(head: SeriesHead, interval_s: float | None) -> dict[str, Any]:
    """Return the OME metadata; an axis whose scale is not known has no unit."""
    timed = head.timed and interval_s is not None
    size, unit = 1.0, {}
    if head.pixel_size_nm is not None:
        size, unit = head.pixel_size_nm / 1000, {"unit": "micrometer"}
    scale = [interval_s if timed else 1.0, size, size]
    transformation = {"type": "scale", "scale": scale}
    time = {"name": "t", "type": "time"} | ({"unit": "second"} if timed else {})
    space = [{"name": n, "type": "space"} | unit for n in ("y", "x")]
    dataset = {"path": "0", "coordinateTransformations": [transformation]}
    image = v05.Image.model_validate(
        {
            "multiscales": [
                {"name": head.name, "axes": [time, *space], "datasets": [dataset]}
            ]
        }
    )
    content: dict[str, Any] = image.model_dump(mode="json", exclude_none=True)
    return content


def _reason(error: Exception) -> str:
    """Return the reason at the end of tensorstore's long message."""
    text = str(error).partition(" [")[0].rpartition(": ")[2]
    return text or type(error).__name__
