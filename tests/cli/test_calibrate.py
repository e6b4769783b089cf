"""The command calibrate: from files to a folder or a PSF."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from typer.testing import CliRunner

import deepblur_live as dbl
from deepblur_live.acquisition import open_series
from deepblur_live.acquisition.series import SeriesError
from deepblur_live.calibration import (
    CalibrationError,
    calibrate,
    load_calibration,
    modes,
)
from deepblur_live.cli.commands import app
from deepblur_live.profile import Optics, Profile, write_profile
from deepblur_live.session import calibrate_files as command
from deepblur_live.session.calibrate_files import file_optics

sys.path.append(str(Path(__file__).parents[1] / "calibration"))

from stack_slides import PROFILE, Z_UM, simulated_slide

_OME = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
<Instrument ID="Instrument:0"><Objective ID="Objective:0" LensNA="1.3"/>
<Objective ID="Objective:1" LensNA="1.41"/></Instrument>
<Image ID="Image:0"><ObjectiveSettings ID="Objective:1" RefractiveIndex="1.515"/>
<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="8" SizeY="8"
SizeZ="3" SizeC="1" SizeT="1" PhysicalSizeX="0.1" PhysicalSizeY="0.1"
PhysicalSizeZ="250" PhysicalSizeZUnit="nm">
<Channel ID="Channel:0:0" EmissionWavelength="540"/>
<TiffData IFD="0" PlaneCount="3"/></Pixels></Image></OME>"""


@pytest.fixture
def full(tmp_path):
    """A stack whose metadata say everything."""
    path = tmp_path / "full.ome.tif"
    planes = np.zeros((3, 8, 8), np.uint16)
    options = {"photometric": "minisblack", "metadata": None}
    tifffile.imwrite(path, planes, description=_OME, **options)
    return path


@pytest.fixture(scope="module")
def beads(tmp_path_factory):
    """The upper half of a simulated slide, and its profile."""
    folder = tmp_path_factory.mktemp("slide")
    path = folder / "beads.ome.tif"
    metadata = {"axes": "ZYX", "PhysicalSizeZ": Z_UM[1] - Z_UM[0]}
    tifffile.imwrite(path, simulated_slide()[0][:, :95], ome=True, metadata=metadata)
    write_profile(PROFILE, folder / "rig.toml")
    return path, folder / "rig.toml"


@pytest.fixture
def few_modes(monkeypatch):
    monkeypatch.setattr(modes, "_LAST_MODES", (11,))
    monkeypatch.setattr(calibrate, "_FOR_APERTURE", 2)


