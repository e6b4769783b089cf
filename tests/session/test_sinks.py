"""Sinks that fail, block or flood, behind the dispatcher: nothing else is affected."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time

import pytest

from deepblur_live.drift import DriftState
from deepblur_live.session.sinks import (
    ALERT_LOGGER,
    AlertDispatcher,
    CallableSink,
    CommandSink,
    JsonlSink,
    LogSink,
    NoticeKind,
)

PATIENCE = 20.0


class Errors(list):
    """Keeps the errors reported, and can wait for them."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()

    def __call__(self, text: str) -> None:
        with self._changed:
            self.append(text)
            self._changed.notify_all()

    def wait(self, count: int = 1) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self) >= count, PATIENCE), self


@pytest.fixture
def errors() -> Errors:
    return Errors()


def wait_until(true) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def command(*code: str, **options) -> CommandSink:
    return CommandSink([sys.executable, "-c", "\n".join(code)], **options)


def test_a_sink_that_hangs_blocks_neither_the_sender_nor_other_sinks(
    make_notice, errors
):
    free, got = threading.Event(), []
    hanging = CallableSink(lambda notice: free.wait(PATIENCE), "hanging")
    broken = CallableSink(lambda notice: 1 / 0, "broken")
    well = CallableSink(got.append, "well")
    dispatcher = AlertDispatcher([hanging, broken, well], errors, max_waiting=4)
    notices = [make_notice() for _ in range(20)]
    for notice in notices:
        dispatcher.send(notice)
        wait_until(lambda: dispatcher.statistics[2].waiting == 0)
    assert got == notices
    stuck, failing, delivering = dispatcher.statistics
    assert (stuck.delivered, stuck.dropped, stuck.waiting) == (0, 15, 5)
    assert delivering.delivered == 20
    wait_until(lambda: dispatcher.statistics[1].waiting == 0)
    failing = dispatcher.statistics[1]
    assert (failing.delivered, failing.failed) == (0, 20)
    assert failing.last_error == "ZeroDivisionError: division by zero"
    assert "broken: ZeroDivisionError: division by zero" in errors
    assert any("hanging: too many alerts" in error for error in errors)
    dispatcher.close(timeout=0.1)
    assert "hanging: does not return; it is abandoned" in errors
    free.set()
    # What had waited behind it is not delivered after the end.
    wait_until(lambda: dispatcher.statistics[0].waiting == 0)
    assert dispatcher.statistics[0].delivered == 1


def test_a_flood_is_bounded_and_every_notice_accounted_for(make_notice, errors):
    gate = threading.Event()
    sink = CallableSink(lambda notice: gate.wait(PATIENCE), "slow")
    dispatcher = AlertDispatcher([sink], errors)
    notice = make_notice()
    for _ in range(10_000):
        dispatcher.send(notice)
    (now,) = dispatcher.statistics
    assert now.waiting <= 33
    assert now.dropped + now.waiting == 10_000
    gate.set()
    dispatcher.close()
    (now,) = dispatcher.statistics
    assert now.waiting == 0
    assert now.delivered + now.dropped == 10_000


def test_what_waits_is_delivered_before_the_end(make_notice, errors):
    got = []
    dispatcher = AlertDispatcher([CallableSink(got.append)], errors)
    for _ in range(10):
        dispatcher.send(make_notice())
    dispatcher.close()
    assert len(got) == 10
    dispatcher.send(make_notice())
    dispatcher.close()
    assert len(got) == 10
    assert errors == []


def test_a_function_that_raises_system_exit_is_a_failed_delivery(make_notice, errors):
    dispatcher = AlertDispatcher([CallableSink(lambda notice: sys.exit(3))], errors)
    dispatcher.send(make_notice())
    errors.wait()
    dispatcher.send(make_notice())
    wait_until(lambda: dispatcher.statistics[0].failed == 2)
    dispatcher.close()


def test_sinks_are_for_alarms_and_actions_for_their_beginning(
    make_notice, errors, tmp_path
):
    got = []
    kept = JsonlSink(tmp_path / "alarms.jsonl")
    dispatcher = AlertDispatcher([CallableSink(got.append), kept], errors)
    for level in (DriftState.WARN, DriftState.ALARM):
        for kind in NoticeKind:
            dispatcher.send(make_notice(kind, level))
    dispatcher.close()
    assert [notice.kind for notice in got] == [NoticeKind.RAISED]
    lines = [json.loads(line) for line in kept.path.read_text("utf-8").splitlines()]
    events = [line["event"] for line in lines]
    assert events == ["alertRaised", "alertAcknowledged", "alertCleared"]
    assert lines[0]["text"].startswith("rig 3: ALARM: the wavefront has changed")
    assert lines[2]["text"].endswith("cleared: the alarm of 0:01:05.")
    assert lines[0]["alert"]["coefficients"] == ["vertical coma"]
    assert lines[0]["when"] == "2025-03-04T15:07:12+00:00"


def test_a_file_that_cannot_be_written_is_an_error(make_notice, errors, tmp_path):
    path = tmp_path / "alarms.jsonl"
    sink = JsonlSink(path)
    path.unlink()
    path.mkdir()
    dispatcher = AlertDispatcher([sink], errors)
    dispatcher.send(make_notice())
    errors.wait()
    dispatcher.close()
    assert str(path) in errors[0]
    assert dispatcher.statistics[0].failed == 1


