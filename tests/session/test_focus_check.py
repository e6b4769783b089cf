"""The check of the estimate in a session: the drive returns, live mode continues."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from deepblur_live.acquisition.simulated import simulated_core
from deepblur_live.acquisition.simulated_sample import SimulatedSample, StageDrift
from deepblur_live.acquisition.specimen import load_specimen
from deepblur_live.acquisition.trajectory import AberrationTrajectory
from deepblur_live.blur import Estimate, family_from_profile, focus_direction
from deepblur_live.identification import CheckVerdict, SweepError, identifier
from deepblur_live.profile import Profile
from deepblur_live.runtime import focus_check
from deepblur_live.runtime.focus_check import check_frames
from deepblur_live.runtime.frame import FrameResult, FrameState, SynchronousPipeline
from deepblur_live.session import LiveSession, connection
from deepblur_live.session.check_report import check_text
from deepblur_live.session.focus_check import check_session
from deepblur_live.session.verification import VerificationState

pytestmark = pytest.mark.usefixtures("no_pictures")

PROFILE = Profile()
FAMILY = family_from_profile(PROFILE)
PER_UM = focus_direction(FAMILY)
HERE = np.array([0.02, 0.03, -0.04, 0.02, 0.03, -0.02, 0.02, 0.02])
STEPS = np.array([0.0, 0.3, -0.3, 0.0])


class Echo(SynchronousPipeline):
    """Identifies nothing."""

    def process(self, frame):
        return FrameResult(
            frame.info, FrameState.RAW_ONLY, "not identified", raw=frame.pixels
        )


@pytest.fixture(scope="module")
def sample():
    return SimulatedSample(
        load_specimen(),
        shape=(256, 256),
        family=FAMILY,
        trajectory=AberrationTrajectory(tuple(HERE)),
        stage=StageDrift(0.0),
    )


@pytest.fixture
def session(monkeypatch, tmp_path, sample):
    monkeypatch.setattr(connection, "pipeline_factory", lambda profile: Echo)
    core = simulated_core(sample, exposure_ms=20.0)
    with LiveSession.from_profile(PROFILE, core, tmp_path, in_process=True) as session:
        yield session
    core.unloadAllDevices()


def give(monkeypatch, slope, sigma=0.01):
    """Replace the identification by estimates that follow the focus with a slope."""

    def estimates(profile, frames):
        for number, z in enumerate(STEPS, 1):
            gamma = HERE + slope * z * PER_UM
            yield number / 4, Estimate(gamma, sigma**2 * np.eye(8), 0.5)

    monkeypatch.setattr(focus_check, "_estimates", estimates)


def events(session):
    assert session.flush()
    lines = (session.folder / "events.jsonl").read_text("utf-8").splitlines()
    return {e["event"]: e for e in map(json.loads, lines)}


def test_the_shipped_identification_follows_the_focus(sample, monkeypatch):
    # A narrow search: its breadth is a matter of the evaluation.
    narrow = identifier.WIDE._replace(tried=10, kept=2, hops=2, phase_starts=1)
    monkeypatch.setattr(identifier, "WIDE", narrow)
    shares, threads = [], torch.get_num_threads()
    frames = [sample.frame(0.001 * k, z_um=z).pixels for k, z in enumerate(STEPS)]
    family, check = check_frames(PROFILE, frames, STEPS, shares.append)
    assert check.verdict is CheckVerdict.FOLLOWS, check.reason
    assert check.z_um == pytest.approx(STEPS)
    assert shares == [0.25, 0.5, 0.75, 1.0]
    assert torch.get_num_threads() == threads
    lines = check_text(family, check, "here")
    assert lines[0].startswith("The estimate follows the stage: the stage moved by 300")
    distances = [float(line.split("nm: ")[1].split(" ±")[0]) for line in lines[2:6]]
    truth = [abs(1000 * HERE[0] / PER_UM[0] + 1000 * z) for z in STEPS]
    assert distances == pytest.approx(truth, abs=100)


def test_the_drive_returns_and_the_estimates_are_verified(session, monkeypatch):
    give(monkeypatch, 0.95)
    core = session.core
    core.startContinuousSequenceAcquisition()
    check = check_session(session, 0.3)
    assert core.isSequenceRunning() and core.getPosition() == 0.0
    assert check.verdict is CheckVerdict.FOLLOWS
    verification = session.verification
    assert verification.state is VerificationState.VERIFIED
    assert verification.reason.startswith("a step of the focus drive at")
    logged = events(session)
    assert logged["estimateChecked"]["verdict"] == "follows the stage"
    assert logged["estimateChecked"]["slope"] == pytest.approx(0.95, abs=1e-6)
    assert logged["verificationChanged"]["state"] == "verified"


def test_estimates_that_do_not_follow_are_contradicted(session, monkeypatch):
    give(monkeypatch, 0.1)
    check = check_session(session, 0.3)
    assert check.verdict is CheckVerdict.NOT_RELIABLE
    verification = session.verification
    assert verification.state is VerificationState.CONTRADICTED
    assert "the stage moved by 300 nm, the estimates by 30" in verification.reason


def test_an_undecided_check_leaves_the_verification(session, monkeypatch):
    before = session.verification
    give(monkeypatch, 1.0, sigma=0.1)
    assert check_session(session, 0.3).verdict is CheckVerdict.UNDECIDED
    assert session.verification is before
    logged = events(session)
    assert logged["estimateChecked"]["verdict"] == "undecided"
    assert "verificationChanged" not in logged


def test_another_specimen_is_not_judged(session, monkeypatch):
    """The verdict comes some seconds after the frames, and is of theirs."""
    give(monkeypatch, 0.95)

    def change(share):
        if share == 0.5:
            session.monitor.specimen_changed("the stage has moved")

    check = check_session(session, 0.3, change)
    assert check.verdict is CheckVerdict.UNDECIDED
    assert check.reason.startswith("the specimen has changed; on the")
    assert session.verification.state is VerificationState.NOT_VERIFIED
    assert events(session)["estimateChecked"]["verdict"] == "undecided"


def test_nothing_is_judged_after_a_failure(session, monkeypatch):
    core = session.core
    core.startContinuousSequenceAcquisition()
    before = session.verification

    def fail():
        raise RuntimeError("camera unplugged")

    monkeypatch.setattr(core, "snapImage", fail)
    with pytest.raises(RuntimeError, match="unplugged"):
        check_session(session, 0.3)
    assert core.isSequenceRunning() and core.getPosition() == 0.0
    assert session.verification is before


@pytest.mark.parametrize(
    ("factor", "reason"), [(0.0, "does not move"), (-1.0, "wrong way")]
)
def test_a_stage_that_does_not_follow_is_named(session, monkeypatch, factor, reason):
    core = session.core
    right = core.setPosition
    monkeypatch.setattr(core, "setPosition", lambda label, z: right(label, factor * z))
    with pytest.raises(SweepError, match=reason):
        check_session(session, 0.3)
    assert session.verification.state is VerificationState.NOT_VERIFIED


def test_frames_that_do_not_change_are_no_check(sample):
    frames = [sample.frame(0.001 * k).pixels for k in range(4)]
    with pytest.raises(SweepError, match="the focus has not moved"):
        check_frames(PROFILE, frames, STEPS)


def test_a_drift_between_the_first_and_the_last_frame_is_noticed(sample, monkeypatch):
    give(monkeypatch, 0.0)
    for drift, verdict in ((0.0, "not reliable"), (0.3, "undecided")):
        places = [*STEPS[:3], drift]
        frames = [sample.frame(0.0, z_um=z).pixels for z in places]
        _, check = check_frames(PROFILE, frames, STEPS)
        assert verdict in check.verdict


def test_planes_too_close_to_tell_are_refused(sample):
    frames = [sample.frame(0.0, z_um=z / 10).pixels for z in STEPS]
    with pytest.raises(SweepError, match="nm apart"):
        check_frames(PROFILE, frames, STEPS / 10)
