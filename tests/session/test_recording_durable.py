"""A recording that is killed, cut off at any write, or meets a full disk."""

from __future__ import annotations

import errno
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import tifffile

from deepblur_live.acquisition import open_series
from deepblur_live.session.recording import zarr_store
from deepblur_live.session.recording.frame_values import deblurred_columns, frame_values
from deepblur_live.session.recording.recording import Recording
from deepblur_live.session.recording.store import SeriesHead
from deepblur_live.session.recording.tiff_store import TiffStore
from deepblur_live.session.recording.zarr_store import ZarrStore

PATIENCE = 60.0
SHAPE = (48, 64)


def head_for(family):
    return SeriesHead(
        "a made-up one",
        SHAPE,
        np.dtype(np.float32),
        80.0,
        deblurred_columns(family),
        {"uuid": "3627e8ef-6d5c-4dad-9521-246003b6c9fb"},
    )


_SCRIPT = """
import importlib.util, itertools, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("made_up", {conftest!r})
made_up = importlib.util.module_from_spec(spec)
sys.modules["made_up"] = made_up
spec.loader.exec_module(made_up)
from deepblur_live.blur import family_from_profile
from deepblur_live.profile import Profile
from deepblur_live.session.recording import Recorder
results, recorders = made_up.Results(), []
for kind in ("ome.zarr", "ome.tiff"):
    family = family_from_profile(Profile())
    recorders.append(Recorder(Profile(), family, "", print, lambda *_, **__: None))
    recorders[-1].start(Path({folder!r}) / f"one.{{kind}}")
for k in itertools.count():
    result = results()
    for recorder in recorders:
        recorder.add(result)
        while recorder.counts[0].waiting > 3:
            pass
    print(*(recorder.counts[0].written for recorder in recorders), flush=True)
"""


