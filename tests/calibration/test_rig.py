"""A profile's calibration or PSF file becomes the blur of its sessions."""

import math

import numpy as np
import pytest
import tifffile
import torch
from stack_slides import PROFILE
from written_calibration import BLUR_NM, NOLL, write_calibration

from deepblur_live.blur import family_from_profile
from deepblur_live.blur.fixed_psf import FixedPsf
from deepblur_live.blur.learned_prior import LearnedPrior
from deepblur_live.calibration import CalibrationError
from deepblur_live.calibration.model import BeadParameters, StackModel
from deepblur_live.calibration.psf_input import read_psf
from deepblur_live.calibration.rig import rig_family
from deepblur_live.optics import psf_snr
from deepblur_live.profile import (
    ProfileError,
    check_profile,
    load_profile,
    write_profile,
)

MIDDLE = np.array([0.04, -0.06, 0.05, 0.03, -0.02, 0.02, 0.07])
NM = PROFILE.optics.wavelength_nm


def profile(**model):
    content = PROFILE.model_dump()
    content["model"] |= {key: str(value) for key, value in model.items()}
    return check_profile(content, "test")


def trend(middle=MIDDLE, rows=0.0):
    return np.stack([middle, np.full(7, rows), np.zeros(7)])


@pytest.fixture
def folder(tmp_path):
    return write_calibration(tmp_path / "rig.calib", [trend()])


def test_its_psf_is_the_image_of_a_small_bead(folder):
    """Modes, their signs, orientation and Gaussian: as the beads were fitted."""
    family = rig_family(profile(calibration=folder))
    assert family.local.noll == (4, *NOLL)
    wide = list(family.learned.wide)
    assert [family.local.noll[mode] for mode in wide] == [4, 11]
    # Spherical is the specimen's, too: its prior is wide, about 0.
    modes = np.append(MIDDLE[:-1], 0.0)
    assert family.learned.modes(np.zeros(8)) == pytest.approx(
        np.append(0.0, modes), abs=1e-6
    )
    side = family.window
    model = StackModel(PROFILE.optics, NOLL, 1.0, (0.0,), side)
    variance = (BLUR_NM / PROFILE.optics.pixel_size_nm) ** 2
    bead = BeadParameters(torch.from_numpy(modes), 0.0, 0.0, 0.0, 1.0, variance)
    image = model.image(bead)[0].double()
    psf = family.psf(torch.zeros(8, dtype=torch.float64))
    assert psf_snr(psf, image / image.sum()) > 35


def test_one_state_says_nothing_of_the_next(folder):
    """Its covariance is the change that is assumed, the same in all learned modes."""
    learned = rig_family(profile(calibration=folder)).learned
    part = learned.covariance[2:, 2:]
    assert learned.states == 1
    assert NM * math.sqrt(np.trace(part)) == pytest.approx(40)
    assert part == pytest.approx(np.trace(part) / 6 * np.eye(6), abs=1e-9)


def test_states_and_field_widen_the_prior(tmp_path):
    shift = np.array([0.1, 0, 0, 0, 0, 0, 0])
    states = [trend(MIDDLE + k * shift) for k in (-1, 0, 0, 1)]
    folder = write_calibration(tmp_path / "a.calib", states)
    apart = rig_family(profile(calibration=folder)).learned.covariance[2:, 2:]
    assert apart[0, 0] > 5 * apart[1, 1]
    sloped = write_calibration(tmp_path / "b.calib", [trend(rows=0.12)])
    tilted = rig_family(profile(calibration=sloped)).learned.covariance[2:, 2:]
    # Of a place from edge to edge: 0.12²/12 in each mode, all together.
    assert tilted[0, 1] == pytest.approx(0.12**2 / 12, rel=0.01)


def test_a_curved_field_widens_the_prior_about_its_mean(tmp_path):
    """Which slopes do not show: that of a bowl is zero."""
    flat, curved = (
        rig_family(
            profile(
                calibration=write_calibration(
                    tmp_path / f"{bowl}.calib", [trend()], bowl=bowl
                )
            )
        ).learned
        for bowl in (0.0, 0.06)
    )
    # Of a parabola that is 0 in the middle and 1 at the edges.
    change = curved.mean - flat.mean
    assert change[1:-1] == pytest.approx(0.06 / 3, rel=0.15)
    added = (curved.covariance - flat.covariance)[2:, 2:]
    assert np.diag(added) == pytest.approx(0.06**2 * 4 / 45, rel=0.3)


