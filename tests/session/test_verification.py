"""A session's verification: its signal, its event, its column and its note."""

from __future__ import annotations

import csv
import json
import threading

import pytest

from deepblur_live.drift import DriftState
from deepblur_live.profile import Drift, Profile
from deepblur_live.session import LiveSession
from deepblur_live.session.record import SessionRecord
from deepblur_live.session.report import write_report
from deepblur_live.session.verification import (
    NOT_VERIFIED,
    CurrentVerification,
    Verification,
    VerificationState,
)

REASON = (
    "the focus sweep at 12:03 measured defocus +0.100 waves rms, but the frames give "
    "+0.020"
)


def test_a_contradiction_is_reported_everywhere_and_ends_with_the_specimen(
    family, listener, results, now, tmp_path, monkeypatch
):
    monkeypatch.setattr(SessionRecord, "_pictures", lambda record, samples: ())
    session = LiveSession(Profile(), family, listener, tmp_path, now=now)
    told = []
    session.events.verificationChanged.connect(told.append)
    assert session.verification is NOT_VERIFIED
    listener.emit(results())
    # Any thread may set it.
    thread = threading.Thread(
        target=session.set_verification,
        args=(VerificationState.CONTRADICTED, REASON),
    )
    thread.start()
    thread.join()
    assert session.status.state is DriftState.BASELINING
    assert session.status.reason == f"not reliable on this specimen: {REASON}"
    listener.emit(results())
    session.set_verification(VerificationState.CONTRADICTED, REASON)
    session.specimen_changed("another slide")
    listener.emit(results())
    assert session.verification.text == NOT_VERIFIED.text
    assert session.status.reason != REASON
    # Told once each.
    assert [one.state for one in told] == [
        VerificationState.CONTRADICTED,
        VerificationState.NOT_VERIFIED,
    ]
    session.close()
    with (session.folder / "drift.csv").open(encoding="utf-8", newline="") as file:
        column = [row["verification"] for row in csv.DictReader(file)]
    assert column == ["not verified", "contradicted", "not verified"]
    lines = (session.folder / "events.jsonl").read_text("utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    changes = [e for e in events if e["event"] == "verificationChanged"]
    assert [(e["state"], e["reason"]) for e in changes] == [
        ("contradicted", REASON),
        ("not verified", NOT_VERIFIED.reason),
    ]
    page = write_report(session.folder)[0].read_text("utf-8")
    assert f"not reliable on this specimen: {REASON}" in page


def test_no_alarm_stays_from_estimates_that_are_contradicted(
    family, listener, results, start, quick_monitor
):
    profile = Profile(drift=Drift(baseline_points=5))
    session = LiveSession(profile, family, listener)
    cleared = []
    session.events.alertCleared.connect(lambda: cleared.append(True))
    for off in (0.0, 0.1):
        for _ in range(8):
            listener.emit(results(start + off))
    assert session.alerts
    assert session.status.state is DriftState.ALARM
    session.set_verification(VerificationState.CONTRADICTED, REASON)
    # On which an MDA that the alarm has paused goes on.
    assert cleared == [True]
    assert session.status.state is DriftState.BASELINING
    session.close()


def made(text):
    return Verification(VerificationState.CONTRADICTED, text)


def test_what_is_applied_last_is_the_value_whichever_thread_reports():
    applied, reported = [], []
    in_slot, go_on = threading.Event(), threading.Event()

    def report(verification):
        reported.append(verification.reason)
        if len(reported) == 1:
            in_slot.set()
            assert go_on.wait(10)

    current = CurrentVerification(lambda v: applied.append(v.reason), report)

    def set_to(text):
        current.set(made(text))
        current.report_changes()

    slow = threading.Thread(target=set_to, args=("one",))
    slow.start()
    assert in_slot.wait(10)
    # Does not wait for the slot, and takes effect at once.
    for text in ("two", "two", "three"):
        set_to(text)
    assert applied == ["one", "two", "three"]
    assert current.value.reason == "three"
    assert reported == ["one"]
    go_on.set()
    slow.join(10)
    assert reported == applied


def test_a_report_that_fails_does_not_keep_the_next_back():
    reported = []

    def report(verification):
        reported.append(verification.reason)
        if len(reported) == 1:
            raise OSError("disk full")

    current = CurrentVerification(lambda v: None, report)
    current.set(made("one"))
    with pytest.raises(OSError, match="disk full"):
        current.report_changes()
    current.set(made("two"))
    current.report_changes()
    assert reported == ["one", "two"]


def test_a_report_says_that_nothing_was_verified(closed_session, tmp_path):
    page = write_report(closed_session, tmp_path)[0].read_text("utf-8")
    assert NOT_VERIFIED.text in page
