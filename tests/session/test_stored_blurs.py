"""What a session stores for its report: no torch is needed, nothing is different."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from deepblur_live.calibration.rig import rig_family
from deepblur_live.profile import check_profile
from deepblur_live.session import LiveSession
from deepblur_live.session.report import computed, write_report
from deepblur_live.session.report.moments import moments, reference
from deepblur_live.session.report.page import page
from deepblur_live.session.report.read import read_session
from deepblur_live.session.report.stored import FILE, read_stored

sys.path.append(str(Path(__file__).parents[1] / "calibration"))

from stack_slides import PROFILE
from written_calibration import write_calibration

# Writes a report, reads other sessions, and says whether torch was imported.
SCRIPT = """
import sys
from pathlib import Path
import deepblur_live.cli.commands
from deepblur_live.session.report import ReportError, write_report
from deepblur_live.session.report.moments import moments, reference
from deepblur_live.session.report.read import read_session
to, *folders = map(Path, sys.argv[1:])
write_report(folders[0], to)
for folder in folders:
    try:
        data = read_session(folder)
        moments(data), reference(data)
    except ReportError as error:
        print(error)
    print(sorted({"torch", "scipy", "deepblur_live.calibration.rig"} & {*sys.modules}))
"""


def without_stored(folder, to):
    """Return a copy of a session that was cut off before it stored anything."""
    copied = shutil.copytree(folder, to / folder.name)
    (copied / FILE).unlink()
    return copied


def said(folder):
    """Return all that a report says of the blurs, as text."""
    data = read_session(folder)
    facts = [asdict(series.family) for series in data.series]
    shown = [asdict(one) for one in (*moments(data), reference(data))]
    return json.dumps([facts, shown], default=np.ndarray.tolist)


@pytest.fixture
def calibrated(tmp_path, listener, results):
    slope = np.array([0.1, *np.zeros(6)])
    trend = np.stack([np.full(7, 0.03), slope, np.zeros(7)])
    content = PROFILE.model_dump()
    calibration = write_calibration(tmp_path / "rig.calib", [trend])
    content["model"] |= {"calibration": str(calibration), "blur": "field"}
    content["drift"] |= {"batch_s": 2, "reference": "calibration"}
    profile = check_profile(content, "test")
    session = LiveSession(profile, rig_family(profile), listener, tmp_path / "rig")
    for _ in range(6):
        listener.emit(results(np.eye(8)[2] * 0.1))
    session.close()
    shutil.rmtree(calibration)
    return session.folder


@pytest.fixture
def channels(tmp_path, family, listener, results, start):
    content = {"channels": {"DAPI": {"emission_nm": 460.0}}}
    profile = check_profile(content, "test")
    session = LiveSession(profile, family, listener, tmp_path / "channels")
    for _ in range(6):
        listener.emit(results(start, channel="GFP", index={"c": 0}))
        listener.emit(results(2 * start, channel="DAPI", index={"c": 1}))
    session.close()
    return session.folder


def test_reports_import_no_torch_and_agree_with_computed_ones(
    closed_session, closed_field_session, calibrated, channels, tmp_path
):
    folders = [closed_session, closed_field_session.folder, calibrated, channels]
    fixed = shutil.copytree(closed_session, tmp_path / "fixed")
    about = json.loads((fixed / "session.json").read_text("utf-8"))
    (fixed / "session.json").write_text(json.dumps(about | {"coefficients": []}))
    paths = [tmp_path / "stored", *folders, fixed]
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    *lines, refused, last = ran.stdout.splitlines()
    assert [*lines, last] == ["[]"] * 5
    assert "fixed PSF" in refused
    # Two sessions may have begun in the same second, and have the same name.
    copies = [
        without_stored(folder, tmp_path / f"cut off {k}")
        for k, folder in enumerate(folders)
    ]
    for path in write_report(copies[0], tmp_path / "computed"):
        assert path.read_bytes() == (paths[0] / path.name).read_bytes()
    for folder, copied in zip(folders, copies, strict=True):
        assert said(folder) == said(copied)


def test_a_calibrated_field_is_shown_as_one(calibrated):
    data = read_session(calibrated)
    psfs = data.stored[0].psfs
    # At the centres of 3 × 3 parts of the frame: it varies from row to row.
    assert len(psfs) == 9
    assert psfs[1] == pytest.approx(psfs[0], abs=1e-4 * float(psfs.max()))
    assert np.abs(psfs[6] - psfs[0]).max() > 0.1 * psfs.max()
    figures = dict.fromkeys(("change", "psf", "coefficients", "quality"), "")
    text = page(data, figures, moments(data))
    assert "the centres of 3 × 3 parts" in text
    assert "varies over the frame as calibrated" in text


@pytest.fixture
def folder(closed_session, tmp_path):
    return shutil.copytree(closed_session, tmp_path / closed_session.name)


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\x93NUMPY and no more"),
        lambda path: np.savez(path, about="{}"),
        halve,
    ],
)
def test_what_is_damaged_or_missing_is_computed(folder, spoil):
    profile = json.loads((folder / "session.json").read_text("utf-8"))["profile"]
    assert len(read_stored(folder, profile).moments) == 4
    spoil(folder / FILE)
    assert read_stored(folder, profile) is None


def test_what_does_not_match_is_computed(folder, monkeypatch):
    profile = json.loads((folder / "session.json").read_text("utf-8"))["profile"]
    other = profile | {"optics": profile["optics"] | {"wavelength_nm": 600.0}}
    assert read_stored(folder, other) is None
    # Cut off a row: the end is another, start and worst are not.
    log = folder / "drift.csv"
    log.write_bytes(log.read_bytes()[:-60])
    points = []
    compute = computed.moment

    def moment(family, point):
        points.append(point.name)
        return compute(family, point)

    monkeypatch.setattr(computed, "moment", moment)
    data = read_session(folder)
    moments(data), reference(data)
    assert points == ["worst", "end"]
