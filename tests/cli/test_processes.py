"""The program as a process: how it starts, and the ways in which it can end."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deepblur_live.cli import main

SIGNALS = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
]
DEMO = """
import sys
sys.path.insert(0, {tests!r})
from conftest import TruthPipeline
from deepblur_live.cli import main
from deepblur_live.session import connection
connection.pipeline_factory = lambda profile: TruthPipeline
sys.argv = ["deepblur-live", "demo", "--in-process", "--output", {output!r}, *{more!r}]
if __name__ == "__main__":
    main()
"""
NO_QT = """
import sys
sys.modules |= dict.fromkeys(["PyQt6", "PySide6", "PyQt5"])
"""
INTERRUPTED = """
import sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == {module!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
sys.argv = ["deepblur-live", "doctor"]
from deepblur_live.cli import main
main()
"""


def demo_process(output: Path, *more: str, before: str = "") -> subprocess.Popen[str]:
    tests = str(Path(__file__).parent)
    script = before + DEMO.format(tests=tests, output=str(output), more=more)
    environment = {"OMP_NUM_THREADS": "1", "QT_QPA_PLATFORM": "offscreen"}
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def test_the_demo_with_its_own_pipeline_in_a_worker_process(session_of, tmp_path):
    options = ("--headless", "--seconds", "8", "--output", str(tmp_path))
    ran = subprocess.run(
        [sys.executable, "-m", "deepblur_live", "demo", *options],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=110,
        env=os.environ | {"PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    summary = session_of(tmp_path)[1]["summary"]
    assert summary["processed"] > 0
    assert summary["raw_only"] == {}
    assert summary["images"]["psnr_deblurred"] > summary["images"]["psnr_raw"]
    assert summary["psf"]["mean"] > summary["psf"]["constant"]


def test_the_demo_in_the_window_ends_well(session_of, tmp_path):
    # In its own process: the application of pytest-qt would hide that ours is missing.
    process = demo_process(tmp_path, "--window", "--seconds", "2")
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "captured" in out
    assert (session_of(tmp_path)[0] / "drift.csv").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to another process")
@pytest.mark.parametrize(
    ("shown", "before"),
    [("--window", ""), pytest.param("--headless", NO_QT, marks=pytest.mark.slow)],
)
def test_an_interrupt_ends_a_run_with_its_session(session_of, tmp_path, shown, before):
    """Without a window no Qt binding is needed, either."""
    process = demo_process(tmp_path, shown, before=before)
    try:
        deadline = time.monotonic() + 60
        while not has_rows(tmp_path, 5):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert shown == "--window" or err == ""
    assert ("Interrupted" in out) == (shown == "--headless")
    assert "captured" in out
    assert (session_of(tmp_path)[0] / "drift.png").is_file()


def has_rows(output: Path, count: int) -> bool:
    logs = list(output.glob("*/drift.csv"))
    return bool(logs) and len(logs[0].read_text("utf-8").splitlines()) > count


@pytest.mark.skipif(sys.platform == "win32", reason="pipes close otherwise")
@pytest.mark.slow
def test_a_closed_pipe_does_not_end_a_run(session_of, tmp_path):
    process = demo_process(tmp_path, "--headless", "--seconds", "1")
    assert process.stdout is not None and process.stderr is not None
    try:
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(timeout=60) == 0, err
    finally:
        process.kill()
        process.stderr.close()
    assert err == ""
    assert session_of(tmp_path)[1]["state"] == "finished"


@pytest.mark.parametrize("module", ["typer", "numpy", "deepblur_live.cli.doctor"])
def test_an_interrupt_during_the_imports_ends_it_quietly(module):
    ran = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(module=module)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "")


@pytest.fixture
def signals():
    """Signal handlers as at the start of a program; restored afterwards."""
    before = [signal.signal(number, signal.SIG_DFL) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
def test_the_system_ends_a_run_as_an_interrupt_does(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["deepblur-live", "--help"])
    ignored, *others = reversed(SIGNALS)
    signal.signal(ignored, signal.SIG_IGN)  # as nohup does
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert signal.getsignal(ignored) == signal.SIG_IGN
    for number in others:
        assert signal.getsignal(number) is signal.default_int_handler


@pytest.mark.usefixtures("signals")
def test_a_console_without_a_character_shows_another(monkeypatch):
    written = io.BytesIO()
    console = io.TextIOWrapper(written, encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", console)
    monkeypatch.setattr(sys, "argv", ["deepblur-live", "profile"])
    with pytest.raises(SystemExit):
        main()
    print("raw → deblurred", file=console, flush=True)
    assert written.getvalue().endswith(b"raw ? deblurred" + os.linesep.encode())