def test_a_killed_program_loses_the_last_frames_alone(tmp_path, results):
    conftest = str(Path(__file__).with_name("conftest.py"))
    script = _SCRIPT.format(conftest=conftest, folder=str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        deadline = time.monotonic() + PATIENCE
        written = [0, 0]
        while min(written) < 40:
            written = [*map(int, process.stdout.readline().split())]
            assert time.monotonic() < deadline
    finally:
        process.kill()
        process.wait(PATIENCE)
        process.stdout.close()
    with ExitStack() as stack:
        for kind, least in zip(("ome.zarr", "ome.tiff"), written, strict=True):
            for name in ("one", "one_raw"):
                path = tmp_path / f"{name}.{kind}"
                series = stack.enter_context(open_series(path))
                # Of the raw series, one file may still be in memory.
                assert len(series) >= least - 16 * (name == "one_raw")
                assert series.pixel_size_nm == pytest.approx(100.0)
                assert series.interval_s == pytest.approx(1.0)
                made = results.__class__()
                for index in range(len(series)):
                    result = made()
                    kept = result.raw if name == "one_raw" else result.deblurred
                    np.testing.assert_array_equal(series[index], kept)


class CutOff(Exception):
    """The end of the program, at a write."""


def cut_after(writes: int, monkeypatch, where, name: str) -> None:
    write, left = getattr(where, name), [writes]

    def limited(*arguments):
        if left[0] == 0:
            raise CutOff
        left[0] -= 1
        write(*arguments)

    monkeypatch.setattr(where, name, limited)


def test_a_tiff_that_is_cut_off_at_any_write_is_whole(
    family, results, monkeypatch, tmp_path, caplog
):
    frames = [results() for _ in range(4)]
    seen = set()
    for writes in range(2, 20):
        path = tmp_path / f"{writes}.ome.tiff"
        with monkeypatch.context() as patch:
            cut_after(writes, patch, TiffStore, "_write")
            store = TiffStore(path, head_for(family))
            try:
                for result in frames:
                    store.append(result.deblurred, frame_values(result, family))
            except CutOff:
                pass
            store.close()  # removes an empty file
        if not path.exists():
            seen.add(0)
            continue
        with tifffile.TiffFile(path) as tiff:
            complete, pixels = len(tiff.pages), tiff.asarray()
        seen.add(complete)
        pixels = pixels.reshape(-1, *SHAPE)
        # The last page may not be in the description yet.
        assert complete - len(pixels) in (0, 1)
        expected = [result.deblurred for result in frames[: len(pixels)]]
        np.testing.assert_array_equal(pixels, np.reshape(expected, pixels.shape))
        with open_series(path) as series:
            assert len(series) == len(pixels)
    assert seen == {0, 1, 2, 3, 4}
    assert caplog.records == []  # tifffile logs what is damaged


def test_a_zarr_that_is_cut_off_at_any_write_is_whole(
    family, results, monkeypatch, tmp_path
):
    frames = [results() for _ in range(4)]
    lengths = set()
    for writes in range(10, 52, 4):
        path = tmp_path / f"{writes}.ome.zarr"
        with monkeypatch.context() as patch:
            cut_after(writes, patch, zarr_store, "write_json")
            store = ZarrStore(path, head_for(family))
            try:
                for result in frames:
                    store.append(result.deblurred, frame_values(result, family))
                    store.flush()
            except OSError:
                pass
        if not (path / "zarr.json").exists():
            continue  # killed before the first frame was whole
        series = open_series(path)
        lengths.add(len(series))
        for index in range(len(series)):
            np.testing.assert_array_equal(series[index], frames[index].deblurred)
        number = zarr_store.ts.open(
            {
                "driver": "zarr3",
                "kvstore": {"driver": "file", "path": f"{path}/frames/number/"},
            }
        ).result()
        found = number[: len(series)].read().result()
        np.testing.assert_array_equal(
            found, [f.info.number for f in frames][: len(found)]
        )
        assert len(found) == len(series)
    assert lengths == {1, 2, 3, 4}


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 1 MB, which only root can make."""
    place = tmp_path / "small"
    place.mkdir()
    made = sys.platform == "linux" and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True
    )
    if not made or made.returncode:
        pytest.skip("cannot mount a file system")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.parametrize("kind", ["ome.zarr", "ome.tiff"])
def test_a_full_disk_costs_the_frames_that_do_not_fit(
    small_disk, family, results, kind
):
    path = small_disk / f"one.{kind}"
    errors: list[str] = []
    recording = Recording(
        path, family, lambda *_: head_for(family), raw=False, on_error=errors.append
    )
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(500_000))

    def add_until(condition) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline
            recording.add(results())
            while recording.counts.waiting:
                time.sleep(0.001)

    add_until(lambda: recording.counts.lost > 20)
    full = recording.counts
    assert "No space left" in full.error
    with open_series(path) as series:
        assert len(series) == full.written > 10
    ballast.unlink()
    add_until(lambda: recording.counts.written > full.written + 5)
    recording.end()
    assert recording.join(PATIENCE)
    with open_series(path) as series:
        assert len(series) == recording.counts.written
    assert len([e for e in errors if "cannot be written" in e]) == 1
    if kind == "ome.tiff":
        # What follows the gap is where its row says.
        rows = (small_disk / "one.csv").read_text().splitlines()[1:]
        assert len(rows) <= recording.counts.written


def test_a_store_that_refuses_is_tried_again(family, results, monkeypatch, tmp_path):
    refuse = [True]
    write = zarr_store._GrowingArray.write

    def full(self, start, rows):
        if refuse[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, start, rows)

    monkeypatch.setattr(zarr_store._GrowingArray, "write", full)
    store = ZarrStore(tmp_path / "one.ome.zarr", head_for(family))
    frames = [results() for _ in range(40)]

    def append(some) -> int:
        refused = 0
        for result in some:
            try:
                store.append(result.deblurred, frame_values(result, family))
            except OSError:
                refused += 1
        return refused

    assert append(frames[:20]) == 1  # at the 16th; the four after it wait
    refuse[0] = False
    assert append(frames[20:]) == 0
    store.close()
    assert (store.written, store.lost) == (24, 16)
    series = open_series(tmp_path / "one.ome.zarr")
    assert len(series) == 24
    np.testing.assert_array_equal(series[len(series) - 1], frames[-1].deblurred)
