"""The thread of a recording: it ends whatever fails, and holds no more than it must."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from deepblur_live.acquisition import open_series
from deepblur_live.session.recording import Recording, check_recording
from deepblur_live.session.recording.frame_values import deblurred_columns
from deepblur_live.session.recording.store import SeriesHead

PATIENCE = 60.0


@pytest.fixture
def recording(family, tmp_path):
    """Make recordings of deblurred frames, and end them."""
    made = []
    head = SeriesHead(
        "a made-up one",
        (48, 64),
        np.dtype(np.float32),
        80.0,
        deblurred_columns(family),
        {"uuid": "3627e8ef-6d5c-4dad-9521-246003b6c9fb"},
    )

    def make(on_error=print):
        path = check_recording(tmp_path / "one.ome.zarr")
        made.append(
            Recording(path, family, lambda *_: head, raw=False, on_error=on_error)
        )
        return made[-1]

    yield make
    for one in made:
        one.end()
        assert one.join(PATIENCE)


def test_an_error_that_cannot_be_reported_costs_no_frame(recording, results):
    def refuse(text):
        raise RuntimeError(text)

    one = recording(refuse)
    grey = results()
    one.add(type(grey)(**{**vars(grey), "raw": np.zeros((8, 8, 3), np.uint8)}))
    one.add(grey)
    one.end()
    assert one.join(PATIENCE)
    assert (one.counts.written, one.counts.unfit) == (1, 1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_fails_ends_its_recording(recording, results, monkeypatch):
    one = recording()
    one.add(results())
    deadline = time.monotonic() + PATIENCE
    while one.counts.waiting:
        assert time.monotonic() < deadline
        time.sleep(0.001)

    def fail(action):
        monkeypatch.undo()
        raise SystemExit

    monkeypatch.setattr(one, "_guard", fail)
    one.add(results())
    assert one.join(PATIENCE)
    assert not one.add(results())
    assert one.counts.written == len(open_series(one.counts.path)) == 1


def test_frames_wait_without_raw_pixels_that_are_not_written(
    recording, results, monkeypatch
):
    disk, seen = threading.Event(), []
    keep = Recording._keep

    def slow(self, result):
        assert disk.wait(PATIENCE)
        seen.append(result.raw)
        keep(self, result)

    monkeypatch.setattr(Recording, "_keep", slow)
    one = recording()
    result = results()
    one.add(result)
    disk.set()
    one.end()
    assert one.join(PATIENCE)
    (raw,) = seen
    assert (raw.shape, raw.dtype) == (result.raw.shape, result.raw.dtype)
    assert raw.strides == (0, 0)
    np.testing.assert_array_equal(open_series(one.counts.path)[0], result.deblurred)
