"""Snapshots hold what was seen, and overwrite nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from deepblur_live.gui.snapshot import save_snapshot


def test_pixels_and_numbers_come_back(session, picture, tmp_path: Path) -> None:
    result = session.publish(picture)
    raw, deblurred, about = save_snapshot(result, session, tmp_path / "new" / "folder")
    np.testing.assert_array_equal(tifffile.imread(raw), picture)
    assert tifffile.imread(raw).dtype == picture.dtype
    np.testing.assert_array_equal(tifffile.imread(deblurred), result.deblurred)
    told = json.loads(about.read_text(encoding="utf-8"))
    np.testing.assert_allclose(told["coefficients"], result.track.coefficients)
    np.testing.assert_allclose(told["covariance"], result.track.covariance)
    np.testing.assert_allclose(
        told["true_coefficients"], result.frame.metadata["truth"]
    )
    assert told["profile"] == session.profile.name
    assert told["modes"] == list(session.family.names)
    assert told["files"] == [raw.name, deblurred.name]
    assert 0 < told["strehl"] <= 1


def test_nothing_is_overwritten(session, picture, tmp_path: Path) -> None:
    result = session.publish(picture)
    before: dict[Path, bytes] = {}
    for _ in range(3):
        paths = save_snapshot(result, session, tmp_path)
        assert not before.keys() & set(paths)
        assert {path: path.read_bytes() for path in before} == before
        before |= {path: path.read_bytes() for path in paths}
    assert len(before) == 9


def test_raw_only_has_no_deblurred_file(session, picture, tmp_path: Path) -> None:
    paths = save_snapshot(
        session.publish_raw_only(picture, "constant"), session, tmp_path
    )
    assert [path.suffix for path in paths] == [".tif", ".json"]
    told = json.loads(paths[-1].read_text(encoding="utf-8"))
    assert told["reason"] == "constant"
    assert told["coefficients"] is None


def test_numbers_that_are_none_are_null(session, picture, tmp_path: Path) -> None:
    result = session.publish(picture, timings={"total": float("nan")})
    about = save_snapshot(result, session, tmp_path)[-1]
    assert json.loads(about.read_text(encoding="utf-8"))["timings_ms"] == {
        "total": None
    }


def test_colour(session, tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 255, (8, 9, 3), dtype=np.uint8)
    raw, _ = save_snapshot(session.publish_raw_only(colour, "RGB"), session, tmp_path)
    np.testing.assert_array_equal(tifffile.imread(raw), colour)


def test_a_folder_that_cannot_be_made_is_an_error(session, picture, tmp_path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(OSError, match="file"):
        save_snapshot(session.publish(picture), session, file)
    assert file.read_text() == "in the way"


def test_a_name_taken_by_one_file_is_left_alone(
    session, picture, tmp_path: Path
) -> None:
    result = session.publish(picture)
    raw, deblurred, about = save_snapshot(result, session, tmp_path)
    raw.unlink()
    deblurred.unlink()
    new = save_snapshot(result, session, tmp_path)
    # Either it took another name whole, or (a second later) it differs anyway.
    assert set(tmp_path.iterdir()) == {about, *new}
    assert all(path.stat().st_size > 0 for path in new)
