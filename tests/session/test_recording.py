"""Deblurred series: read back by others' readers, whatever interrupted them."""

from __future__ import annotations

import csv
import json
import threading
import time

import numpy as np
import ome_types
import pytest
import tifffile

from deepblur_live.acquisition import open_series
from deepblur_live.profile import Optics, Profile
from deepblur_live.session import LiveSession
from deepblur_live.session.recording import Recording, check_recording
from deepblur_live.session.recording.zarr_store import ZarrStore

pytestmark = pytest.mark.usefixtures("quick_monitor")

PROFILE = Profile(name="rig 3", optics=Optics(pixel_size_nm=80.0))
PATIENCE = 60.0
KINDS = ("ome.zarr", "ome.tiff")


@pytest.fixture
def session(family, listener, clock, now, tmp_path):
    # Without a folder of its own, for which it would draw pictures.
    session = LiveSession(PROFILE, family, listener, clock=clock, now=now)
    yield session
    session.close()
    assert list(session.background_errors) == []


@pytest.fixture
def record(session, listener, results, tmp_path):
    """Record frames 10 to 29, frame 13 raw, 14 at half strength; return them."""

    def run(name, raw=None):
        for _ in range(10):
            listener.emit(results())
        session.recorder.start(tmp_path / name, raw)
        kept = []
        for number in range(10, 30):
            why = "not finite" if number == 13 else ""
            result = results(raw_reason=why, index={"t": number - 10, "p": 2})
            if number == 14:
                result = type(result)(
                    **{**vars(result), "strength": 0.5, "reason": "ringing"}
                )
            listener.emit(result)
            kept.append(result)
        session.recorder.stop()
        listener.emit(results())
        session.close()
        return kept

    return run


def image_of(result):
    return result.raw if result.deblurred is None else result.deblurred


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_kept_with_scale_and_time(record, session, tmp_path, kind):
    kept = record(f"one.{kind}")
    for name, frames in (
        ("one", map(image_of, kept)),
        ("one_raw", (r.raw for r in kept)),
    ):
        with open_series(tmp_path / f"{name}.{kind}") as series:
            assert len(series) == 20
            assert series.pixel_size_nm == pytest.approx(80.0)
            assert series.interval_s == pytest.approx(1.0)
            for index, frame in enumerate(frames):
                np.testing.assert_array_equal(series[index], frame)
    assert series.dtype == np.uint16
    (counts,) = session.summary.recordings
    assert (counts.written, counts.dropped, counts.lost) == (20, 0, 0)
    assert f"Recorded 20 deblurred frames in {tmp_path}" in session.summary.text()
    assert f"raw frames in one_raw.{kind}; 1 passed on raw" in session.summary.text()


@pytest.mark.parametrize("kind", KINDS)
def test_the_binning_is_kept(session, listener, results, tmp_path, kind):
    session.recorder.start(tmp_path / f"one.{kind}")
    listener.emit(results(binning=2))
    session.close()
    for name in ("one", "one_raw"):
        with open_series(tmp_path / f"{name}.{kind}") as series:
            assert series.binning == 2
            assert next(iter(series))[1]["binning"] == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_contradicted_pixel_size_is_not_kept_as_theirs(
    session, listener, results, tmp_path, kind
):
    listener.emit(results(pixel_size_nm=65.0))
    session.recorder.start(tmp_path / f"one.{kind}")
    listener.emit(results(pixel_size_nm=65.0))
    session.close()
    for name in ("one", "one_raw"):
        path = tmp_path / f"{name}.{kind}"
        with open_series(path) as series:
            assert series.pixel_size_nm is None
        texts = [path] if path.is_file() else path.glob("zarr.json")
        assert any(b"states pixels of 65 nm" in text.read_bytes() for text in texts)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pixel_size_that_is_contradicted_later_begins_a_new_series(
    session, listener, results, tmp_path, kind
):
    session.recorder.start(tmp_path / f"one.{kind}")
    listener.emit(results())
    deadline = time.monotonic() + PATIENCE
    while session.recorder.counts[0].written < 1:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    listener.emit(results(pixel_size_nm=65.0))
    session.close()
    for name, size in (("one", 80.0), ("one-2", None)):
        with open_series(tmp_path / f"{name}.{kind}") as series:
            assert (len(series), series.pixel_size_nm) == (1, size)


