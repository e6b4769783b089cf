"""Wrong optics do not go unnoticed: assumed, contradicted, confirmed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from deepblur_live.acquisition.simulated import simulated_core
from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.profile import Optics, Profile
from deepblur_live.session import LiveSession
from deepblur_live.session.stated_optics import assumed_optics, same_pixel_size
from deepblur_live.session.verification import VerificationState

pytestmark = pytest.mark.usefixtures("no_pictures")

STATED = Profile(
    optics=Optics(numerical_aperture=1.4, wavelength_nm=540.0, pixel_size_nm=100.0)
)


@pytest.fixture
def session(family, listener, tmp_path, now):
    session = LiveSession(STATED, family, listener, tmp_path, now=now)
    yield session
    session.close()


def events(session):
    session.flush()
    text = (session.folder / "events.jsonl").read_text("utf-8")
    return [json.loads(line)["event"] for line in text.splitlines()]


def test_optics_that_are_not_stated_are_named(family, listener, tmp_path, caplog):
    assert assumed_optics(STATED) == ""
    assert same_pixel_size(101, 100) and not same_pixel_size(103, 100)
    session = LiveSession(Profile(), family, listener, tmp_path)
    session.close()
    assert "NA 1.41, emission 540 nm, pixel size 100 nm" in session.optics.assumed
    assert "not stated in the profile" in caplog.text
    about = json.loads((session.folder / "session.json").read_text("utf-8"))
    assert about["optics"] == session.optics.assumed


def test_a_contradiction_remains_until_it_is_confirmed(session, listener, results):
    listener.emit(results(pixel_size_nm=100.5))
    assert not session.optics.contradiction
    for _ in range(3):
        listener.emit(results(pixel_size_nm=65.0))
    reason = "the microscope states pixels of 65 nm, the profile 100 nm"
    assert session.optics.contradiction == reason
    verification = session.verification
    assert verification.state is VerificationState.WRONG_OPTICS
    assert verification.reason == reason
    assert events(session).count("opticsContradicted") == 1
    session.optics.confirm()
    listener.emit(results(pixel_size_nm=65.0))
    assert not session.optics.contradiction
    assert session.verification.state is VerificationState.NOT_VERIFIED
    assert "opticsConfirmed" in events(session)
    # Another size, an objective, is another contradiction.
    listener.emit(results(pixel_size_nm=162.0))
    assert "162 nm" in session.optics.contradiction


def test_an_objective_without_a_pixel_size_is_another_contradiction(
    session, listener, results
):
    listener.emit(results(pixel_size_nm=100.0))
    for _ in range(2):  # the first is that of another specimen
        listener.emit(results(pixel_size_nm=0.0))
    assert "no longer states a pixel size" in session.optics.contradiction
    assert session.verification.state is VerificationState.WRONG_OPTICS
    session.optics.confirm()
    listener.emit(results(pixel_size_nm=0.0))
    assert not session.optics.contradiction


def test_a_contradiction_ends_with_its_cause(session, listener, results):
    listener.emit(results(pixel_size_nm=200.0))
    assert session.optics.contradiction
    listener.emit(results(pixel_size_nm=100.0))
    assert not session.optics.contradiction
    assert session.verification.state is VerificationState.NOT_VERIFIED
    assert "opticsAgree" in events(session)


def test_the_summary_and_the_pictures_of_a_session_say_it(session, listener, results):
    for size in (65.0, 65.0, 65.0):
        listener.emit(results(pixel_size_nm=size))
    session.close()
    assert "Optics   the microscope states pixels of 65 nm" in session.summary.text()
    assert {one.pixel_size_nm for one in session._intake.samples.items} == {None}


def test_a_change_of_specimen_does_not_settle_it(session, listener, results):
    listener.emit(results(pixel_size_nm=200.0))
    session.specimen_changed("moved")
    for _ in range(2):
        listener.emit(results(pixel_size_nm=200.0))
    assert session.verification.state is VerificationState.WRONG_OPTICS


def test_frames_of_a_core_carry_its_pixel_size(make_listener):
    core = simulated_core(SimulatedSample(shape=(64, 64), pixel_size_nm=80.0))
    seen = []
    listener = make_listener()
    with listener, listener.attached(core):
        listener.events.resultReady.connect(lambda r: seen.append(r.frame.metadata))
        core.snap()
        assert listener.drain(20)
    assert np.isclose(seen[0]["pixel_size_nm"], 80.0)


@pytest.fixture
def make_listener():
    from truth_pipeline import TruthPipeline

    from deepblur_live.acquisition import DeblurListener

    return lambda: DeblurListener(TruthPipeline, in_process=True)


def test_a_confirmation_holds_for_all_series(session, listener, results, start):
    for position in (0, 1, 0, 1):
        listener.emit(results(start, index={"p": position}, pixel_size_nm=65.0))
    session.optics.confirm()
    states = [session.series_history(key).verification.state for key in session.series]
    assert states == [VerificationState.NOT_VERIFIED] * 2
