"""The commands end to end, with a pipeline that answers with the truth."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import tifffile
from rich.console import Console
from typer.testing import CliRunner, Result

from deepblur_live.acquisition import Statistics
from deepblur_live.acquisition.replay import open_replay
from deepblur_live.acquisition.simulated import SIMULATED_CONFIG
from deepblur_live.acquisition.truth import read_truth
from deepblur_live.cli import main, rig, runs
from deepblur_live.cli.commands import app
from deepblur_live.cli.cores import MicroscopeError, core_from_config
from deepblur_live.cli.headless import watch_live, watch_replay
from deepblur_live.cli.progress import progress_text
from deepblur_live.cli.rig import Rig
from deepblur_live.drift import DriftState, DriftStatus, TrackState
from deepblur_live.optics import Estimate
from deepblur_live.profile import Profile, load_profile
from deepblur_live.runtime.frame import Frame, FrameResult, FrameState


class TruthPipeline:
    """Says nearly what the frame's metadata know, or next to nothing."""

    def process(self, frame: Frame) -> FrameResult:
        truth = read_truth(frame.metadata)
        gamma = np.full(7, 0.001) + (0 if truth is None else truth.coefficients)
        covariance = 1e-4 * np.eye(7)
        return FrameResult(
            frame,
            FrameState.DEBLURRED,
            deblurred=frame.pixels.astype(np.float32),
            estimate=Estimate(gamma, covariance, 1.0),
            track=TrackState(frame.time, gamma, covariance, 7.0, True),
        )


@pytest.fixture(autouse=True)
def truth_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig, "pipeline_factory", lambda profile: TruthPipeline)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def only_folder(parent: Path) -> Path:
    (folder,) = (path for path in parent.iterdir() if path.is_dir())
    return folder


def test_the_demo_keeps_its_session_and_tells_how_it_went(tmp_path: Path) -> None:
    ran = call(
        "demo", "--headless", "--seconds", 4, "--in-process", "--output", tmp_path
    )
    assert ran.exit_code == 0, ran.output
    folder = only_folder(tmp_path)
    names = {path.name for path in folder.iterdir()}
    assert {"drift.csv", "drift.png"} <= names
    assert any(name.startswith("frame_") for name in names)
    assert len((folder / "drift.csv").read_text("utf-8").splitlines()) > 10
    assert str(folder) in ran.stdout
    for word in ("captured", "processed", "dropped", "latency", "PSNR", "SSIM"):
        assert word in ran.stdout
    # The fake pipeline knows the truth, which the summary must recognise.
    (about,) = folder.glob("*.json")
    summary = json.loads(about.read_text("utf-8"))["summary"]
    assert summary["psf"]["mean"] > 30
    assert summary["captured"] == summary["processed"] + summary["dropped"]
    assert summary["images"]["n"] > 0


def test_the_demo_with_its_own_pipeline_in_a_worker_process(tmp_path: Path) -> None:
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
    (about,) = only_folder(tmp_path).glob("*.json")
    summary = json.loads(about.read_text("utf-8"))["summary"]
    assert summary["processed"] > 0
    assert summary["raw_only"] == {}
    assert summary["images"]["psnr_deblurred"] > summary["images"]["psnr_raw"]
    assert summary["psf"]["mean"] > summary["psf"]["constant"]


def test_a_configuration_runs(tmp_path: Path) -> None:
    ran = call(
        *("run", "--config", SIMULATED_CONFIG, "--headless", "--seconds", 2),
        *("--in-process", "--output", tmp_path),
    )
    assert ran.exit_code == 0, ran.output
    assert "captured" in ran.stdout


def test_a_configuration_of_compiled_adapters_runs(tmp_path: Path) -> None:
    config = tmp_path / "demo.cfg"
    config.write_text(
        "Property,Core,Initialize,0\nDevice,Cam,DemoCamera,DCam\n"
        "Property,Core,Initialize,1\nProperty,Core,Camera,Cam\n"
    )
    output = tmp_path / "kept"
    ran = call(
        *("run", "--config", config, "--headless", "--seconds", 2),
        *("--in-process", "--output", output),
    )
    assert ran.exit_code == 0, ran.output
    assert (only_folder(output) / "drift.csv").is_file()


