"""The option --psf, and profiles with a calibration."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch

from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.blur import family_from_profile
from deepblur_live.profile import Model, Profile, write_profile
from deepblur_live.session import connection
from deepblur_live.session.connection import pipeline_factory

pytestmark = pytest.mark.usefixtures("no_pictures")

FAST = ("--headless", "--in-process")
SIZE = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1}


@pytest.fixture
def psf(tmp_path):
    family = family_from_profile(Profile())
    gamma = torch.tensor([0.06, 0.04, 0.0, 0.05, 0.0, 0.0, 0.0, 0.0])
    image = family.psf(gamma).numpy()
    path = tmp_path / "psf.ome.tif"
    tifffile.imwrite(path, image, ome=True, metadata={"axes": "YX", **SIZE})
    return path


@pytest.fixture
def recording(tmp_path):
    sample = SimulatedSample(shape=(128, 144))
    frames = np.stack([sample.frame(float(k)).pixels for k in range(6)])
    path = tmp_path / "series.ome.tif"
    tifffile.imwrite(path, frames, ome=True, metadata={"axes": "TYX", **SIZE})
    return path


def test_a_recording_is_deblurred_with_a_psf(
    call, session_of, psf, recording, tmp_path, monkeypatch
):
    monkeypatch.setattr(connection, "pipeline_factory", pipeline_factory)
    kept, output = tmp_path / "sharp.ome.tiff", tmp_path / "out"
    options = (*FAST, "--psf", psf, "--output", output, "--save-deblurred", kept)
    ran = call("replay", recording, *options)
    assert ran.exit_code == 0, ran.output
    said = " ".join(ran.stdout.split())
    assert "Blur: fixed PSF psf.ome.tif, plane 1 of 1" in said
    assert "nothing is identified and no drift is followed" in said
    assert "none: a fixed PSF is used" in said
    assert "To write its report" not in said
    folder, about = session_of(output)
    assert about["profile"]["model"]["psf"] == "psf.ome.tif"
    assert about["summary"]["raw_only"] == {}
    assert tifffile.imread(kept).shape == (6, 128, 144)
    ran = call("report", folder)
    assert ran.exit_code == 2
    assert "nothing was identified" in " ".join(ran.output.split())


def test_a_blur_that_does_not_fit_is_refused(call, psf, recording, tmp_path):
    options = (*FAST, "--psf", psf, "--output", tmp_path / "out")
    ran = call("replay", recording, "--pixel-size", 65, *options)
    assert ran.exit_code == 2
    said = " ".join(ran.output.split())
    assert "pixels of 100 nm" in said
    assert "optics.pixel_size_nm = 65" in said
    rig = tmp_path / "rig.toml"
    write_profile(Profile(model=Model(calibration="rig.calib")), rig)
    ran = call("replay", recording, "--profile", rig, *options)
    assert ran.exit_code == 2
    assert "calibration and psf both define the blur" in " ".join(ran.output.split())
    ran = call("replay", recording, "--profile", rig, *options[:-4], *options[-2:])
    assert ran.exit_code == 2
    said = "".join(ran.output.split())
    assert f"{tmp_path / 'rig.calib' / 'manifest.json'}:cannotberead" in said


def test_the_demo_of_a_rig_with_a_psf_simulates_its_optics(
    call, session_of, psf, tmp_path, monkeypatch
):
    monkeypatch.setattr(connection, "pipeline_factory", pipeline_factory)
    write_profile(Profile(model=Model(psf=psf.name)), tmp_path / "rig.toml")
    options = (*FAST, "--seconds", 1, "--output", tmp_path / "out")
    ran = call("demo", "--profile", tmp_path / "rig.toml", *options)
    assert ran.exit_code == 0, ran.output
    _, about = session_of(tmp_path / "out")
    assert about["summary"]["images"]["n"] > 0
