"""The calibrated prior of one region of the field, and blurs that vary with it."""

import numpy as np
import pytest
import torch
from stack_slides import PROFILE
from written_calibration import NOLL, write_calibration

from deepblur_live.blur.calibrated_field import CalibratedField
from deepblur_live.blur.places import places
from deepblur_live.blur.tiled import GRID, grid_positions
from deepblur_live.calibration import CalibrationError, load_calibration
from deepblur_live.calibration.place import place_family
from deepblur_live.calibration.rig import calibrated_family, rig_family
from deepblur_live.profile import ProfileError, check_profile

# Over the rows of a frame of 170 × 170: astigmatism from edge to edge.
SLOPE, SIDE = 0.12, 170
MIDDLE = np.array([0.04, -0.06, 0.05, 0.03, -0.02, 0.02, 0.0])
TREND = np.stack([MIDDLE, [SLOPE, 0, 0, 0, 0, 0, 0], np.zeros(7)])
REGION = (0, 40, 51, 60)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place") / "rig.calib"
    return load_calibration(write_calibration(folder, [TREND]))


@pytest.fixture(scope="module")
def family(saved):
    return calibrated_family(saved, PROFILE.optics)


def profile(saved, **model):
    content = PROFILE.model_dump()
    content["model"] |= {"calibration": str(saved.folder), **model}
    return check_profile(content, "test")


def test_the_prior_is_that_of_the_field_in_the_region(saved, family):
    placed = place_family(saved, family, REGION)
    # Defocus and spherical come first; then Noll 5.
    assert placed.names == family.names
    expected = np.zeros(8)
    expected[2] = SLOPE * (25.5 / SIDE - 0.5)
    assert placed.prior.mean == pytest.approx(expected, abs=2e-4)
    # What a place within the region differs by, instead of within the whole frame.
    less = family.learned.covariance - placed.learned.covariance
    share = (51 / SIDE) ** 2
    assert less[2, 2] == pytest.approx(SLOPE**2 / 12 * (1 - share), rel=0.02)
    assert np.abs(less[3:, 3:]).max() < 0.01 * less[2, 2]
    # The set moves along; the coefficients, and with them the PSF, stay what they are.
    assert placed.prior.admissible.gauge(placed.prior.mean) == pytest.approx(
        0, abs=1e-9
    )
    c = torch.linspace(-0.05, 0.05, 8).double()
    assert torch.equal(placed.psf(c), family.psf(c))
    drawn = placed.sample(4000, torch.Generator().manual_seed(0)).double().numpy()
    assert drawn[:, 2].mean() == pytest.approx(expected[2], abs=2e-3)


def test_the_prior_of_the_whole_frame_is_the_familys(saved, family):
    placed = place_family(saved, family)
    assert placed == family
    assert hash(placed) == hash(family)


def test_a_region_decides_what_the_whole_field_does_not(saved, family):
    """Of an astigmatism whose sign the place tells; its image has another prior."""
    wide = {s.name for s in family.symmetries}
    placed = place_family(saved, family, (0, 0, 20, 170))
    assert {s.name for s in placed.symmetries} <= wide
    c = placed.prior.mean
    assert placed.canonical(c) == pytest.approx(c)


def test_the_blur_varies_as_the_field_does(saved, family):
    field = rig_family(profile(saved, blur="field"))
    assert isinstance(field, CalibratedField)
    c = torch.zeros(8, dtype=torch.float64)
    (psfs,) = field.kernels(c)
    assert psfs.shape[:2] == (GRID, GRID)
    places = grid_positions()
    for number in (0, 27, 63):
        modes = np.append(0.0, MIDDLE)
        modes[1] += SLOPE * (places[number, 0] - 0.5)
        truth = family.local.psf(torch.from_numpy(modes))
        own = psfs.flatten(0, 1)[number]
        # Its field is that of a Gaussian process through sixteen beads.
        assert float((own - truth).norm() / truth.norm()) < 0.02
    # Only what the beads leave open is uncertain, not the variation.
    covariance = field.learned.covariance[2, 2]
    assert covariance == pytest.approx(family.learned.covariance[3, 3], rel=0.1)
    assert "varies over the frame by 19 nm rms" in field.describe()
    # In a region the offsets are from that region's mean.
    part = place_family(saved, family, REGION, varies=True)
    offsets = np.array(part.offsets)
    assert np.ptp(offsets[:, 1]) == pytest.approx(SLOPE * 51 / SIDE, rel=0.02)
    assert offsets.mean(0) == pytest.approx(0, abs=1e-3)


