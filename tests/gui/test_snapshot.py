"""Snapshots hold the result on screen and overwrite nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from deepblur_live.acquisition import open_series
from deepblur_live.gui.snapshot import save_snapshot


def test_pixels_and_numbers_are_saved(session, image, tmp_path: Path) -> None:
    result = session.publish(image)
    raw, deblurred, about = save_snapshot(result, session, tmp_path / "new" / "folder")
    np.testing.assert_array_equal(tifffile.imread(raw), image)
    assert tifffile.imread(raw).dtype == image.dtype
    np.testing.assert_array_equal(tifffile.imread(deblurred), result.deblurred)
    saved = json.loads(about.read_text(encoding="utf-8"))
    np.testing.assert_allclose(saved["coefficients"], result.track.coefficients)
    np.testing.assert_allclose(saved["covariance"], result.track.covariance)
    np.testing.assert_allclose(
        saved["true_coefficients"], result.frame.metadata["truth"]
    )
    assert saved["profile"] == session.profile.name
    assert saved["coefficient_names"] == list(session.family.names)
    assert saved["coefficient_unit"] == session.family.unit
    assert saved["files"] == [raw.name, deblurred.name]
    quality = {q["name"]: q["value"] for q in saved["quality"]}
    assert quality["wavefront rms"] == pytest.approx(
        np.linalg.norm(result.track.coefficients)
    )
    assert 0 < quality["Strehl"] <= 1
    assert saved["verification"] == session.verification.text


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "int64", ">u2"])
def test_pictures_carry_their_pixel_size(session, image, tmp_path, dtype) -> None:
    result = session.publish(image.astype(dtype))
    size = session.profile.optics.pixel_size_nm
    for path in save_snapshot(result, session, tmp_path)[:2]:
        with open_series(path) as series:
            assert series.pixel_size_nm == pytest.approx(size)
        with tifffile.TiffFile(path) as tiff:
            # What ImageJ reads.
            x, per = tiff.pages.first.tags["XResolution"].value
            assert x / per == pytest.approx(1e7 / size)


@pytest.mark.parametrize("dtype", ["uint16", "int64"])
def test_a_contradicted_pixel_size_is_not_saved_as_theirs(
    session, image, tmp_path, dtype
) -> None:
    result = session.publish(image.astype(dtype))
    session.optics.check(65.0, "the microscope")
    *pictures, about = save_snapshot(result, session, tmp_path)
    for path in pictures:
        with open_series(path) as series:
            assert series.pixel_size_nm is None
    saved = json.loads(about.read_text(encoding="utf-8"))
    assert "states pixels of 65 nm" in saved["optics_contradicted"]


def test_nothing_is_overwritten(session, image, tmp_path: Path) -> None:
    result = session.publish(image)
    before: dict[Path, bytes] = {}
    for _ in range(3):
        paths = save_snapshot(result, session, tmp_path)
        assert not before.keys() & set(paths)
        assert {path: path.read_bytes() for path in before} == before
        before |= {path: path.read_bytes() for path in paths}
    assert len(before) == 9


def test_raw_only_has_no_deblurred_file(session, image, tmp_path: Path) -> None:
    paths = save_snapshot(
        session.publish_raw_only(image, "constant"), session, tmp_path
    )
    assert [path.suffix for path in paths] == [".tif", ".json"]
    saved = json.loads(paths[-1].read_text(encoding="utf-8"))
    assert saved["reason"] == "constant"
    assert saved["coefficients"] is None


def test_nan_becomes_null(session, image, tmp_path: Path) -> None:
    result = session.publish(image, timings={"total": float("nan")})
    about = save_snapshot(result, session, tmp_path)[-1]
    assert json.loads(about.read_text(encoding="utf-8"))["timings_ms"] == {
        "total": None
    }


def test_colour(session, tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 255, (8, 9, 3), dtype=np.uint8)
    raw, _ = save_snapshot(session.publish_raw_only(colour, "RGB"), session, tmp_path)
    np.testing.assert_array_equal(tifffile.imread(raw), colour)


def test_a_folder_that_cannot_be_created_is_an_error(session, image, tmp_path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(OSError, match="file"):
        save_snapshot(session.publish(image), session, file)
    assert file.read_text() == "in the way"


def test_a_name_used_by_one_file_is_not_reused(session, image, tmp_path: Path) -> None:
    result = session.publish(image)
    raw, deblurred, about = save_snapshot(result, session, tmp_path)
    raw.unlink()
    deblurred.unlink()
    new = save_snapshot(result, session, tmp_path)
    # Another suffix, or another time stamp a second later.
    assert set(tmp_path.iterdir()) == {about, *new}
    assert all(path.stat().st_size > 0 for path in new)
