"""What a new user may get wrong, and whether the message says what would be right."""

from __future__ import annotations

import os
import signal
import sys

import numpy as np
import pytest
import tifffile

from deepblur_live.acquisition import DeblurListener, launch
from deepblur_live.acquisition.simulated import SIMULATED_CONFIG
from deepblur_live.cli.cores import MicroscopeError
from deepblur_live.cli.mda import load_sequence
from deepblur_live.runtime.frame import SynchronousPipeline

pytestmark = pytest.mark.usefixtures("no_pictures")

FAST = ("--headless", "--in-process")


def test_a_profile_given_as_configuration(call, tmp_path):
    file = tmp_path / "rig.toml"
    file.write_text("[optics]\npixel_size_nm = 65\n")
    ran = call("run", "--config", file, *FAST, "--output", tmp_path)
    assert ran.exit_code == 2
    assert f"{file}: a TOML file: give a profile as --profile" in ran.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time_pan: {interval: 1, loops: 5}", "time_pan: did you mean time_plan?"),
        ("time_plan: {interval: 1, lops: 5}", "time_plan.lops: did you mean loops?"),
        (
            "channels: [DAPI, {config: FITC, exposre: 5}]",
            "channels.exposre: did you mean exposure?",
        ),
        (
            "stage_positions: [{x: 0, sequence: {z_plan: {rnge: 3, step: 1}}}]",
            "stage_positions.sequence.z_plan.rnge: did you mean range?",
        ),
        ("channels: [DAPI]\nqqqq: 1", "qqqq: known: metadata, axis_order"),
    ],
)
def test_a_misspelt_key_of_an_mda(tmp_path, text, said):
    file = tmp_path / "sequence.yaml"
    file.write_text(text)
    with pytest.raises(MicroscopeError, match="unknown key") as raised:
        load_sequence(file)
    assert f"{file}: unknown key {said}" in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "channels: [DAPI, {config: FITC, group: Channel, exposure: 20}]",
        "z_plan: {above: 2, below: 2, step: 1}\nmetadata: {of: {mine: 1}}",
        "time_plan: {phases: [{interval: 0, loops: 2}, {interval: 1, loops: 2}]}",
        "time_plan: {duration: {seconds: 4}, interval: {milliseconds: 100}}",
        "stage_positions: [{x: 0, y: 0}, {x: 1, sequence: {grid_plan: {rows: 2, "
        "columns: 2, relative_to: center}}}]",
        "stage_positions: {plate: 96-well, a1_center_xy: [0, 0], "
        "selected_wells: [[0, 1], [0, 1]]}",
    ],
)
def test_all_that_useq_knows_is_accepted(tmp_path, text):
    file = tmp_path / "sequence.yaml"
    file.write_text(text)
    assert len(list(load_sequence(file))) > 0


def test_a_profile_in_a_folder_that_is_not_there(call, tmp_path):
    file = tmp_path / "none" / "rig.toml"
    ran = call("profile", file)
    assert ran.exit_code == 2
    assert ran.stderr == f"deepblur-live: {file}: No such file or directory\n"


def test_a_recording_without_pixel_size(call, tmp_path):
    file = tmp_path / "series.tif"
    frames = np.random.default_rng(0).integers(100, 900, (3, 64, 80), np.uint16)
    tifffile.imwrite(file, frames, photometric="minisblack")
    replay = ("replay", file, *FAST, "--output", tmp_path / "out")
    ran = call(*replay)
    assert ran.exit_code == 0, ran.output
    assert f"Note: {file} states no pixel size" in ran.stdout
    assert "assuming 100 nm" in ran.stdout
    assert "give --pixel-size or a --profile" in ran.stdout
    assert "states no pixel size" not in call(*replay, "--pixel-size", 80).stdout


def test_a_recording_that_contradicts_the_profile(call, tmp_path):
    file, rig = tmp_path / "fine.tif", tmp_path / "rig.toml"
    frames = np.random.default_rng(0).integers(0, 99, (1, 64, 64), np.uint16)
    tifffile.imwrite(
        file, frames, imagej=True, resolution=(1 / 0.065,) * 2, metadata={"unit": "um"}
    )
    rig.write_text("[optics]\npixel_size_nm = 100\n", "utf-8")
    replay = ("replay", file, "--profile", rig, *FAST, "--output", tmp_path)
    ran = call(*replay)
    assert ran.exit_code == 2
    assert "states pixels of 65 nm, the profile 100 nm" in ran.stderr
    assert "--pixel-size 100 to confirm" in ran.stderr
    assert "Starting the pipeline" not in ran.stdout


def test_a_microscope_without_pixel_size(call, tmp_path):
    config = tmp_path / "scope.cfg"
    lines = SIMULATED_CONFIG.read_text().splitlines()
    config.write_text("\n".join(x for x in lines if "PixelSize" not in x))
    ran = call("run", "--config", config, *FAST, "--seconds", 1, "--output", tmp_path)
    assert f"Note: {config} states no pixel size" in ran.stdout
    assert "give a --profile" in ran.stdout


class Pipeline(SynchronousPipeline):
    """Is never made."""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals")
def test_a_worker_that_is_killed_at_its_start(monkeypatch):
    start = launch.ProcessWorker.__init__

    def start_and_kill(self, factory):
        start(self, factory)
        os.kill(self.pid, signal.SIGKILL)

    monkeypatch.setattr(launch.ProcessWorker, "__init__", start_and_kill)
    listener = DeblurListener(Pipeline)
    assert not listener.start()
    (error,) = listener.background_errors
    listener.close()
    assert "killed by SIGKILL, as when memory runs out) before it was ready" in error
    # A script without a main guard is not what ended it.
    assert "__main__" not in error