@pytest.fixture(scope="module")
def calibrated(beads):
    """What the fit of the slide gives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modes, "_LAST_MODES", (11,))
        patch.setattr(calibrate, "_FOR_APERTURE", 2)
        z_um = [k * (Z_UM[1] - Z_UM[0]) for k in range(len(Z_UM))]
        return calibrate.calibrate_stack(tifffile.imread(beads[0]), z_um, PROFILE, 100)


@pytest.fixture
def fitted(calibrated, monkeypatch):
    """The fit takes no time; what it was given."""
    given = []

    def fit(frames, z_um, profile, diameter_nm, progress, noll):
        given.append((len(frames), z_um, diameter_nm, torch.get_num_threads()))
        progress("finding beads", 0.0)
        progress("done", 1.0)
        return calibrated

    monkeypatch.setattr(command, "calibrate_stack", fit)
    return given


def invoke(*arguments):
    return CliRunner().invoke(app, ["calibrate", *map(str, arguments)])


def test_the_optics_of_a_file_are_used(full):
    with open_series(full) as series:
        rig = file_optics(series, None)
        assert series.z_step_um == pytest.approx(0.25)
    optics = rig.optics
    assert (optics.numerical_aperture, optics.refractive_index) == (1.41, 1.515)
    assert optics.wavelength_nm == pytest.approx(540)
    assert optics.pixel_size_nm == pytest.approx(100)


def test_optics_that_contradict_the_profile_are_refused(full):
    profile = Profile(optics=Optics(numerical_aperture=1.3))
    with (
        open_series(full) as series,
        pytest.raises(CalibrationError, match=r"1\.41.*1\.3"),
    ):
        file_optics(series, profile)


def test_missing_optics_are_asked_for_by_name(beads):
    with open_series(beads[0]) as series:
        with pytest.raises(
            CalibrationError, match=r"numerical_aperture.*pixel_size_nm"
        ):
            file_optics(series, None)
        # A default that nobody chose is no answer.
        with pytest.raises(CalibrationError, match="wavelength_nm"):
            file_optics(series, Profile(optics=Optics(numerical_aperture=1.3)))


@pytest.fixture
def no_fit(monkeypatch):
    # What is refused must be refused before it.
    monkeypatch.setattr(command, "calibrate_stack", lambda *_: pytest.fail("fitted"))


def test_a_folder_is_written_and_a_bad_file_left_out(beads, tmp_path, few_modes):
    stack, rig = tmp_path / "beads.ome.tif", tmp_path / "rig.toml"
    other = tmp_path / "other.ome.tif"
    for path, pixel_um in ((stack, 0.1), (other, 0.08)):
        metadata = {"axes": "ZYX", "PhysicalSizeZ": Z_UM[1] - Z_UM[0]}
        metadata |= {"PhysicalSizeX": pixel_um, "PhysicalSizeY": pixel_um}
        tifffile.imwrite(path, tifffile.imread(beads[0]), ome=True, metadata=metadata)
    # Each file has its own pixel size, and the profile sets none.
    lines = beads[1].read_text("utf-8").splitlines()
    text = "\n".join(x for x in lines if not x.startswith("pixel_size_nm"))
    rig.write_text(text, "utf-8")
    bad = tmp_path / "bad.tif"
    bad.write_bytes(b"II*\0nothing")
    target = tmp_path / "rig.calib"
    done = invoke(bad, stack, other, "--profile", rig, "--bead", 100, "-o", target)
    assert done.exit_code == 0, done.output
    output = " ".join(done.output.split())
    assert output.count("Left out") == 2
    assert "has pixel_size_nm 80, but the first file 100" in output
    assert "6 used" in done.output
    # Where there is no terminal, progress is printed line by line.
    assert "fitting beads: 4 of" in done.output
    saved = load_calibration(target, PROFILE.optics)
    assert [state.file for state in saved.manifest.states] == ["beads.ome.tif"]
    names = {"report.html", "beads.csv", "psf.ome.tif", "mean_bead.ome.tif"}
    assert names < {path.name for path in target.iterdir()}
    assert names - {"report.html"} < saved.manifest.files.keys()
    json.loads((target / "manifest.json").read_text("utf-8"))
    again = invoke(stack, "--profile", rig, "--bead", 100, "-o", target)
    assert again.exit_code == 2
    assert "exists already" in again.output


def test_the_python_function_is_the_command(beads, tmp_path, fitted, monkeypatch):
    monkeypatch.chdir(tmp_path)
    steps, said, threads = [], [], torch.get_num_threads()
    bad = tmp_path / "bad.tif"
    bad.write_bytes(b"II*\0nothing")
    made = dbl.calibrate_files(
        [bad, beads[0]],
        beads[1],
        bead_nm=100,
        progress=lambda text, share: steps.append((text, share)),
        on_message=said.append,
    )
    assert made.path == Path("bad.calib")
    assert len(made.calibrations) == 1
    assert len(made.left_out) == 1 and "bad.tif" in made.left_out[0]
    assert said[0] == f"Left out: {made.left_out[0]}"
    assert "6 used" in said[1] and said[-1].endswith("the report")
    # Of several files each remark names its own.
    assert any(line.startswith("Note: beads.ome.tif: Only 6") for line in said)
    assert steps[0][0].startswith(f"{beads[0]}: finding beads")
    assert steps[-1][1] == 1
    assert load_calibration(made.path).manifest.noll == list(range(5, 12))
    [(planes, z_um, diameter_nm, during)] = fitted
    assert (planes, diameter_nm, during) == (7, 100, 1)
    assert z_um[1] == pytest.approx(0.25)
    assert torch.get_num_threads() == threads
    with pytest.raises(ValueError, match="no stack"):
        dbl.calibrate_files([], bead_nm=100)


def test_no_file_ends_the_run_or_counts_twice(beads, tmp_path, fitted, monkeypatch):
    monkeypatch.chdir(tmp_path)
    days = [tmp_path / day / "beads.ome.tif" for day in ("monday", "tuesday", "copy")]
    for number, path in enumerate(days):
        path.parent.mkdir()
        content = beads[0].read_bytes()
        path.write_bytes(content + b"\0" if number == 1 else content)
    fit = command.calibrate_stack

    def fails_at_second(*arguments):
        if len(fitted) == 1:
            fitted.append(None)
            raise RuntimeError("no memory")
        return fit(*arguments)

    monkeypatch.setattr(command, "calibrate_stack", fails_at_second)
    said = []
    made = dbl.calibrate_files(
        [*days, days[1]],
        beads[1],
        bead_nm=100,
        output="rig.calib",
        on_message=said.append,
    )
    assert made.left_out == (
        f"{days[1]}: no memory",
        f"{days[2]}: is the same recording as monday/beads.ome.tif",
    )
    # Files of the same name are named with their folders.
    names = ["monday/beads.ome.tif", "tuesday/beads.ome.tif"]
    manifest = load_calibration(made.path).manifest
    assert [state.file for state in manifest.states] == names
    assert any(line.startswith(f"Note: {names[1]}: Only 6") for line in said)
    page = (made.path / "report.html").read_text("utf-8")
    assert all(state.sha256 in page for state in manifest.states)


def test_a_psf_alone(beads, tmp_path, fitted):
    target = tmp_path / "psf.ome.tif"
    done = invoke(
        beads[0], "--profile", beads[1], "--bead", 100, "--single", "-o", target
    )
    assert done.exit_code == 0, done.output
    with open_series(target) as series:
        assert len(series) == 7
        assert series.z_step_um == pytest.approx(0.25)
        assert series.pixel_size_nm == pytest.approx(100)
    two = invoke(beads[0], beads[0], "--bead", 100, "--single")
    assert two.exit_code == 2
    assert "made from one stack" in two.output


def test_an_output_is_checked_before_the_fit(beads, tmp_path, no_fit):
    there = tmp_path / "there.tif"
    there.write_bytes(b"mine")
    (tmp_path / "folder.tif").mkdir()
    for output, single, reason in (
        (there / "rig.calib", (), "cannot be used for the calibration"),
        (there / "psf.tif", ("--single",), "cannot be used for the calibration"),
        (there, ("--single",), "exists already"),
        (tmp_path / "folder.tif", ("--single",), "exists already"),
        (tmp_path / "psf.png", ("--single",), "end its name in .ome.tif"),
    ):
        options = ("--profile", beads[1], "--bead", 100, "-o", output)
        done = invoke(beads[0], *options, *single)
        assert done.exit_code != 0
        assert reason in " ".join(done.output.split())
    assert there.read_bytes() == b"mine"


def test_a_distance_of_planes_that_contradicts_the_file_is_refused(full, no_fit):
    done = invoke(full, "--bead", 100, "--z-step=300nm")
    assert done.exit_code == 2
    assert "250 nm apart, but 300 nm are given" in " ".join(done.output.split())
    with open_series(full) as series:
        # The file does not say which way the planes go.
        assert command._z_step_um(series, -0.251) == -0.251
        assert command._z_step_um(series, None) == pytest.approx(0.25)


def test_planes_that_cannot_be_read_keep_their_place(full):
    class Broken:
        planes, path = 3, full

        def __getitem__(self, k):
            if k == 1:
                raise SeriesError("plane 1 is damaged")
            return np.full((8, 8), k)

    left_out = []
    frames, z_um = command._planes(Broken(), 0.25, left_out.append)
    assert [str(error) for error in left_out] == ["plane 1 is damaged"]
    assert z_um == [0.0, 0.25, 0.5]
    assert np.isnan(frames[1]).all()
    assert (frames[2] == 2).all()


def test_the_distance_of_planes_is_asked_for(beads, tmp_path):
    plain = tmp_path / "plain.tif"
    tifffile.imwrite(plain, tifffile.imread(beads[0]), photometric="minisblack")
    done = invoke(plain, "--profile", beads[1], "--bead", 100)
    assert done.exit_code == 2
    assert "--z-step" in done.output
