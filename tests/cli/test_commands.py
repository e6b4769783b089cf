"""The commands in this process, each to its end."""

from __future__ import annotations

import sys
from importlib.metadata import version

import numpy as np
import pytest
import tifffile

from deepblur_live.acquisition.simulated import SIMULATED_CONFIG
from deepblur_live.profile import Profile, load_profile
from deepblur_live.session import connection

FAST = ("--headless", "--in-process")


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(100, 900, (12, 64, 80), np.uint16)


def test_the_demo_writes_its_session_and_a_summary(call, session_of, tmp_path):
    ran = call("demo", *FAST, "--seconds", 8, "--output", tmp_path)
    assert ran.exit_code == 0, ran.output
    folder, about = session_of(tmp_path)
    names = {path.name for path in folder.iterdir()}
    assert {"drift.csv", "drift.png"} <= names
    assert any(name.startswith("frame_") for name in names)
    assert len((folder / "drift.csv").read_text("utf-8").splitlines()) > 10
    assert str(folder) in ran.stdout
    for word in ("captured", "processed", "dropped", "latency", "PSNR", "SSIM"):
        assert word in ran.stdout
    # The pipeline knows the truth, which the summary must recognise.
    summary = about["summary"]
    assert summary["psf"]["mean"] > 30
    assert summary["captured"] == summary["processed"] + summary["dropped"]
    assert summary["images"]["n"] > 0


@pytest.mark.usefixtures("no_pictures")
def test_a_configuration_runs(call, tmp_path):
    run = ("run", "--config", SIMULATED_CONFIG, *FAST, "--seconds", 2)
    ran = call(*run, "--output", tmp_path)
    assert ran.exit_code == 0, ran.output
    assert "captured" in ran.stdout


@pytest.mark.usefixtures("no_pictures")
def test_a_configuration_of_compiled_adapters_runs(call, session_of, tmp_path):
    config = tmp_path / "demo.cfg"
    config.write_text(
        "Property,Core,Initialize,0\nDevice,Cam,DemoCamera,DCam\n"
        "Property,Core,Initialize,1\nProperty,Core,Camera,Cam\n"
    )
    output = tmp_path / "kept"
    ran = call("run", "--config", config, *FAST, "--seconds", 2, "--output", output)
    assert ran.exit_code == 0, ran.output
    assert (session_of(output)[0] / "drift.csv").is_file()


@pytest.mark.usefixtures("no_pictures")
def test_every_frame_of_a_recording_is_processed(call, frames, tmp_path):
    file = tmp_path / "series.tif"
    tifffile.imwrite(file, frames, metadata={"axes": "TYX"})
    ran = call("replay", file, *FAST, "--pixel-size", 65, "--output", tmp_path)
    assert ran.exit_code == 0, ran.output
    assert "12 frames of 64 rows × 80 columns, pixels of 65 nm" in ran.stdout
    assert "12 captured, 12 processed, 0 dropped" in ran.stdout
    assert "focal planes" not in ran.stdout


@pytest.mark.usefixtures("no_pictures")
def test_focal_planes_that_are_treated_as_times_are_reported(call, frames, tmp_path):
    file = tmp_path / "stack.ome.tif"
    tifffile.imwrite(file, frames[:6].reshape(2, 3, 64, 80), metadata={"axes": "TZYX"})
    ran = call("replay", file, *FAST, "--output", tmp_path)
    assert ran.exit_code == 0, ran.output
    assert f"Note: {file}: 3 focal planes (its Z axis) are treated as" in ran.stdout
    assert "6 captured, 6 processed" in ran.stdout


@pytest.mark.usefixtures("no_pictures")
def test_what_was_processed_before_an_error_is_reported(call, session_of, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(3):
        frame = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
        tifffile.imwrite(folder / f"img{index}.tif", frame)
    damaged = folder / "img2.tif"
    damaged.write_bytes(damaged.read_bytes()[:100])
    output = tmp_path / "kept"
    ran = call("replay", folder, *FAST, "--output", output)
    assert ran.exit_code == 2
    assert "img2.tif" in ran.stderr
    assert "2 captured, 2 processed" in ran.stdout
    assert str(session_of(output)[0]) in ran.stdout


@pytest.mark.usefixtures("no_pictures")
def test_the_demo_needs_no_micromanager(call, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("pymmcore_plus._discovery.discover_mm", list)
    ran = call("demo", *FAST, "--seconds", 1, "--output", tmp_path)
    assert ran.exit_code == 0, ran.output
    assert [r for r in caplog.records if r.levelname == "ERROR"] == []


def test_the_profile_command_writes_what_can_be_read(call, tmp_path):
    printed = call("profile")
    assert printed.exit_code == 0
    file = tmp_path / "rig.toml"
    assert call("profile", file).exit_code == 0
    assert file.read_text("utf-8") == printed.stdout
    assert load_profile(file) == Profile()
    again = call("profile", file)
    assert again.exit_code == 2
    assert "exists already" in again.stderr


def test_the_doctor_runs(call):
    ran = call("doctor")
    assert ran.exit_code == 0, ran.output
    assert "device interface" in ran.stdout.replace("\n", " ")


def test_the_version_is_shown(call):
    shown = call("--version")
    assert shown.exit_code == 0
    assert shown.stdout == f"deepblur-live {version('deepblur-live')}\n"


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
    call, tmp_path, monkeypatch, arguments, parts
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text("[optics]\nwavelength_nm = 0.54\n")
    (tmp_path / "adapter.cfg").write_text("Device,Cam,NoSuch,DCam\n")
    (tmp_path / "empty.cfg").write_text("Property,Core,Initialize,1\n")
    (tmp_path / "coarse.cfg").write_text(
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


def test_an_unexpected_error_is_named_and_debug_shows_it(call, tmp_path, monkeypatch):
    def broken(profile: Profile) -> None:
        raise KeyError("weights")

    demo = ("demo", "--headless", "--output", tmp_path)
    monkeypatch.setattr(connection, "pipeline_factory", broken)
    ran = call(*demo)
    assert ran.exit_code == 2
    assert "KeyError: 'weights'" in ran.stderr
    assert "--debug" in ran.stderr
    ran = call(*demo, "--debug")
    assert isinstance(ran.exception, KeyError)


def test_a_pipeline_that_cannot_be_made_ends_the_run_with_its_reason(
    call, pipeline, tmp_path
):
    def no_weights() -> None:
        raise FileNotFoundError("engines/zernike7: no manifest")

    pipeline(no_weights)
    ran = call("demo", *FAST, "--output", tmp_path)
    assert ran.exit_code == 2
    (line,) = ran.stderr.splitlines()
    assert line.endswith("engines/zernike7: no manifest")
    assert list(tmp_path.iterdir()) == []


def test_a_window_that_cannot_be_opened_is_refused(call, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for key in ("QT_QPA_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(key, raising=False)
    ran = call("demo", "--window")
    assert ran.exit_code == 2
    assert "no screen" in ran.stderr
