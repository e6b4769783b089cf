"""From a simulated slide to a calibration, its files and its report."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch
from stack_slides import MODES, PROFILE, Z_UM, simulated_slide, truth_at

from deepblur_live.blur.psf_family import PsfFamily
from deepblur_live.calibration import (
    BeadState,
    CalibrationError,
    Source,
    calibrate_stack,
    calibrated_psf,
    fit,
    load_calibration,
    modes,
    save_calibration,
    write_mean_bead,
    write_psf,
)
from deepblur_live.calibration.detect import cut_out
from deepblur_live.calibration.fit import ToFit, start_of
from deepblur_live.calibration.held_out import Bead
from deepblur_live.calibration.neighbours import Crop
from deepblur_live.calibration.registered import MeanBead
from deepblur_live.calibration.rig import rig_family
from deepblur_live.calibration.slide_fits import with_noise
from deepblur_live.calibration.verdict import advice
from deepblur_live.optics import psf_snr
from deepblur_live.profile import Optics, check_profile
from deepblur_live.session.calibration_report import write_calibration_report

NM = PROFILE.optics.wavelength_nm


@pytest.fixture(scope="module")
def slide():
    return simulated_slide()


@pytest.fixture(scope="module")
def calibration(slide):
    return calibrate_stack(list(slide[0]), Z_UM, PROFILE, 100.0, noll=MODES)


@pytest.fixture(scope="module")
def folder(calibration, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "rig.calib"
    save_calibration(
        folder, [(Source("beads.tif"), calibration)], "rig", "2025-01-01T00:00", "test"
    )
    return folder


def test_isolated_beads_and_two_neighbours_are_used_and_others_refused(
    calibration, slide
):
    used = np.array([(bead.found.row, bead.found.column) for bead in calibration.used])
    usable = np.concatenate(slide[1:])
    distance = np.linalg.norm(used[:, None] - usable[None], axis=2)
    assert (distance.min(1) < 2).all()
    assert len(used) == len(usable)
    counts = calibration.counts()
    assert counts[BeadState.TOGETHER] == len(slide[2])
    assert counts[BeadState.EDGE] == 1
    assert counts[BeadState.SATURATED] == 1
    assert counts[BeadState.OVERLAP] == 1


def test_the_field_is_measured(calibration):
    for row in (30.0, 140.0):
        found = calibration.trend.at(np.array([row, 80.0]))
        assert NM * np.linalg.norm(found - truth_at(row)) < 2.0
        value = calibration.field.at(np.array([row, 80.0]))
        assert NM * np.linalg.norm(value.mean - truth_at(row)) < 2.5
        assert NM * np.linalg.norm(value.sigma) < 2.5
    assert calibration.blur == pytest.approx(0.5, abs=0.05)
    assert calibration.aperture.value == pytest.approx(1.41, abs=0.02)
    # The beads' own shot noise is 17 to 19 dB below them.
    assert calibration.held_out.pupil_db > 16
    assert not any(item.redo for item in advice(calibration))


def test_stated_errors_are_those_of_single_beads(calibration):
    off = [
        (bead.fit.coefficients - truth_at(bead.found.row)) / bead.fit.sigma
        for bead in calibration.used
    ]
    assert 0.7 < np.sqrt(np.mean(np.square(off))) < 1.4


def test_a_falling_drive_and_a_bad_plane(slide):
    planes = [plane[:95].astype(float) for plane in slide[0][::-1]]
    planes[0][5, 5] = np.nan
    one = calibrate_stack(planes, Z_UM[::-1], PROFILE, 100.0, noll=MODES)
    assert one.stack.numbers == (1, 2, 3, 4, 5, 6)
    assert any("counted from 0): 0." in item.text for item in advice(one))
    off = one.trend.terms[0] - truth_at(45.0)
    assert NM * np.linalg.norm(off) < 2.0


def test_what_is_no_calibration_is_reported(slide):
    with pytest.raises(CalibrationError, match="needs at least 3"):
        calibrate_stack(list(slide[0][:2]), Z_UM[:2], PROFILE, 100.0)
    with pytest.raises(CalibrationError, match="constant"):
        calibrate_stack([np.zeros((200, 200))] * 7, Z_UM, PROFILE, 100.0)
    empty = np.random.default_rng(0).poisson(20.0, (7, 120, 120))
    with pytest.raises(CalibrationError, match="no beads were found near focus"):
        calibrate_stack(list(empty), Z_UM, PROFILE, 100.0)


def test_a_wrong_pupil_is_not_hidden_by_the_residual(calibration):
    judged = calibration.held_out._replace(pupil_db=8.3, total_db=18.0)
    found = advice(replace(calibration, held_out=judged))
    assert [item.redo for item in found].count(True) == 1
    assert "8.3 dB" in found[0].text
    for name in ("z step", "NA", "index", "wavelength", "pixel size"):
        assert name in found[0].text


def test_a_part_of_the_frame_without_beads_is_reported(calibration):
    assert not any("too far from any bead" in item.text for item in advice(calibration))
    taller = replace(calibration.trend, shape=(400, 170))
    found = advice(replace(calibration, trend=taller))
    (said,) = (one.text for one in found if "too far from any bead" in one.text)
    # Beads reach to row 155 of 400; a little beyond, the trend still tells.
    assert 25 < int(said.partition("%")[0]) < 65


def failing(monkeypatch, fails):
    """Let the fits of batches raise for which `fails(crop, fit_blur, model)`."""
    of_batch = fit._fitted

    def raises(model, crops, noise, fit_blur, *others):
        if any(fails(one.crop, fit_blur, model) for one in crops):
            raise ValueError("singular")
        return of_batch(model, crops, noise, fit_blur, *others)

    monkeypatch.setattr(fit, "_fitted", raises)


def test_a_bead_that_fails_does_not_end_the_measurement_of_noise(
    calibration, monkeypatch
):
    stack = replace(calibration.stack, calibrated=False)
    crops = [
        Crop(cut_out(stack.light, bead.found, calibration.model.side))
        for bead in calibration.used[:3]
    ]
    expected = with_noise(calibration.model, stack, crops[1:]).noise.gain
    failing(monkeypatch, lambda crop, *_: crop is crops[0].light)
    found = with_noise(calibration.model, stack, crops).noise.gain
    # In another batch the rounding differs.
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_bead_that_fails_is_left_out_with_a_reason(calibration, slide, monkeypatch):
    """In the first fit, in the one with the shared Gaussian, and with another NA."""
    first, shared, aperture = calibration.used[:3]
    crops = [
        cut_out(calibration.stack.light, bead.found, calibration.model.side)
        for bead in (first, shared, aperture)
    ]

    def fails(crop, fit_blur, model):
        which = [torch.equal(crop, one) for one in crops]
        refit = not fit_blur
        other = model.optics != PROFILE.optics
        return which[0] or (which[1] and refit) or (which[2] and other)

    failing(monkeypatch, fails)
    one = calibrate_stack(list(slide[0]), Z_UM, PROFILE, 100.0, noll=MODES)
    states = {(b.found.row, b.found.column): b.found.state for b in one.beads}
    for bead, state in (
        (first, BeadState.FAILED),
        (shared, BeadState.FAILED),
        (aperture, BeadState.USED),
    ):
        assert states[bead.found.row, bead.found.column] is state
    assert len(one.used) == len(calibration.used) - 2
    assert one.held_out.pupil_db == pytest.approx(calibration.held_out.pupil_db, abs=1)
    assert one.aperture.n_beads == 2


def test_a_bead_that_cannot_be_fitted_with_more_modes_is_left_out(
    calibration, monkeypatch
):
    model, stack = replace(calibration.model, noll=(5, 6, 7)), calibration.stack
    some = [bead.found for bead in calibration.used[:8]]
    crops = [cut_out(stack.light, found, model.side) for found in some]
    starts = [ToFit(crop, start_of(model, crop)) for crop in crops]
    fits = fit.fit_beads(model, starts, stack.noise)
    beads = {
        k: Bead(crops[k], (some[k].row, some[k].column), one)
        for k, one in enumerate(fits)
    }
    monkeypatch.setattr(modes, "_LAST_MODES", (7, 11))
    failing(
        monkeypatch, lambda crop, _, model: crop is crops[3] and model.noll == MODES
    )
    chosen, kept, tried = modes.choose_modes(
        model, stack.noise, beads, calibration.trend.shape, lambda *_: None
    )
    assert chosen.noll == MODES
    assert [last for last, _ in tried] == [7, 11]
    assert list(kept) == [0, 1, 2, 4, 5, 6, 7]


def test_files_are_read_back(folder, calibration):
    saved = load_calibration(folder, PROFILE.optics)
    assert np.array_equal(saved.tensors["0.trend"], calibration.trend.terms)
    assert saved.manifest.noll == list(MODES)
    assert saved.tensors["0.coefficients"].shape == (len(calibration.used), len(MODES))
    with (folder / "beads.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == len(calibration.beads)
    # None stands for a cell that is not there.
    assert not any(None in row.values() for row in rows)
    used = [row for row in rows if row["state"].startswith("used")]
    assert len(used) == len(calibration.used)
    fwhm = [float(row["fwhm_row_nm"]) for row in used]
    # 0.51 λ/NA is 195 nm, with a Gaussian of 71 nm, sphere and pixel 260 nm.
    assert 240 < np.median(fwhm) < 300


def test_the_beads_images_are_a_family_of_their_own(folder, calibration):
    content = PROFILE.model_dump()
    content["model"] |= {"calibration": str(folder), "calibration_basis": "psf"}
    content["drift"] |= {"warn": 0.1, "alarm": 0.2}
    family = rig_family(check_profile(content, "test"))
    assert isinstance(family, PsfFamily)
    near = np.abs(np.array(Z_UM)) * calibration.model.waves_per_um <= 0.15
    beads = load_calibration(folder).tensors["0.beads"][:, near]
    assert family.states == beads.shape[0] * beads.shape[1]
    # A bead that was not noisy: the model's image, in the middle of the focus range.
    bead = calibration.used[0].fit.bead._replace(row=0.0, column=0.0, z_um=0.0)
    images = calibration.model.image(bead)[near].double()
    wanted = images / images.sum((1, 2), keepdim=True)
    flat = family.eigen.reshape(len(family.eigen), -1)
    c = (wanted.numpy() - family.mean).reshape(len(wanted), -1) @ flat.T
    found = family.psf(torch.from_numpy(c / (flat**2).sum(1)))
    assert psf_snr(found, wanted).min() > 15
    assert psf_snr(torch.from_numpy(family.mean)[None], wanted).min() < 12


def test_bad_folders_are_refused_by_name(folder, tmp_path):
    with pytest.raises(CalibrationError, match=r"manifest\.json: cannot be read"):
        load_calibration(tmp_path)
    other = Optics(numerical_aperture=1.3, refractive_index=1.515)
    with pytest.raises(CalibrationError, match=r"aperture 1\.41.*1\.3"):
        load_calibration(folder, other)
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    names = ("calibration.safetensors", "beads.csv", "psf.ome.tif", "mean_bead.ome.tif")
    for name in names:
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(CalibrationError, match=f"{name}: was altered"):
            load_calibration(copy)
        (copy / name).write_bytes(content)
    for change, reason in (
        ({"version": 2}, "version 2"),
        ({"format": "other"}, "not a calibration"),
        ({"noll": "all"}, "noll"),
        ({"extra": 1}, "extra"),
    ):
        content = json.loads((folder / "manifest.json").read_text("utf-8")) | change
        (copy / "manifest.json").write_text(json.dumps(content), "utf-8")
        with pytest.raises(CalibrationError, match=reason):
            load_calibration(copy)


def test_the_psf_file_has_its_scales(calibration, tmp_path):
    path = tmp_path / "psf.ome.tif"
    write_psf(calibration, path)
    with tifffile.TiffFile(path) as tif:
        image = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
        psf = tif.asarray()
        dots = tif.pages[0].tags["XResolution"].value
    assert image["PhysicalSizeX"] == pytest.approx(0.1)
    assert image["PhysicalSizeZ"] == pytest.approx(0.25)
    assert dots[1] / dots[0] * 1e7 == pytest.approx(100.0)
    assert psf.shape == (7, calibration.model.side, calibration.model.side)
    assert psf[3].sum() == pytest.approx(1, abs=1e-3)
    # The mean of the beads is wider by the beads' size only.
    write_mean_bead(calibration, tmp_path / "mean.ome.tif")
    mean = tifffile.imread(tmp_path / "mean.ome.tif")[0, 3]
    pair = (torch.from_numpy(image) for image in (psf[3], mean / mean.sum()))
    assert psf_snr(*pair) > 15


def test_the_psf_file_has_even_planes(calibration, tmp_path):
    whole, left = calibrated_psf(calibration), [0, 1, 2, 3, 4, 6]

    def fewer(stack):
        return stack[left]

    model = replace(calibration.model, z_um=tuple(Z_UM[k] for k in left))
    mean = MeanBead(*map(fewer, calibration.mean))
    one = replace(
        calibration, model=model, residual=fewer(calibration.residual), mean=mean
    )
    found = calibrated_psf(one)
    assert found.shape == whole.shape
    # Plane 5 has the pupil's own light, and differs by its residual only.
    assert np.abs(found - whole).max() < 0.02 * whole.max()
    write_psf(one, tmp_path / "psf.ome.tif")
    write_mean_bead(one, tmp_path / "mean.ome.tif")
    for name in ("psf.ome.tif", "mean.ome.tif"):
        with tifffile.TiffFile(tmp_path / name) as tif:
            image = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
        assert (image["SizeZ"], image["PhysicalSizeZ"]) == (7, 0.25)


def test_the_report_says_what_to_redo(folder, calibration):
    manifest = load_calibration(folder).manifest
    path = write_calibration_report(folder, manifest, [calibration])
    page = path.read_text("utf-8")
    assert "Usable" in page
    assert page.count("<svg") == 5
    assert "Hatched: too far from any bead" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "saturated" in page