def test_the_log_has_a_line_an_alarm(make_notice, caplog):
    with caplog.at_level(logging.INFO, ALERT_LOGGER):
        LogSink().deliver(make_notice())
        LogSink().deliver(make_notice(NoticeKind.CLEARED))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert caplog.records[0].message == make_notice().text


def test_half_a_line_of_a_full_disk_costs_no_other_line(make_notice, tmp_path):
    path = tmp_path / "alarms.jsonl"
    path.write_text('{"whole": 1}\n{"hal', "utf-8")
    sink = JsonlSink(path)
    for _ in range(2):
        sink.deliver(make_notice())
    whole, half, *lines = path.read_text("utf-8").splitlines()
    assert (whole, half) == ('{"whole": 1}', '{"hal')
    assert [json.loads(line) for line in lines] == [make_notice().record()] * 2


def test_a_line_written_in_part_has_failed(make_notice, tmp_path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    sink = JsonlSink(tmp_path / "alarms.jsonl")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))
        with pytest.raises(OSError, match="only a part"):
            sink.deliver(make_notice())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    sink.deliver(make_notice())
    *_, line = sink.path.read_text("utf-8").splitlines()
    assert json.loads(line) == make_notice().record()


def test_a_program_opens_no_console_on_windows(make_notice, monkeypatch):
    flags = []

    def popen(arguments, **options):
        flags.append(options["creationflags"])
        raise OSError("as far as this goes")

    monkeypatch.setattr(subprocess, "CREATE_NO_WINDOW", 0x08000000, raising=False)
    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(OSError, match="as far"):
        command("pass").deliver(make_notice())
    assert flags == [0x08000000]


def test_a_program_gets_the_alert_as_json(make_notice, tmp_path):
    kept = tmp_path / "a folder" / "got.json"
    kept.parent.mkdir()
    sink = command(
        "import sys, pathlib",
        f"pathlib.Path({str(kept)!r}).write_bytes(sys.stdin.buffer.read())",
    )
    sink.deliver(make_notice())
    assert json.loads(kept.read_text("utf-8")) == make_notice().record()


def test_a_program_that_fails_says_why(make_notice):
    sink = command("import sys", "print('a' * 70000)", "sys.exit('no such light')")
    with pytest.raises(OSError, match="ended with code 1: no such light"):
        sink.deliver(make_notice())


def test_a_program_that_sleeps_is_killed(make_notice, tmp_path):
    mark = tmp_path / "woke"
    sink = command(
        "import time, pathlib",
        "time.sleep(60)",
        f"pathlib.Path({str(mark)!r}).touch()",
        timeout_s=0.5,
    )
    with pytest.raises(TimeoutError, match=r"killed after 0\.5 s"):
        sink.deliver(make_notice())
    assert not mark.exists()


def test_a_program_under_way_ends_with_the_session(make_notice, errors, tmp_path):
    began = tmp_path / "began"
    sink = command(
        "import time, pathlib",
        f"pathlib.Path({str(began)!r}).touch()",
        "time.sleep(60)",
    )
    dispatcher = AlertDispatcher([sink], errors)
    dispatcher.send(make_notice())
    dispatcher.send(make_notice())
    wait_until(began.exists)
    dispatcher.close(timeout=0.1)
    (now,) = dispatcher.statistics
    assert (now.failed, now.dropped, now.waiting) == (1, 1, 0)
    assert not any("abandoned" in error for error in errors)
    # It is not reported as a failure of the program.
    assert any("given up: the session has ended" in error for error in errors)


@pytest.mark.skipif(sys.platform == "win32", reason="has no process groups")
def test_what_a_killed_program_has_started_is_killed_too(make_notice, tmp_path):
    beat, child = tmp_path / "beat", tmp_path / "child.py"
    child.write_text(
        "import pathlib, time\n"
        "while True:\n"
        f"    pathlib.Path({str(beat)!r}).write_text(str(time.monotonic()))\n"
        "    time.sleep(0.02)\n"
    )
    sink = command(
        "import pathlib, subprocess, sys",
        f"subprocess.run([sys.executable, {str(child)!r}])",
        timeout_s=3.0,
    )
    with pytest.raises(TimeoutError, match="killed"):
        sink.deliver(make_notice())
    assert beat.exists()
    last = beat.read_text()
    time.sleep(0.3)
    assert beat.read_text() == last


def test_a_file_that_is_not_executable_is_refused(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not a program")
    with pytest.raises(ValueError, match="is not executable"):
        CommandSink([str(text)])


def test_a_program_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="no-such-program: no such program"):
        CommandSink(["no-such-program"])


_CHILD = """
import pathlib, time
here = pathlib.Path({here!r})
while not (here / "end").exists():
    time.sleep(0.02)
(here / "ended").touch()
"""


def test_a_program_whose_child_lives_on_does_not_block_the_sink(make_notice, tmp_path):
    child = tmp_path / "child.py"
    child.write_text(_CHILD.format(here=str(tmp_path)))
    sink = command(
        "import subprocess, sys", f"subprocess.Popen([sys.executable, {str(child)!r}])"
    )
    # The child has our file as its output: a pipe we would read to its end.
    sink.deliver(make_notice())
    assert not (tmp_path / "ended").exists()
    (tmp_path / "end").touch()
    wait_until((tmp_path / "ended").exists)