def test_the_hull_of_many_states_is_a_choice(tmp_path):
    rng = np.random.default_rng(0)
    states = [trend(MIDDLE + 0.02 * rng.normal(size=7)) for _ in range(12)]
    folder = write_calibration(tmp_path / "a.calib", states)
    family = rig_family(profile(calibration=folder, calibration_set="hull"))
    admissible = family.prior.admissible
    c = family.learned.coefficients(np.append(0.0, states[3][0]))
    c[:2] = 0
    assert admissible.gauge(c) <= 1 + 1e-6
    assert admissible.gauge(3 * c) > 1
    one = write_calibration(tmp_path / "b.calib", [trend()])
    with pytest.raises(CalibrationError, match=r"b\.calib: one state has no hull"):
        rig_family(profile(calibration=one, calibration_set="hull"))


def test_the_box_around_the_ellipsoid_is_a_choice(tmp_path):
    rng = np.random.default_rng(0)
    states = [trend(MIDDLE + 0.02 * rng.normal(size=7)) for _ in range(12)]
    folder = write_calibration(tmp_path / "a.calib", states)
    ellipsoid, box = (
        rig_family(profile(calibration=folder, calibration_set=kind))
        for kind in ("ellipsoid", "box")
    )
    assert box != ellipsoid and "admissible: box" in box.describe()
    learned = box.learned
    assert LearnedPrior.from_tensors(learned.to_tensors()) == learned
    assert box.sample(5).shape == (5, 8)
    far = np.append(np.zeros(2), np.full(6, 0.5))
    nearest = box.prior.admissible.project(far)
    sides = learned.radius * np.sqrt(np.diag(learned.covariance)[2:])
    assert nearest[2:] == pytest.approx(sides)
    # It touches the ellipsoid, and its corners are outside.
    inside = ellipsoid.prior.admissible
    assert inside.gauge(nearest) > 1
    drawn = ellipsoid.sample(500).double().numpy()
    assert box.prior.admissible.gauge(drawn).max() <= 1 + 1e-6
    assert not box.widened.learned.box


def test_images_of_beads_that_are_not_there_are_asked_for(folder):
    content = profile(calibration=folder).model_dump()
    content["model"]["calibration_basis"] = "psf"
    content["drift"] |= {"warn": 0.1, "alarm": 0.2}
    with pytest.raises(CalibrationError, match="no bead images"):
        rig_family(check_profile(content, "test"))
    content["drift"]["reference"] = "calibration"
    with pytest.raises(ProfileError, match="compares modes"):
        check_profile(content, "test")
    del content["drift"]
    with pytest.raises(ProfileError, match="unit of eigen-PSFs"):
        check_profile(content, "test")


def test_other_optics_are_refused_with_both_numbers(folder):
    other = profile(calibration=folder)
    for key, value in (("numerical_aperture", 1.3), ("pixel_size_nm", 110.0)):
        optics = other.optics.model_copy(update={key: value})
        with pytest.raises(CalibrationError, match=rf"rig\.calib.*{key}.*{value:g}"):
            rig_family(other.model_copy(update={"optics": optics}))
    optics = other.optics.model_copy(update={"extra_blur_nm": 90.0})
    with pytest.raises(CalibrationError, match=r"Gaussian of 70 nm.*= 90"):
        rig_family(other.model_copy(update={"optics": optics}))
    # The number that its report recommends, as a user would round it.
    optics = other.optics.model_copy(update={"extra_blur_nm": 70.4})
    assert rig_family(other.model_copy(update={"optics": optics})).n_coefficients == 8


def test_what_is_no_calibration_is_refused_by_name(folder, tmp_path):
    with pytest.raises(CalibrationError, match=r"no\.calib.*cannot be read"):
        rig_family(profile(calibration=tmp_path / "no.calib"))
    tensors = folder / "calibration.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CalibrationError, match=r"calibration\.safetensors.*altered"):
        rig_family(profile(calibration=folder))


