"""Sessions with a calibration, or with a fixed PSF."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from deepblur_live.calibration.rig import rig_family
from deepblur_live.drift import DriftState, TrackState
from deepblur_live.profile import check_profile
from deepblur_live.runtime.frame import FrameResult, FrameState
from deepblur_live.session import LiveSession
from deepblur_live.session.report import ReportError, write_report
from deepblur_live.session.report.calibrated import calibration_note
from deepblur_live.session.report.moments import moments, reference
from deepblur_live.session.report.page import page
from deepblur_live.session.report.read import read_session

sys.path.append(str(Path(__file__).parents[1] / "calibration"))

from stack_slides import PROFILE
from written_calibration import write_calibration

DRIFT = {"batch_s": 2, "reference": "calibration", "false_alarm_hours": 2}
STATE = np.array([0.04, -0.06, 0.05, 0.03, -0.02, 0.02, 0.0])


def a_profile(drift=(), **model):
    content = PROFILE.model_dump()
    content["model"] |= {key: str(value) for key, value in model.items()}
    content["drift"] |= dict(drift)
    return check_profile(content, "test")


@pytest.fixture
def calibrated(tmp_path, listener, results):
    """Ten seconds at a state 54 nm from that of the calibration, and defocused."""
    trend = np.stack([STATE, np.zeros(7), np.zeros(7)])
    folder = write_calibration(tmp_path / "rig.calib", [trend])
    (folder / "report.html").write_text("of the calibration")
    profile = a_profile(DRIFT, calibration=folder)
    family = rig_family(profile)
    session = LiveSession(profile, family, listener, tmp_path / "sessions")
    change = np.zeros(8)
    # Defocus and spherical come first.
    change[:3] = 0.2, 0.1, 0.1
    for _ in range(10):
        listener.emit(results(change))
    return session


def test_the_first_minutes_are_compared_with_the_calibration(calibrated):
    status = calibrated.status
    assert status.state is DriftState.ALARM
    assert status.change == pytest.approx(0.1, abs=0.002)
    assert status.n_needed == 1
    (alert,) = calibrated.alerts
    assert "differs by 54 nm" in alert.text.replace("54 ± 1 nm", "54 nm")
    assert alert.coefficients == ("oblique astigmatism",)


def test_the_report_needs_no_other_folder(calibrated, tmp_path):
    folder = calibrated.close().folder
    shutil.rmtree(tmp_path / "rig.calib")
    about = json.loads((folder / "session.json").read_text("utf-8"))
    # Paths of folders hold the names of people.
    assert about["profile"]["model"]["calibration"] == "rig.calib"
    assert not (folder / "rig.calib" / "report.html").exists()
    data = read_session(folder)
    assert reference(data).point.name == "mean of the calibration"
    note = calibration_note(data, moments(data))
    assert "Distance from it (without defocus, spherical): start 54 ± 1 nm" in note
    assert "is expected within 40 nm" in note
    figures = dict.fromkeys(("change", "psf", "coefficients", "quality"), "")
    assert note in page(data, figures, moments(data))
    started = json.loads((folder / "events.jsonl").read_text("utf-8").splitlines()[0])
    assert started["blur"].startswith("learned from 1 state: ")


def test_without_the_key_a_baseline_is_measured(tmp_path, listener, results):
    folder = write_calibration(tmp_path / "rig.calib", [np.zeros((3, 7))])
    profile = a_profile(calibration=folder)
    session = LiveSession(profile, rig_family(profile), listener)
    listener.emit(results(np.zeros(8)))
    assert session.status.state is DriftState.BASELINING
    assert session.status.baseline is None
    session.close()


@pytest.fixture
def fixed(tmp_path, listener, results):
    psf = np.zeros((15, 15), np.float32)
    psf[6:9, 6:9] = 1 / 9
    path = tmp_path / "psf.ome.tif"
    metadata = {"axes": "YX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1}
    tifffile.imwrite(path, psf, ome=True, metadata=metadata)
    profile = a_profile(psf=path)
    session = LiveSession(profile, rig_family(profile), listener, tmp_path / "sessions")
    none = np.zeros(0)
    for k in range(3):
        frame = results(identified=False)
        track = TrackState(float(k), none, np.zeros((0, 0)), np.nan, False)
        listener.emit(
            FrameResult(
                frame.info,
                FrameState.DEBLURRED,
                raw=frame.raw,
                deblurred=frame.deblurred,
                track=track,
                psf=psf,
            )
        )
    return session


def test_with_a_fixed_psf_no_drift_is_claimed(fixed):
    assert fixed.status.state is DriftState.NOT_FOLLOWED
    assert "fixed PSF" in fixed.status.reason
    fixed.rebaseline()
    assert fixed.status.state is DriftState.NOT_FOLLOWED
    summary = fixed.close()
    assert list(fixed.background_errors) == []
    assert "Alerts   none: a fixed PSF is used: changes" in summary.text()
    folder = summary.folder
    assert (folder / "psf.ome.tif").is_file()
    assert not (folder / "drift.png").exists()
    assert (folder / "frame_000000.png").is_file()
    rows = (folder / "drift.csv").read_text("utf-8").splitlines()
    assert "not followed" in rows[1]
    with pytest.raises(ReportError, match=r"fixed PSF: nothing was identified"):
        write_report(folder)


def test_a_copy_that_fails_does_not_end_the_session(fixed, tmp_path, listener):
    fixed.close()
    (tmp_path / "psf.ome.tif").unlink()
    folder = tmp_path / "sessions"
    session = LiveSession(fixed.profile, fixed.family, listener, folder)
    listener.events.errorRaised.emit("the blur is outside")
    session.close()
    events = (session.folder / "events.jsonl").read_text("utf-8")
    # What the pipeline tells the user is in the log, too.
    assert '"event": "note"' in events
    assert "the blur is outside" in events
    assert any("cannot be copied" in error for error in session.background_errors)
