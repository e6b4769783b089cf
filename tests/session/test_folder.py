"""A session's folder and its JSON."""

from __future__ import annotations

import json
import math
import os
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from deepblur_live.session.folder import (
    new_session_folder,
    plain,
    require_folder,
    write_json,
)

NOW = datetime(2025, 3, 4, 15, 6, 7)


def test_folders_are_named_by_time_and_never_shared(tmp_path):
    names = [new_session_folder(tmp_path / "a" / "b", NOW).name for _ in range(3)]
    assert names == [
        "2025-03-04_15-06-07",
        "2025-03-04_15-06-07_2",
        "2025-03-04_15-06-07_3",
    ]


def test_folder_that_cannot_be_made_is_named(tmp_path):
    blocked = tmp_path / "a file"
    blocked.write_text("here")
    with pytest.raises(OSError, match="a file"):
        new_session_folder(blocked, NOW)
    with pytest.raises(OSError, match="session folder"):
        new_session_folder(blocked / "below", NOW)


def test_json_replaces_at_once_and_has_no_nan(tmp_path):
    path = tmp_path / "session.json"
    write_json(path, {"a": 1})
    write_json(
        path,
        {
            "array": np.array([1.0, np.nan]),
            "scalar": np.float32(0.5),
            "path": Path("x"),
            "σ": (1, None, True),
            5: {"inf": float("inf")},
        },
    )
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "array": [1.0, None],
        "scalar": 0.5,
        "path": "x",
        "σ": [1, None, True],
        "5": {"inf": None},
    }
    assert [p.name for p in tmp_path.iterdir()] == ["session.json"]


def test_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "session.json"
    write_json(path, {"a": 1})
    (tmp_path / "session.json.part").mkdir()
    with pytest.raises(OSError, match=r"session\.json"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}


class Locked:
    """What Windows does while another program has a file open."""

    def __init__(self, monkeypatch, times: float) -> None:
        self.left, self.replace = times, os.replace
        monkeypatch.setattr(os, "replace", self)
        monkeypatch.setattr("deepblur_live.session.folder.time.sleep", lambda s: None)

    def __call__(self, source, target):
        if self.left > 0:
            self.left -= 1
            raise PermissionError(13, "Access is denied", str(target))
        self.replace(source, target)


def test_a_file_that_is_open_elsewhere_is_tried_again(tmp_path, monkeypatch):
    path = tmp_path / "session.json"
    write_json(path, {"a": 1})
    Locked(monkeypatch, 5)
    write_json(path, {"a": 2})
    assert json.loads(path.read_text("utf-8")) == {"a": 2}


def test_a_file_that_stays_open_is_named(tmp_path, monkeypatch):
    path = tmp_path / "session.json"
    write_json(path, {"a": 1})
    Locked(monkeypatch, math.inf)
    with pytest.raises(PermissionError, match=r"session\.json"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text("utf-8")) == {"a": 1}


def test_plain_of_a_mapping_view():
    assert plain({"n": np.int64(3)}) == {"n": 3}


def test_a_folder_is_checked_without_making_it(tmp_path):
    require_folder(tmp_path / "new" / "one", "the sessions")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    for name in ("file", "file/one", "file/one/two"):
        with pytest.raises(OSError, match=r"cannot be used for the sessions .* a file"):
            require_folder(tmp_path / name, "the sessions")