def test_its_psf_at_a_position_is_that_of_the_place(saved):
    """The check of a deblurred frame, comparisons of spectra and reports need it."""
    field = rig_family(profile(saved, blur="field"))
    c = torch.zeros(2, 8, dtype=torch.float64)
    (psfs,) = field.kernels(c)
    position = tuple(grid_positions()[11])
    own, slopes = field.psf_and_jacobian(c, position)
    assert torch.allclose(own, psfs.flatten(1, 2)[:, 11], rtol=1e-9)
    assert torch.allclose(field.psf(c, position), own, rtol=1e-9)
    step = torch.zeros(8, dtype=torch.float64)
    step[1] = 1e-5
    change = (field.psf(c + step, position) - field.psf(c - step, position)) / 2e-5
    assert torch.allclose(change, slopes[:, 1], atol=1e-6)
    assert torch.equal(field.psf(c), field.local.psf(field._local(c)))
    assert len(places(field)) == 9


def test_its_operator_spreads_light_by_the_psf_of_its_place(saved):
    field = rig_family(profile(saved, blur="field"))
    shape = (320, 64)
    c = torch.zeros(8, dtype=torch.float64)
    blur = field.operator(c, shape)
    x = torch.zeros(shape, dtype=torch.float64)
    x[20, 32] = 1.0
    (psfs,) = field.kernels(c)
    image, side = blur.forward(x), field.window
    top, left = 20 - side // 2, 32 - side // 2
    own = image.roll((-top, -left), (0, 1))[:side, :side]
    # In the uppermost of the tiles, whose middle is at row 32 of 320.
    near, mean = psfs[:2, 3:5].mean((0, 1)), psfs.mean((0, 1))
    assert float((own - near).norm()) < 0.5 * float((own - mean).norm())
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.rand(shape, generator=generator).double() for _ in range(2))
    left_side = (blur.forward(one) * other).sum()
    right_side = (one * blur.adjoint(other)).sum()
    assert float(left_side) == pytest.approx(float(right_side), rel=1e-12)
    kernels = field.expected_kernels(c[None], 1e-4 * torch.eye(8).double()[None])
    assert kernels[0].shape == (1, GRID, GRID, side, side)
    spread = float(kernels[1].sum((-2, -1)).abs().max())
    assert kernels[1].shape[:3] == (1, GRID, GRID) and spread < 1e-6


def test_what_is_no_field_is_refused(saved, family, tmp_path):
    with pytest.raises(ProfileError, match="is made from means over the frame"):
        profile(saved, blur="field", calibration_set="hull")
    with pytest.raises(ProfileError, match="calibration, but none is given"):
        check_profile({"model": {"calibration_set": "hull"}}, "test")
    two = load_calibration(
        write_calibration(tmp_path / "two.calib", [TREND, 1.1 * TREND])
    )
    hull = calibrated_family(two, PROFILE.optics, hull=True)
    with pytest.raises(ValueError, match="hull of the states"):
        place_family(two, hull, REGION)
    with pytest.raises(ValueError, match="offsets of shape"):
        CalibratedField(family.local, family.learned, ((0.0,) * 8,))
    assert NOLL == family.local.noll[1:]
    assert issubclass(CalibrationError, ValueError)