def test_paths_are_relative_to_the_profile(folder, tmp_path, monkeypatch):
    write_profile(profile(calibration="rig.calib"), tmp_path / "rig.toml")
    monkeypatch.chdir(tmp_path.parent)
    loaded = load_profile(f"{tmp_path.name}/rig.toml")
    assert rig_family(loaded).learned.states == 1


def write(path, stack, pixel_um=0.1):
    metadata = {"axes": "ZYX"[-stack.ndim :]}
    for axis in "XY" if pixel_um else "":
        metadata[f"PhysicalSize{axis}"] = pixel_um
    tifffile.imwrite(path, stack.astype(np.float32), ome=True, metadata=metadata)
    return path


@pytest.fixture(scope="module")
def psf():
    """A comatic PSF (K, K) of the optics."""
    family = family_from_profile(PROFILE)
    gamma = torch.zeros(8, dtype=torch.float64)
    gamma[3] = 0.08
    return family.psf(gamma).numpy()


def test_the_plane_in_focus_is_the_blur(psf, tmp_path):
    blurred = np.full_like(psf, 1 / psf.size)
    path = write(tmp_path / "psf.ome.tif", np.stack([blurred, 3 * psf, blurred]))
    family = rig_family(profile(psf=path))
    assert isinstance(family, FixedPsf)
    assert family.origin == "psf.ome.tif, plane 2 of 3"
    assert family.image == pytest.approx(psf, abs=1e-6)
    assert family.cutoff == family_from_profile(PROFILE).cutoff
    # Of an even number of pixels the middle is N // 2, as of an FFT.
    even = write(tmp_path / "even.ome.tif", np.pad(psf, (1, 0)))
    assert read_psf(even, PROFILE.optics).image == pytest.approx(psf, abs=1e-6)
    # A wide one is cut to what frames are extended by.
    wide = write(tmp_path / "wide.ome.tif", np.pad(psf, 60))
    assert read_psf(wide, PROFILE.optics).window == 63


def test_a_psf_of_other_pixels_is_refused_with_both_numbers(psf, tmp_path):
    path = write(tmp_path / "psf.ome.tif", psf, 0.065)
    with pytest.raises(CalibrationError, match=r"psf\.ome\.tif.* 65 nm.*= 100"):
        read_psf(path, PROFILE.optics)
    path = write(tmp_path / "unknown.ome.tif", psf, 0)
    with pytest.raises(CalibrationError, match="does not state its pixel size"):
        read_psf(path, PROFILE.optics)


def test_the_resolution_gives_the_pixel_size_too(psf, tmp_path):
    path = tmp_path / "plain.tif"
    for size_nm in (100, 65):
        per_cm = 1e7 / size_nm
        tifffile.imwrite(
            path,
            psf.astype(np.float32),
            resolution=(per_cm, per_cm),
            resolutionunit="CENTIMETER",
        )
        if size_nm == 100:
            assert read_psf(path, PROFILE.optics).image == pytest.approx(psf, abs=1e-6)
    with pytest.raises(CalibrationError, match="65 nm"):
        read_psf(path, PROFILE.optics)


def test_what_is_no_psf_is_refused_by_name(psf, tmp_path):
    broken = tmp_path / "broken.ome.tif"
    broken.write_bytes(b"not a TIFF")
    with pytest.raises(CalibrationError, match=r"broken\.ome\.tif.*TIFF"):
        read_psf(broken, PROFILE.optics)
    with pytest.raises(CalibrationError, match="cannot be read"):
        read_psf(tmp_path / "missing.tif", PROFILE.optics)
    aside = write(tmp_path / "aside.ome.tif", np.roll(psf, 9, axis=0))
    with pytest.raises(CalibrationError, match="not in the middle"):
        read_psf(aside, PROFILE.optics)
    dark = write(tmp_path / "dark.ome.tif", 0 * psf)
    with pytest.raises(CalibrationError, match="no light"):
        read_psf(dark, PROFILE.optics)
