"""A session's verification: its signal, its event, its column and its note."""

from __future__ import annotations

import csv
import json
import threading

from deepblur_live.drift import DriftState
from deepblur_live.profile import Profile
from deepblur_live.session import LiveSession
from deepblur_live.session.record import SessionRecord
from deepblur_live.session.report import write_report
from deepblur_live.session.verification import NOT_VERIFIED, VerificationState

REASON = "the focus sweep at 12:03 measured defocus +0.100 waves rms, frames say +0.020"


def test_a_contradiction_is_told_everywhere_and_ends_with_the_specimen(
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


def test_a_report_says_that_nothing_was_verified(closed_session, tmp_path):
    page = write_report(closed_session, tmp_path)[0].read_text("utf-8")
    assert NOT_VERIFIED.text in page