def test_a_recording_goes_through_whole(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(100, 900, (12, 64, 80), np.uint16)
    tifffile.imwrite(tmp_path / "series.tif", frames, metadata={"axes": "TYX"})
    output = tmp_path / "kept"
    ran = call(
        *("replay", tmp_path / "series.tif", "--headless", "--in-process"),
        *("--pixel-size", 65, "--output", output),
    )
    assert ran.exit_code == 0, ran.output
    assert "12 frames of 64 × 80, pixels of 65 nm" in ran.stdout
    assert "12 captured, 12 processed, 0 dropped" in ran.stdout
    assert "focal planes" not in ran.stdout


def test_focal_planes_that_are_shown_as_times_are_told(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(100, 900, (2, 3, 64, 80), np.uint16)
    file = tmp_path / "stack.ome.tif"
    tifffile.imwrite(file, frames, metadata={"axes": "TZYX"})
    ran = call("replay", file, "--headless", "--in-process", "--output", tmp_path)
    assert ran.exit_code == 0, ran.output
    assert f"Note: {file}: 3 focal planes (its Z axis) follow each other" in ran.stdout
    assert "6 captured, 6 processed" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["run", "--config", "none.cfg"], ["none.cfg", "No such file"]),
        (["replay", "none.tif"], ["none.tif", "no such file"]),
        (["demo", "--profile", "none.toml"], ["none.toml", "cannot be read"]),
        (["demo", "--profile", "bad.toml"], ["optics.wavelength_nm", "then 540"]),
        (["run", "--config", "adapter.cfg"], ["line 1", "NoSuch", "DemoCamera"]),
        (["run", "--config", "empty.cfg"], ["empty.cfg", "no camera"]),
        (
            ["run", "--config", "coarse.cfg"],
            ["coarse.cfg, no --profile given", "pixel_size_nm 1000", "below 191"],
        ),
        (
            ["replay", "series.tif", "--pixel-size", "5"],
            ["--pixel-size", "from 10 to 2000 nm"],
        ),
    ],
)
def test_an_error_is_one_line_that_names_the_cause(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    parts: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.toml").write_text("[optics]\nwavelength_nm = 0.54\n")
    Path("adapter.cfg").write_text("Device,Cam,NoSuch,DCam\n")
    Path("empty.cfg").write_text("Property,Core,Initialize,1\n")
    Path("coarse.cfg").write_text(
        "Device,Cam,DemoCamera,DCam\nProperty,Core,Initialize,1\n"
        "Property,Core,Camera,Cam\nConfigPixelSize,Res,Core,TimeoutMs,5000\n"
        "PixelSize_um,Res,1\n"
    )
    tifffile.imwrite("series.tif", np.zeros((5, 64, 64), np.uint16))
    ran = call(*arguments, "--headless")
    assert ran.exit_code == 2
    (line,) = ran.stderr.splitlines()
    assert line.startswith("deepblur-live: ")
    for part in parts:
        assert part in line


def test_an_unexpected_error_is_named_and_debug_shows_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(profile: Profile) -> None:
        raise KeyError("weights")

    monkeypatch.setattr(rig, "pipeline_factory", broken)
    ran = call("demo", "--headless", "--output", tmp_path)
    assert ran.exit_code == 2
    assert "KeyError: 'weights'" in ran.stderr
    assert "--debug" in ran.stderr
    ran = call("demo", "--headless", "--debug", "--output", tmp_path)
    assert isinstance(ran.exception, KeyError)


def test_a_pipeline_that_cannot_be_made_ends_the_run_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_weights() -> None:
        raise FileNotFoundError("engines/zernike7: no manifest")

    monkeypatch.setattr(rig, "pipeline_factory", lambda profile: no_weights)
    ran = call("demo", "--headless", "--in-process", "--output", tmp_path)
    assert ran.exit_code == 2
    (line,) = ran.stderr.splitlines()
    assert line.endswith("engines/zernike7: no manifest")
    assert list(tmp_path.iterdir()) == []


def test_a_window_that_cannot_be_had_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for key in ("QT_QPA_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(key, raising=False)
    ran = call("demo", "--window")
    assert ran.exit_code == 2
    assert "no screen" in ran.stderr


def test_a_camera_that_sends_nothing_is_named() -> None:
    core = core_from_config(SIMULATED_CONFIG)
    silent = SimpleNamespace(
        core=SimpleNamespace(
            getCameraDevice=core.getCameraDevice,
            getExposure=lambda: 100.0,
            startContinuousSequenceAcquisition=lambda: None,
        ),
        listener=SimpleNamespace(statistics=Statistics(), events=_Events()),
        session=SimpleNamespace(status=_baselining(), events=_Events()),
    )
    now = iter(np.arange(0.0, 100.0, 4.0))
    with pytest.raises(MicroscopeError, match="camera Camera: no frame in"):
        watch_live(
            cast(Any, silent), Console(quiet=True), None, clock=lambda: next(now)
        )


class _Events:
    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(connect=lambda slot: None, disconnect=lambda slot: None)


def _baselining() -> DriftStatus:
    return DriftStatus(DriftState.BASELINING, n_baseline=3, n_needed=20)


def test_the_progress_line_says_what_counts() -> None:
    statistics = Statistics(
        captured=70, processed=66, dropped=3, in_flight=1, raw_only={"constant": 2}
    )
    said = progress_text(12.3, 75.0, statistics, _baselining())
    assert said == ("12 of 75 s · 66 frames, 3 dropped · 2 raw only · baselining 3/20")
    unarmed = replace(_baselining(), reason="not armed: too alike")
    said = progress_text(12.3, 75.0, statistics, unarmed)
    assert said.endswith(" · baselining 3/20 (not armed: too alike)")
    raw = DriftStatus(DriftState.RAW_ONLY, n_baseline=0, n_needed=20)
    assert progress_text(30.0, None, Statistics(), raw).endswith(" · raw-only")
    drifting = DriftStatus(DriftState.WARN, 20, 20, np.zeros(7), 0.04, 21.6)
    said = progress_text(30.0, None, Statistics(), drifting)
    assert said.endswith("warn, wavefront changed by 22 nm")


def test_a_missing_micromanager_is_no_error_where_none_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pymmcore_plus._discovery.discover_mm", list)
    ran = call(
        *("demo", "--headless", "--seconds", 1, "--in-process", "--output", tmp_path)
    )
    assert ran.exit_code == 0, ran.output
    assert [r for r in caplog.records if r.levelname == "ERROR"] == []


def test_the_profile_command_writes_what_can_be_read(tmp_path: Path) -> None:
    printed = call("profile")
    assert printed.exit_code == 0
    file = tmp_path / "rig.toml"
    assert call("profile", file).exit_code == 0
    assert file.read_text("utf-8") == printed.stdout
    assert load_profile(file) == Profile()
    again = call("profile", file)
    assert again.exit_code == 2
    assert "exists already" in again.stderr


def test_the_doctor_answers() -> None:
    ran = call("doctor")
    assert ran.exit_code == 0, ran.output
    assert "device interface" in ran.stdout.replace("\n", " ")


_ENDINGS = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
]


def test_the_version_is_told() -> None:
    told = call("--version")
    assert told.exit_code == 0
    assert told.stdout == f"deepblur-live {version('deepblur-live')}\n"


_INTERRUPTED = """
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


@pytest.mark.parametrize("module", ["typer", "numpy", "deepblur_live.cli.doctor"])
def test_an_interrupt_while_modules_are_loaded_ends_it_quietly(module: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED.format(module=module)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "")


@pytest.fixture
def signals() -> Iterator[None]:
    """Handlers as a program starts with them, and put back afterwards."""
    before = [signal.signal(number, signal.SIG_DFL) for number in _ENDINGS]
    yield
    for number, handler in zip(_ENDINGS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
def test_the_system_ends_a_run_as_an_interrupt_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["deepblur-live", "--help"])
    ignored, *others = reversed(_ENDINGS)
    signal.signal(ignored, signal.SIG_IGN)  # as nohup does
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert signal.getsignal(ignored) == signal.SIG_IGN
    for number in others:
        assert signal.getsignal(number) is signal.default_int_handler


@pytest.mark.usefixtures("signals")
def test_a_console_without_a_character_shows_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = io.BytesIO()
    console = io.TextIOWrapper(written, encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", console)
    monkeypatch.setattr(sys, "argv", ["deepblur-live", "profile"])
    with pytest.raises(SystemExit):
        main()
    print("raw → deblurred", file=console, flush=True)
    assert written.getvalue().endswith(b"raw ? deblurred" + os.linesep.encode())


_SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import test_cli
from deepblur_live.cli import main, rig
rig.pipeline_factory = lambda profile: test_cli.TruthPipeline
sys.argv = ["deepblur-live", "demo", "--in-process", "--output", {output!r}, *{more!r}]
if __name__ == "__main__":
    main()
"""


def demo_process(output: Path, *more: str, before: str = "") -> subprocess.Popen[str]:
    tests = str(Path(__file__).parent)
    script = before + _SCRIPT.format(tests=tests, output=str(output), more=more)
    environment = {"OMP_NUM_THREADS": "1", "QT_QPA_PLATFORM": "offscreen"}
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


class Slow(TruthPipeline):
    """Takes its time, and never ends with the frame of number `last`."""

    last = -1

    def process(self, frame: Frame) -> FrameResult:
        time.sleep(0.1)
        while frame.number == self.last:
            time.sleep(0.01)
        return super().process(frame)


def replayed(folder: Path, clock: Callable[[Rig], float], stalled_s: float) -> Rig:
    stack = np.random.default_rng(0).integers(0, 999, (12, 64, 64)).astype(np.uint16)
    tifffile.imwrite(folder / "series.tif", stack)
    console = Console(file=io.StringIO(), width=200)
    with open_replay(folder / "series.tif") as source:
        with Rig(Profile(), folder, every_frame=True, in_process=True) as running:
            watch_replay(
                running,
                console,
                source,
                clock=lambda: clock(running),
                stalled_s=stalled_s,
            )
    return running


def test_a_recording_is_followed_to_its_last_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig, "pipeline_factory", lambda profile: Slow)
    monkeypatch.setattr(rig, "_DRAIN_S", 0.01)
    # A second by this clock for each frame: the whole takes long, and never stalls.
    running = replayed(tmp_path, lambda rig: rig.listener.statistics.processed, 1.5)
    assert running.summary is not None
    assert (running.summary.processed, running.summary.dropped) == (12, 0)


