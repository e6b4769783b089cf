"""Recorded TIFFs and pictures: order, laziness, scales, errors that name them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from deepblur_live.acquisition.recordings import open_series
from deepblur_live.acquisition.series import Series, SeriesError, choose_channel

H, W = 24, 40


def series(*leading: int, dtype: str = "u2") -> np.ndarray:
    """Return planes of which each holds its own number, one pixel its position."""
    count = int(np.prod(leading, dtype=int))
    planes = np.zeros((count, H, W), dtype)
    planes += np.arange(count, dtype=dtype)[:, None, None]
    planes[:, 3, 5] = 99
    return planes.reshape(*leading, H, W)


def numbers(source: Series) -> list[int]:
    """Return the number in each frame, in the order of the series."""
    seen = []
    for index, (pixels, metadata) in enumerate(source):
        assert pixels.shape == (H, W)
        assert pixels[3, 5] == 99
        assert metadata["index"] == index
        assert metadata["source_file"] == str(source.path)
        seen.append(int(pixels[0, 0]))
    assert len(seen) == len(source)
    return seen


# --- TIFF -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"metadata": None},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"compression": "zlib"},
        {"truncate": True},  # one page that describes them all, as ImageJ beyond 4 GB
        {"truncate": True, "byteorder": ">"},
        {"imagej": True, "metadata": {"axes": "TYX"}},
        {"tile": (16, 16)},
    ],
    ids=lambda options: "-".join(map(str, options)) or "plain",
)
def test_tiff_stacks_come_in_order(tmp_path: Path, options: dict) -> None:
    file = tmp_path / "stack.tif"
    tifffile.imwrite(file, series(7), **options)
    with open_series(file) as source:
        assert (source.shape, source.dtype) == ((H, W), np.dtype("u2"))
        assert numbers(source) == list(range(7))
        assert int(source[4][0, 0]) == 4
        with pytest.raises(IndexError, match="frame 7 of 7"):
            source[7]


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4", "f8"])
def test_tiff_keeps_the_type(tmp_path: Path, dtype: str) -> None:
    file = tmp_path / "stack.tiff"
    tifffile.imwrite(file, series(2, dtype=dtype))
    with open_series(str(file)) as source:
        assert source.dtype == source[1].dtype == np.dtype(dtype)


def test_a_single_plane_is_a_series_of_one(tmp_path: Path) -> None:
    file = tmp_path / "plane.tif"
    tifffile.imwrite(file, series(1)[0])
    with open_series(file) as source:
        assert numbers(source) == [0]


def test_time_is_the_slow_axis_whatever_the_file_order(tmp_path: Path) -> None:
    """Stored Z by T: a frame is followed by the next plane of the same time."""
    file = tmp_path / "zt.ome.tif"
    tifffile.imwrite(file, series(3, 2), metadata={"axes": "ZTYX"})
    with open_series(file) as source:
        assert numbers(source) == [0, 2, 4, 1, 3, 5]
    tifffile.imwrite(file, series(3, 2), metadata={"axes": "TZYX"})
    with open_series(file) as source:
        assert numbers(source) == [0, 1, 2, 3, 4, 5]


def test_ome_tiff_has_scales_and_channels(tmp_path: Path) -> None:
    file = tmp_path / "two.ome.tif"
    metadata = {
        "axes": "TCYX",
        "PhysicalSizeX": 0.065,
        "PhysicalSizeXUnit": "µm",
        "TimeIncrement": 500,
        "TimeIncrementUnit": "ms",
        "Channel": {"Name": ["DAPI", "GFP"]},
    }
    tifffile.imwrite(file, series(4, 2), metadata=metadata)
    with open_series(file, channel="GFP") as source:
        assert source.pixel_size_nm == pytest.approx(65)
        assert source.interval_s == pytest.approx(0.5)
        assert numbers(source) == [1, 3, 5, 7]
        assert [m["time_s"] for _, m in source] == pytest.approx([0, 0.5, 1, 1.5])
        assert next(iter(source))[1]["pixel_size_nm"] == pytest.approx(65)
    with open_series(file, channel=0) as source:
        assert numbers(source) == [0, 2, 4, 6]
    for channel in (None, "Cy5", 2, -1):
        with pytest.raises(SeriesError, match=r"two\.ome\.tif.*0 \(DAPI\), 1 \(GFP\)"):
            open_series(file, channel=channel)


@pytest.mark.parametrize(
    ("said", "binning"), [("2x2", 2), ("1x1", 1), ("Other", None), (None, None)]
)
def test_the_binning_of_an_ome_tiff_goes_with_its_frames(tmp_path, said, binning):
    file = tmp_path / "binned.ome.tif"
    tifffile.imwrite(file, series(3), metadata={"axes": "TYX"})
    ome = tifffile.tiffcomment(file)
    settings = f'<DetectorSettings ID="Detector:0" Binning="{said}"/><LightPath/>'
    if said is not None:
        tifffile.tiffcomment(file, ome.replace("<LightPath/>", settings))
    with open_series(file) as source:
        assert source.binning == binning
        assert next(iter(source))[1].get("binning") == binning


def test_the_binning_of_a_micro_manager_stack_goes_with_its_frames(tmp_path):
    file = tmp_path / "MMStack.ome.tif"
    plane = b'{"Binning": "4", "ROI": "0-0-40-24"}\0'
    tag = (51123, 2, len(plane), plane, True)
    tifffile.imwrite(file, series(3), metadata={"axes": "TYX"}, extratags=[tag])
    with open_series(file) as source:
        assert source.binning == 4


def test_interval_from_the_times_of_the_planes(tmp_path: Path) -> None:
    file = tmp_path / "times.ome.tif"
    planes = {"DeltaT": [0.0, 2.0, 4.0, 6.1], "DeltaTUnit": ["s"] * 4}
    tifffile.imwrite(file, series(4), metadata={"axes": "TYX", "Plane": planes})
    with open_series(file) as source:
        assert source.interval_s == pytest.approx(2.0, abs=0.1)


def test_imagej_labels_are_names_of_channels_only_where_each_has_one(
    tmp_path: Path,
) -> None:
    file = tmp_path / "labelled.tif"

    def write(axes: str, *leading: int) -> None:
        count = int(np.prod(leading))
        metadata = {"axes": axes, "Labels": [f"s{index}" for index in range(count)]}
        tifffile.imwrite(file, series(*leading), imagej=True, metadata=metadata)

    write("CYX", 2)
    with open_series(file, channel="s1") as source:
        assert numbers(source) == [1]
    write("TCYX", 3, 2)
    with pytest.raises(SeriesError, match=r"no channel 's5'; there are: 0, 1$"):
        open_series(file, channel="s5")
    write("TYX", 6)
    with pytest.raises(SeriesError, match=r"no channel 's5'; there are: 0$"):
        open_series(file, channel="s5")


def test_names_of_channels_that_do_not_exist_are_ignored(tmp_path: Path) -> None:
    with pytest.raises(SeriesError, match=r"no channel 'Cy5'; there are: 0 \(DAPI\)$"):
        choose_channel(tmp_path, 1, ["DAPI", "Cy5"], "Cy5")


@pytest.mark.parametrize(
    ("axes", "leading", "expected"),
    [("TYX", (3,), 1), ("TZYX", (2, 3), 3), ("ZYX", (3,), 3), ("TZYX", (3, 1), 1)],
)
@pytest.mark.parametrize("imagej", [False, True])
def test_focal_planes_are_counted(
    tmp_path: Path, axes: str, leading: tuple[int, ...], expected: int, imagej: bool
) -> None:
    file = tmp_path / ("stack.tif" if imagej else "stack.ome.tif")
    tifffile.imwrite(file, series(*leading), imagej=imagej, metadata={"axes": axes})
    with open_series(file) as source:
        assert source.planes == expected


def test_imagej_scales(tmp_path: Path) -> None:
    file = tmp_path / "imagej.tif"
    metadata = {"axes": "TYX", "unit": "um", "finterval": 2.5}
    tifffile.imwrite(
        file, series(3), imagej=True, resolution=(10, 10), metadata=metadata
    )
    with open_series(file) as source:
        assert source.pixel_size_nm == pytest.approx(100)
        assert source.interval_s == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [((100_000, 100_000), 3, 100.0), ((72, 72), 2, None), ((118, 118), 3, None)],
)
def test_a_screen_resolution_is_not_a_pixel_size(
    tmp_path: Path, resolution, unit, expected
) -> None:
    file = tmp_path / "plain.tif"
    tifffile.imwrite(file, series(2), resolution=resolution, resolutionunit=unit)
    with open_series(file) as source:
        assert source.pixel_size_nm == pytest.approx(expected)
        assert source.interval_s is None


def test_frames_are_read_one_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "long.tif"
    stack = np.zeros((64, 256, 256), np.uint16)
    tifffile.imwrite(file, stack)
    tracemalloc.start()
    try:
        with open_series(file) as source:
            for _ in source:
                pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < stack.nbytes / 4


# --- TIFFs that are not right ---------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"metadata": None},
        {"compression": "zlib"},
        {"imagej": True, "metadata": {"axes": "TYX"}},
        {"ome": True, "metadata": {"axes": "TYX"}},
        {"truncate": True},
    ],
    ids=lambda o: "-".join(map(str, o)) or "plain",
)
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.9])
def test_a_truncated_file_is_named(tmp_path: Path, options: dict, kept: float) -> None:
    file = tmp_path / "whole.tif"
    rng = np.random.default_rng(1)
    stack = rng.integers(0, 60_000, (8, 64, 64)).astype("u2")
    tifffile.imwrite(file, stack, **options)
    data = file.read_bytes()
    cut = tmp_path / "cut.tif"
    cut.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(SeriesError, match=r"cut\.tif.*(truncated|complete)"):
        open_series(cut)


@pytest.mark.parametrize("offset", [0, 10**8, 4000])
def test_a_wrong_offset_of_the_first_page_is_damage(
    tmp_path: Path, offset: int
) -> None:
    file = tmp_path / "offset.tif"
    tifffile.imwrite(file, series(5), metadata=None)
    data = bytearray(file.read_bytes())
    data[4:8] = offset.to_bytes(4, "little")
    file.write_bytes(data)
    with pytest.raises(SeriesError, match=r"offset\.tif: truncated or damaged"):
        open_series(file)


def test_a_frame_damaged_in_the_middle_is_named(tmp_path: Path) -> None:
    file = tmp_path / "damaged.tif"
    tifffile.imwrite(file, series(5), compression="zlib")
    with tifffile.TiffFile(file) as tif:
        page = tif.series[0].pages[2]
        start, count = page.dataoffsets[0], page.databytecounts[0]
    data = bytearray(file.read_bytes())
    data[start : start + count] = b"\xff" * count
    file.write_bytes(data)
    with open_series(file) as source:
        assert int(source[1][0, 0]) == 1
        with pytest.raises(SeriesError, match=r"damaged\.tif: frame 2 of 5"):
            source[2]
        assert int(source[3][0, 0]) == 3


def test_a_codec_that_is_missing_is_named(tmp_path: Path) -> None:
    file = tmp_path / "packed.tif"
    tifffile.imwrite(file, series(2), metadata=None)
    with tifffile.TiffFile(file, mode="r+b") as tif:
        for page in tif.pages:
            # A code that no decoder has been registered for in any installation.
            page.tags["Compression"].overwrite(tifffile.COMPRESSION.JBIG.value)
    with pytest.raises(SeriesError, match=r"packed\.tif.*JBIG.*imagecodecs"):
        open_series(file)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colour_is_refused(tmp_path: Path, planar: str) -> None:
    file = tmp_path / "colour.tif"
    shape = (2, H, W, 3) if planar == "contig" else (2, 3, H, W)
    tifffile.imwrite(
        file, np.zeros(shape, "u1"), photometric="rgb", planarconfig=planar
    )
    with pytest.raises(SeriesError, match=r"colour\.tif: colour images.*grey"):
        open_series(file)


@pytest.mark.parametrize("content", [b"", b"hello, this is not a TIFF", b"II*\0" * 40])
def test_a_file_that_is_not_a_tiff_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "junk.tif"
    file.write_bytes(content)
    with pytest.raises(SeriesError, match=r"junk\.tif"):
        open_series(file)


def test_a_missing_or_unknown_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SeriesError, match=r"absent\.tif: no such file"):
        open_series(tmp_path / "absent.tif")
    other = tmp_path / "film.mp4"
    other.write_bytes(b"x")
    with pytest.raises(SeriesError, match=r"film\.mp4: unknown file type.*OME-Zarr"):
        open_series(other)


# --- folders and patterns -------------------------------------------------------------


def test_pictures_come_in_natural_order(tmp_path: Path) -> None:
    for index in (0, 1, 2, 10, 11, 9):
        tifffile.imwrite(
            tmp_path / f"img_{index}.tif",
            series(12)[index],
            resolution=(1e5, 1e5),
            resolutionunit=3,
        )
    (tmp_path / "notes.txt").write_text("not a picture")
    with open_series(tmp_path) as source:
        assert numbers(source) == [0, 1, 2, 9, 10, 11]
        assert source.pixel_size_nm == pytest.approx(100)
    assert numbers(open_series(tmp_path / "img_1*.tif")) == [1, 10, 11]


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_png_pictures(tmp_path: Path, dtype: str) -> None:
    for index, plane in enumerate(series(3, dtype=dtype)):
        Image.fromarray(plane).save(tmp_path / f"{index}.PNG")
    source = open_series(tmp_path)
    assert source.dtype == np.dtype(dtype)
    assert numbers(source) == [0, 1, 2]
    assert len(open_series(tmp_path / "1.PNG")) == 1


def test_folders_without_a_series_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SeriesError, match="no pictures"):
        open_series(tmp_path)
    with pytest.raises(SeriesError, match="no pictures"):
        open_series(tmp_path / "*.tif")

    stacks = tmp_path / "stacks"
    stacks.mkdir()
    tifffile.imwrite(stacks / "a.tif", series(5))
    with pytest.raises(SeriesError, match=r"a\.tif: holds 5 planes"):
        open_series(stacks)

    colours = tmp_path / "colours"
    colours.mkdir()
    Image.new("RGB", (W, H)).save(colours / "a.png")
    with pytest.raises(SeriesError, match=r"a\.png: .*colour"):
        open_series(colours)
    (colours / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(SeriesError, match=r"a\.png: not a readable PNG"):
        open_series(colours)


def test_a_picture_of_another_size_comes_whole(tmp_path: Path) -> None:
    Image.fromarray(series(1)[0]).save(tmp_path / "1.png")
    Image.fromarray(series(1)[0][:-2]).save(tmp_path / "2.png")
    source = open_series(tmp_path)
    assert source.shape == source[0].shape
    np.testing.assert_array_equal(source[1], series(1)[0][:-2])