def test_zarr_python_reads_pixels_and_values(record, start, tmp_path):
    zarr = pytest.importorskip("zarr")
    kept = record("one.ome.zarr")
    group = zarr.open_group(tmp_path / "one.ome.zarr", mode="r")
    np.testing.assert_array_equal(group["0"][:], np.stack([*map(image_of, kept)]))
    (image,) = group.attrs["ome"]["multiscales"]
    assert [(a["name"], a["unit"]) for a in image["axes"]] == [
        ("t", "second"),
        ("y", "micrometer"),
        ("x", "micrometer"),
    ]
    (scale,) = image["datasets"][0]["coordinateTransformations"]
    assert scale == {"type": "scale", "scale": pytest.approx([1.0, 0.08, 0.08])}
    frames = {name: array[:] for name, array in group["frames"].arrays()}
    assert {len(values) for values in frames.values()} == {20}
    np.testing.assert_array_equal(frames["number"], range(10, 30))
    np.testing.assert_array_equal(frames["time_s"], np.arange(10.0, 30.0))
    np.testing.assert_array_equal(frames["mda_index"][4], [4, 2, -1, -1, -1])
    deblurred = np.arange(20) != 3
    np.testing.assert_array_equal(frames["coefficients"][deblurred], [start] * 19)
    np.testing.assert_allclose(frames["deviations"][deblurred], 0.002)
    assert np.isnan(frames["coefficients"][3]).all()
    np.testing.assert_array_equal(frames["strength"][:6], [1, 1, 1, 0, 0.5, 1])

    def texts(name):
        return [group["frames"][name].attrs["texts"][k] for k in frames[name]]

    assert texts("state")[2:5] == ["deblurred", "raw-only", "deblurred"]
    assert texts("reason")[2:6] == ["", "not finite", "ringing", ""]


def test_a_series_says_how_it_was_made(record, session, tmp_path):
    record("one.ome.zarr", raw="/data/run1.ome.zarr")
    assert not (tmp_path / "one_raw.ome.zarr").exists()
    about = json.loads((tmp_path / "one.ome.zarr/zarr.json").read_text("utf-8"))
    made = about["attributes"]["deepblur_live"]
    assert made["profile"]["optics"]["pixel_size_nm"] == 80.0
    assert made["raw"] == "/data/run1.ome.zarr"
    assert len(made["model"]["weights_sha256"]["deblurring.safetensors"]) == 64


def test_the_tiff_is_valid_for_ome_and_imagej(record, tmp_path):
    record("one.ome.tiff")
    file = tmp_path / "one.ome.tiff"
    ome = ome_types.from_tiff(file)
    pixels = ome.images[0].pixels
    assert (pixels.size_t, pixels.size_y, pixels.size_x) == (20, 48, 64)
    assert (pixels.physical_size_x, pixels.time_increment) == (0.08, 1.0)
    assert pixels.type.value == "float"
    notes = ome.structured_annotations.map_annotations[0].value
    assert json.loads(notes["profile"])["name"] == "rig 3"
    with tifffile.TiffFile(file) as tiff:
        assert tiff.series[0].axes == "TYX"
        page = tiff.pages.first
        # Pixels per centimetre, which ImageJ reads.
        assert page.tags["XResolution"].value == (125_000_000, 1000)
        assert page.tags["ResolutionUnit"].value == 3
    rows = list(csv.DictReader((tmp_path / "one.csv").read_text().splitlines()))
    assert [int(row["number"]) for row in rows] == list(range(10, 30))
    assert [row["page"] for row in rows] == [str(k) for k in range(20)]
    assert (rows[3]["state"], rows[3]["strength"]) == ("raw-only", "0")
    assert rows[4]["mda_p"] == "2"
    assert float(rows[0]["defocus_waves"]) == 0.05