def test_a_recording_that_stands_still_ends_and_counts_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig, "pipeline_factory", lambda profile: Slow)
    monkeypatch.setattr(rig, "_DRAIN_S", 0.01)
    monkeypatch.setattr(Slow, "last", 8)
    closed: list[Rig] = []
    monkeypatch.setattr(Rig, "__exit__", _ended(Rig.__exit__, closed))
    hung: list[float] = []

    def clock(running: Rig) -> float:
        # It begins to go when all but the last are answered.
        if running.listener.statistics.processed < 8:
            return 0.0
        hung.append(time.monotonic())
        return hung[-1] - hung[0]

    with pytest.raises(RuntimeError, match="last 4 of the recording's 12 are lost"):
        replayed(tmp_path, clock, 0.5)
    summary = closed[0].summary
    assert summary is not None
    assert (summary.captured, summary.processed, summary.dropped) == (12, 8, 4)


def _ended(leave: Any, closed: list[Rig]) -> Any:
    def ended(running: Rig, *error: Any) -> None:
        # The thread that hangs goes on, and its frame counts as lost.
        threading.Timer(2.0, setattr, (Slow, "last", -1)).start()
        leave(running, *error)
        closed.append(running)

    return ended


def test_the_demo_without_a_qt_binding(tmp_path: Path) -> None:
    none = 'import sys; sys.modules |= dict.fromkeys(["PyQt6", "PySide6", "PyQt5"])'
    process = demo_process(tmp_path, "--headless", "--seconds", "2", before=f"{none}\n")
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")
    assert "captured" in out


