"""OME-Zarr recordings, 0.4 and 0.5, as written by others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorstore
from ome_writers import AcquisitionSettings, create_stream

from deepblur_live.acquisition.recordings import open_series
from deepblur_live.acquisition.series import SeriesError

H, W = 24, 40

AXES = {
    "t": {"name": "t", "type": "time", "unit": "millisecond"},
    "c": {"name": "c", "type": "channel"},
    "z": {"name": "z", "type": "space", "unit": "micrometer"},
    "y": {"name": "y", "type": "space", "unit": "micrometer"},
    "x": {"name": "x", "type": "space", "unit": "micrometer"},
}


def planes(*leading: int) -> np.ndarray:
    """Return planes of which each holds its own number."""
    count = int(np.prod(leading, dtype=int))
    numbered = np.arange(count, dtype="u2")[:, None, None] + np.zeros((H, W), "u2")
    return numbered.reshape(*leading, H, W)


def write(path: Path, pixels: np.ndarray, axes: str, version: str) -> None:
    """Write an OME-Zarr by hand, as the specification says."""
    scale = {"t": 250.0, "c": 1.0, "z": 0.5, "y": 0.1, "x": 0.1}
    omero = {
        "channels": [
            {
                "label": name,
                "color": "FFFFFF",
                "active": True,
                "window": {"min": 0, "max": 1, "start": 0, "end": 1},
            }
            for name in ("DAPI", "GFP")
        ]
    }
    image = {
        "multiscales": [
            {
                "name": "series",
                "axes": [AXES[name] for name in axes],
                "datasets": [
                    {
                        "path": "0",
                        "coordinateTransformations": [
                            {"type": "scale", "scale": [scale[name] for name in axes]}
                        ],
                    }
                ],
            }
        ]
    }
    if "c" in axes:
        image["omero"] = omero
    if version == "0.4":
        image["multiscales"][0]["version"] = "0.4"
        attributes, zarr_format = image, 2
    else:
        attributes, zarr_format = {"ome": {"version": "0.5", **image}}, 3
    write_group(path, zarr_format, attributes)
    chunks = [1] * (pixels.ndim - 2) + list(pixels.shape[-2:])
    metadata = (
        {"chunks": chunks, "compressor": {"id": "blosc"}, "dimension_separator": "/"}
        if zarr_format == 2
        else {
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}}
        }
    )
    array = tensorstore.open(
        {
            "driver": "zarr" if zarr_format == 2 else "zarr3",
            "kvstore": {"driver": "file", "path": str(path / "0")},
            "metadata": metadata,
        },
        create=True,
        dtype=tensorstore.dtype(pixels.dtype.name),
        shape=pixels.shape,
    ).result()
    array[...] = pixels


def write_group(path: Path, zarr_format: int, attributes: dict) -> None:
    """Write the metadata of a group, of Zarr 2 or 3."""
    path.mkdir(parents=True, exist_ok=True)
    if zarr_format == 2:
        (path / ".zgroup").write_text(json.dumps({"zarr_format": 2}))
        (path / ".zattrs").write_text(json.dumps(attributes))
    else:
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        (path / "zarr.json").write_text(json.dumps(group))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_time_series_comes_in_order(tmp_path: Path, version: str) -> None:
    path = tmp_path / "series.zarr"
    write(path, planes(5), "tyx", version)
    with open_series(path) as source:
        assert (source.shape, source.dtype) == ((H, W), np.dtype("u2"))
        assert [int(pixels.max()) for pixels, _ in source] == [0, 1, 2, 3, 4]
        assert source.planes == 1
        assert source.pixel_size_nm == pytest.approx(100)
        assert source.interval_s == pytest.approx(0.25)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_channels_are_chosen_by_name_or_number(tmp_path: Path, version: str) -> None:
    path = tmp_path / "channels.ome.zarr"
    write(path, planes(3, 2, 2), "tczyx", version)
    with open_series(path, channel="GFP") as source:
        assert [int(pixels[0, 0]) for pixels, _ in source] == [2, 3, 6, 7, 10, 11]
        assert source.planes == 2
    with open_series(path, channel=0) as source:
        assert [int(pixels[0, 0]) for pixels, _ in source] == [0, 1, 4, 5, 8, 9]
    with pytest.raises(SeriesError, match=r"channels\.ome\.zarr: 2 channels: 0 \(DAPI"):
        open_series(path)


def test_files_of_ome_writers_are_read(tmp_path: Path) -> None:
    path = tmp_path / "written.ome.zarr"
    settings = AcquisitionSettings(
        root_path=str(path),
        dimensions=[
            {"name": "t", "count": 4, "chunk_size": 1, "type": "time"},
            {"name": "y", "count": H, "scale": 0.108, "unit": "micrometer"},
            {"name": "x", "count": W, "scale": 0.108, "unit": "micrometer"},
        ],
        dtype="uint16",
        format="ome-zarr",
    )
    with create_stream(settings) as stream:
        for plane in planes(4):
            stream.append(plane)
    with open_series(path) as source:
        assert [int(pixels[0, 0]) for pixels, _ in source] == [0, 1, 2, 3]
        assert source.pixel_size_nm == pytest.approx(108)


def test_a_single_plane_without_time_or_units(tmp_path: Path) -> None:
    path = tmp_path / "plane.zarr"
    write(path, planes(1)[0], "yx", "0.5")
    attributes = json.loads((path / "zarr.json").read_text())
    for axis in attributes["attributes"]["ome"]["multiscales"][0]["axes"]:
        del axis["unit"]
    (path / "zarr.json").write_text(json.dumps(attributes))
    with open_series(path) as source:
        assert len(source) == 1
        assert source.pixel_size_nm is None
        assert source.interval_s is None


def test_an_image_one_group_down_is_found(tmp_path: Path) -> None:
    """As bioformats2raw writes: the root holds numbered images."""
    path = tmp_path / "raw.zarr"
    write_group(path, 2, {"bioformats2raw.layout": 3})
    write(path / "0", planes(3), "tyx", "0.4")
    assert len(open_series(path)) == 3


def test_stores_without_an_image_are_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.zarr"
    empty.mkdir()
    with pytest.raises(SeriesError, match=r"empty\.zarr: not a readable OME-Zarr"):
        open_series(empty)

    plain = tmp_path / "plain.zarr"
    write_group(plain, 3, {})
    with pytest.raises(SeriesError, match=r"plain\.zarr: .*without an image"):
        open_series(plain)

    broken = tmp_path / "broken.zarr"
    write(broken, planes(2), "tyx", "0.5")
    (broken / "zarr.json").write_text('{"zarr_format": 3,')
    with pytest.raises(SeriesError, match=r"broken\.zarr.zarr\.json: damaged"):
        open_series(broken)

    gone = tmp_path / "gone.zarr"
    write(gone, planes(2), "tyx", "0.5")
    (gone / "0" / "zarr.json").unlink()
    with pytest.raises(SeriesError, match=r"gone\.zarr: level 0"):
        open_series(gone)


def test_a_damaged_chunk_is_named_with_its_frame(tmp_path: Path) -> None:
    path = tmp_path / "chunk.zarr"
    write(path, planes(3), "tyx", "0.5")
    chunk = path / "0" / "c" / "1" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:8])
    source = open_series(path)
    assert int(source[0][0, 0]) == 0
    with pytest.raises(SeriesError, match=r"chunk\.zarr: frame 1 of 3"):
        source[1]
    assert int(source[2][0, 0]) == 2


@pytest.mark.parametrize(
    ("version", "name"), [("0.4", ".zattrs"), ("0.5", "zarr.json")]
)
def test_a_file_in_a_store_opens_the_store(tmp_path: Path, version, name) -> None:
    path = tmp_path / "series.zarr"
    write(path, planes(2), "tyx", version)
    with open_series(path / name) as source:
        assert source.path == path
        assert len(source) == 2