def test_frames_of_another_size_begin_a_new_series(
    session, listener, results, tmp_path
):
    session.recorder.start(tmp_path / "one.ome.zarr")
    for shape in ((48, 64), (32, 40), (48, 64)):
        results.shape = shape
        for _ in range(3):
            listener.emit(results())
    session.close()
    shapes = [
        open_series(tmp_path / f"one{part}.ome.zarr").shape for part in ("", "-2", "-3")
    ]
    assert shapes == [(48, 64), (32, 40), (48, 64)]
    (counts,) = session.summary.recordings
    assert (counts.parts, counts.written) == (3, 9)


def test_a_recording_without_frames_leaves_no_file(session, tmp_path):
    session.recorder.start(tmp_path / "one.ome.tiff")
    session.close()
    assert list(tmp_path.iterdir()) == []


def test_names_are_checked_at_the_start(session, tmp_path):
    recorder = session.recorder
    with pytest.raises(ValueError, match=r"must end in .ome.zarr or .ome.tiff"):
        recorder.start(tmp_path / "one.tif")
    (tmp_path / "one_raw.ome.zarr").mkdir()
    with pytest.raises(FileExistsError, match=r"one_raw.ome.zarr exists already"):
        recorder.start(tmp_path / "one.ome.zarr")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file: cannot be used .*it is a file"):
        recorder.start(tmp_path / "file" / "one.ome.zarr")
    recorder.start(tmp_path / "two.ome.zarr")
    with pytest.raises(ValueError, match="already recording"):
        recorder.start(tmp_path / "three.ome.zarr")


def test_a_closed_session_starts_no_recording(session, tmp_path):
    session.close()
    with pytest.raises(ValueError, match="the session is closed"):
        session.recorder.start(tmp_path / "one.ome.zarr")
    assert session.recorder.counts == ()


@pytest.mark.parametrize("kind", ["OME.ZARR", "OME.TIFF", "Ome.Tif"])
def test_the_ending_is_kept_as_it_is_typed(record, session, tmp_path, kind):
    record(f"one.{kind}")
    (counts,) = session.summary.recordings
    assert [counts.path.name, counts.raw.name] == [f"one.{kind}", f"one_raw.{kind}"]
    names = {file.name for file in tmp_path.iterdir()}
    assert {counts.path.name, counts.raw.name} <= names
    for path in (counts.path, counts.raw):
        with open_series(path) as series:
            assert len(series) == 20


def test_a_slow_disk_costs_frames_and_no_time(
    family, results, monkeypatch, tmp_path, session
):
    disk = threading.Event()
    append = ZarrStore.append

    def slow(self, *frame):
        assert disk.wait(PATIENCE)
        append(self, *frame)

    monkeypatch.setattr(ZarrStore, "append", slow)
    errors: list[str] = []
    path = check_recording(tmp_path / "one.ome.zarr")
    budget = 5 * 48 * 64 * 6
    head_of = session.recorder._head
    recording = Recording(
        path,
        family,
        lambda *first: head_of(*first, session.recorder._about(None)),
        raw=True,
        on_error=errors.append,
        queue_bytes=budget,
    )
    began = time.perf_counter()
    kept = [recording.add(results()) for _ in range(100)]
    assert time.perf_counter() - began < 1.0
    assert kept == [True] * 5 + [False] * 95
    assert (recording.counts.waiting, recording.counts.dropped) == (5, 95)
    assert not recording.has_room
    assert "slower than the camera" in errors[0]
    disk.set()
    recording.end()
    assert recording.join(PATIENCE)
    assert recording.counts.written == len(open_series(path)) == 5
    assert "95 dropped (the disk is too slow)" in recording.counts.text


def test_frames_in_colour_are_counted(session, listener, results, tmp_path):
    session.recorder.start(tmp_path / "one.ome.zarr")
    grey = results()
    colour = type(grey)(**{**vars(grey), "raw": np.zeros((8, 8, 3), np.uint8)})
    session.recorder.add(colour)
    session.recorder.add(grey)
    session.recorder.close()
    (counts,) = session.recorder.counts
    assert (counts.written, counts.unfit) == (1, 1)
    assert "(8, 8, 3)" in session.background_errors.pop()