def test_the_demo_in_the_window_ends_well(tmp_path: Path) -> None:
    # In a process of its own: pytest-qt's application would hide that ours is missing.
    process = demo_process(tmp_path, "--window", "--seconds", "3")
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "captured" in out
    assert (only_folder(tmp_path) / "drift.csv").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to another process")
@pytest.mark.parametrize("shown", ["--window", "--headless"])
def test_an_interrupt_ends_a_run_with_its_session(tmp_path: Path, shown: str) -> None:
    process = demo_process(tmp_path, shown)
    try:
        deadline = time.monotonic() + 60
        while not _has_rows(tmp_path, 5):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert ("Interrupted" in out) == (shown == "--headless")
    assert "captured" in out
    assert (only_folder(tmp_path) / "drift.png").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes close otherwise")
def test_a_closed_pipe_does_not_end_a_run(tmp_path: Path) -> None:
    process = demo_process(tmp_path, "--headless", "--seconds", "2")
    assert process.stdout is not None and process.stderr is not None
    try:
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(timeout=60) == 0, err
    finally:
        process.kill()
        process.stderr.close()
    assert err == ""
    about = json.loads((only_folder(tmp_path) / "session.json").read_text("utf-8"))
    assert about["state"] == "finished"


def test_a_window_without_a_frame_is_no_error(tmp_path: Path) -> None:
    options = runs.Options(Console(quiet=True), tmp_path, window=True, in_process=True)
    with runs._session(options, Profile()):
        pass  # opened, looked at, closed
    with (
        pytest.raises(RuntimeError, match="no frame came through"),
        runs._session(replace(options, window=False), Profile()),
    ):
        pass


def test_what_came_through_before_an_error_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(3):
        frame = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
        tifffile.imwrite(folder / f"img{index}.tif", frame)
    damaged = folder / "img2.tif"
    damaged.write_bytes(damaged.read_bytes()[:100])
    output = tmp_path / "kept"
    ran = call("replay", folder, "--headless", "--in-process", "--output", output)
    assert ran.exit_code == 2
    assert "img2.tif" in ran.stderr
    assert "2 captured, 2 processed" in ran.stdout
    assert str(only_folder(output)) in ran.stdout


def _has_rows(output: Path, count: int) -> bool:
    logs = list(output.glob("*/drift.csv"))
    return bool(logs) and len(logs[0].read_text("utf-8").splitlines()) > count
