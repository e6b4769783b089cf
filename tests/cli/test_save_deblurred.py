"""`--save-deblurred` of run and replay, and outputs that cannot be written."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import tifffile

from deepblur_live.acquisition import open_series
from deepblur_live.acquisition.simulated import SIMULATED_CONFIG
from deepblur_live.runtime.frame import FrameResult, FrameState, SynchronousPipeline

pytestmark = pytest.mark.usefixtures("no_pictures")

FAST = ("--headless", "--in-process")


@pytest.fixture
def stack(tmp_path):
    frames = np.random.default_rng(0).integers(100, 900, (12, 64, 80), np.uint16)
    file = tmp_path / "series.tif"
    tifffile.imwrite(file, frames, metadata={"axes": "TYX"})
    return file, frames


@pytest.mark.parametrize("kind", ["ome.zarr", "ome.tiff"])
def test_every_frame_of_a_replay_is_kept(call, stack, tmp_path, kind):
    file, frames = stack
    kept = tmp_path / f"kept.{kind}"
    ran = call(
        *("replay", file, *FAST, "--pixel-size", 65, "--output", tmp_path / "out"),
        *("--save-deblurred", kept),
    )
    assert ran.exit_code == 0, ran.output
    assert f"the raw frames are in {file}" in ran.stdout
    assert f"12 deblurred frames in {kept}" in ran.stdout
    assert not list(tmp_path.glob("kept_raw*"))
    with open_series(kept) as series:
        # The pipeline of these tests returns the frame itself.
        np.testing.assert_array_equal([image for image, _ in series], frames)
        assert series.pixel_size_nm == pytest.approx(65)
        # The recording has no times, and is given none.
        assert series.interval_s is None


def test_a_run_keeps_the_raw_frames_beside(call, session_of, tmp_path):
    kept, output = tmp_path / "new" / "kept.ome.zarr", tmp_path / "out"
    run = ("run", "--config", SIMULATED_CONFIG, *FAST, "--seconds", 2)
    ran = call(*run, "--output", output, "--save-deblurred", kept)
    assert ran.exit_code == 0, ran.output
    assert "the raw frames are next to them" in ran.stdout
    series, raw = open_series(kept), open_series(tmp_path / "new/kept_raw.ome.zarr")
    _, about = session_of(output)
    (counts,) = about["summary"]["recordings"]
    assert counts["written"] == len(series) == len(raw) > 0
    assert counts["dropped"] == counts["lost"] == 0
    assert series.dtype == np.float32
    assert raw.dtype == np.uint16


@pytest.fixture
def no_pipeline(monkeypatch):
    """Fail if a pipeline or a microscope is started."""

    def refuse(*_, **__):
        raise AssertionError("started")

    monkeypatch.setattr("deepblur_live.session.live.Connection", refuse)
    monkeypatch.setattr("deepblur_live.cli.run.core_from_config", refuse)


@pytest.mark.parametrize("command", ["demo", "run", "replay"])
def test_an_unusable_output_folder_is_reported_at_once(
    call, stack, tmp_path, command, no_pipeline
):
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    more = {"demo": (), "run": ("--config", SIMULATED_CONFIG), "replay": (stack[0],)}
    ran = call(command, *more[command], *FAST, "--output", in_the_way / "sessions")
    assert ran.exit_code == 2
    assert f"{in_the_way / 'sessions'}: cannot be used for --output" in ran.stderr
    assert "it is a file, or inside one" in ran.stderr
    assert "Starting the pipeline" not in ran.stdout


@pytest.mark.parametrize(
    ("option", "name", "said"),
    [
        ("--save-deblurred", "kept.tif", "must end in .ome.zarr or .ome.tiff"),
        ("--save-deblurred", "series.tif/kept.ome.zarr", "it is a file, or inside one"),
        ("--save-deblurred", "there.ome.zarr", "exists already: give another name"),
        ("--save", "series.tif/raw.ome.zarr", "it is a file, or inside one"),
        ("--save", "there.ome.zarr", "exists already: give another name"),
    ],
)
def test_files_are_checked_before_the_microscope_starts(
    call, stack, tmp_path, option, name, said, no_pipeline
):
    (tmp_path / "there.ome.zarr").mkdir()
    sequence = tmp_path / "sequence.json"
    sequence.write_text(json.dumps({"time_plan": {"interval": 0.1, "loops": 2}}))
    ran = call(
        *("run", "--config", SIMULATED_CONFIG, *FAST, "--mda", sequence),
        *("--output", tmp_path / "out", option, tmp_path / name),
    )
    assert ran.exit_code == 2
    assert said in ran.stderr
    assert name.partition("/")[0] in ran.stderr


def test_raw_and_deblurred_frames_need_two_files(
    call, tmp_path, no_pipeline, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    sequence = tmp_path / "sequence.json"
    sequence.write_text(json.dumps({"time_plan": {"interval": 0.1, "loops": 2}}))
    ran = call(
        *("run", "--config", SIMULATED_CONFIG, *FAST, "--mda", sequence),
        *("--output", tmp_path / "out", "--save", "kept.ome.zarr"),
        *("--save-deblurred", tmp_path / "kept.ome.zarr"),
    )
    assert ran.exit_code == 2
    assert "kept.ome.zarr: given for the raw frames (--save)" in ran.stderr
    assert "give two different files" in ran.stderr


class SlowPipeline(SynchronousPipeline):
    """Takes longer for a frame than the camera."""

    def process(self, frame):
        time.sleep(0.4)
        image = frame.pixels.astype(np.float32)
        state = FrameState.DEBLURRED
        return FrameResult(frame.info, state, raw=frame.pixels, deblurred=image)


def test_every_frame_of_an_mda_is_deblurred_after_it_too(
    call, pipeline, session_of, tmp_path
):
    pipeline(SlowPipeline)
    sequence = tmp_path / "sequence.json"
    positions = [{"x": 0, "y": 0}, {"x": 10, "y": 0}]
    plan = {"interval": 0, "loops": 6}
    sequence.write_text(json.dumps({"stage_positions": positions, "time_plan": plan}))
    kept = tmp_path / "kept.ome.zarr"
    ran = call(
        *("run", "--config", SIMULATED_CONFIG, *FAST, "--mda", sequence),
        *("--output", tmp_path / "out", "--every-frame", "--save-deblurred", kept),
    )
    assert ran.exit_code == 0, ran.output
    assert "frames still waiting; Ctrl-C drops the rest" in ran.stdout
    assert "12 captured, 12 processed, 0 dropped" in ran.stdout
    assert f"12 deblurred frames in {kept}" in ran.stdout
    assert len(open_series(kept)) == len(open_series(tmp_path / "kept_raw.ome.zarr"))
