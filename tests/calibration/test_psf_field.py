"""Eigen-PSFs with maps over the field: the product-convolution of a calibration."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from stack_slides import MODES, PROFILE

from deepblur_live.blur.convolution import Convolution
from deepblur_live.blur.fixed_field import FixedField
from deepblur_live.blur.tiled import GRID, grid_positions
from deepblur_live.calibration import CalibrationError, place
from deepblur_live.calibration.model import BeadParameters, StackModel
from deepblur_live.calibration.place import fixed_field
from deepblur_live.calibration.psf_field import learn_psf_fields, product_convolution

SHAPE = (300, 400)
SIDE = 21
MODEL = StackModel(PROFILE.optics, MODES, 100.0, (0.0,), SIDE)
SLOPES = np.array([[0.10, 0, 0.06, 0, 0, 0, 0], [0, 0.08, 0, -0.08, 0, 0, 0]])
MIDDLE = np.array([0.02, -0.03, 0.015, 0.02, -0.01, 0.01, 0.03])


def psfs_at(places, change=0.0):
    """PSFs (n, K, K) of sum 1: a linear field of astigmatism and coma."""
    unit = places / np.array(SHAPE) - 0.5
    images = [
        MODEL.image(BeadParameters(torch.from_numpy(gamma), 0.0, 0.0, 0.0, 1.0, 0.5))[0]
        for gamma in MIDDLE + change + unit @ SLOPES
    ]
    images = torch.stack(images).double().numpy()
    return images / images.sum((1, 2), keepdims=True)


def calibration(beads, photons, seed=0, changes=(0.0,)):
    """A folder: beads of some photons at random places, one state for each change."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for k, change in enumerate(changes):
        places = rng.uniform(0, 1, (beads, 2)) * SHAPE
        light = photons * psfs_at(places, change) + 20
        images = (rng.poisson(light) - 20.0) / photons
        tensors[f"{k}.beads"] = images[:, None].astype(np.float32)
        tensors[f"{k}.places"] = np.column_stack([places, np.zeros(beads)])
    state = SimpleNamespace(shape=list(SHAPE), z_um=[0.0])
    manifest = SimpleNamespace(states=[state] * len(changes))
    return SimpleNamespace(folder=Path("x.calib"), manifest=manifest, tensors=tensors)


def snr_db(psfs, truth):
    """Of all PSFs together."""
    error = np.square(psfs - truth).sum()
    return 10 * np.log10(np.square(truth).sum() / error)


@pytest.fixture(scope="module")
def field():
    return learn_psf_fields(calibration(40, 1e5))[0]


def test_psfs_between_the_beads_are_better_than_the_mean(field):
    places = np.random.default_rng(9).uniform(0, 1, (40, 2)) * SHAPE
    truth = psfs_at(places)
    alone = snr_db(field.mean, truth)
    over_field = snr_db(field.psf(places), truth)
    assert over_field > alone + 8
    # What held-out beads say of it, noise included.
    assert field.held_out.field_db > field.held_out.mean_db + 5
    assert field.held_out.mean_db == pytest.approx(alone, abs=1.5)
    assert 2 <= len(field.eigen) <= 8


def test_it_is_the_sum_of_the_psfs_of_all_places(field):
    """Brute force: every pixel's light by the PSF of its place; frame in the middle."""
    shape, frame, corner = (34, 38), (24, 28), (140, 60)
    blur = product_convolution([field], [1.0], shape, frame, corner)
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 1, shape)
    rows, columns = np.indices(shape)
    # The frame of 24 × 28 begins at row and column 5 of the image.
    places = np.stack([rows - 5 + corner[0], columns - 5 + corner[1]], -1)
    psfs = field.psf(places.astype(float))
    expected = np.zeros(shape)
    reach = np.arange(SIDE) - SIDE // 2
    for row, column in np.ndindex(shape):
        target = np.ix_((row + reach) % shape[0], (column + reach) % shape[1])
        expected[target] += x[row, column] * psfs[row, column]
    image = blur.forward(torch.from_numpy(x)).numpy()
    # The maps are splines between 21 × 21 places.
    assert image == pytest.approx(expected, abs=1e-5 * expected.max())
    y = torch.from_numpy(rng.normal(size=shape))
    left = (blur.forward(torch.from_numpy(x)) * y).sum()
    right = (torch.from_numpy(x) * blur.adjoint(y)).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-12)


def test_states_are_mixed_at_the_cost_of_one():
    one, other = learn_psf_fields(calibration(12, 1e5, changes=(0.0, 0.05)), count=4)
    assert one.eigen is other.eigen
    shape = (32, 32)
    x = torch.from_numpy(np.random.default_rng(2).uniform(size=shape))
    images = [
        product_convolution([one, other], weights, shape).forward(x)
        for weights in ([1, 0], [0, 1], [0.3, 0.7])
    ]
    mixed = 0.3 * images[0] + 0.7 * images[1]
    assert float((images[0] - images[1]).abs().max()) > 1e-3
    assert torch.allclose(images[2], mixed, atol=1e-12)
    with pytest.raises(ValueError, match="one for each of 2 states"):
        product_convolution([one, other], [0.5, 0.4], shape)


def test_the_constant_field_is_the_mean_psf():
    """Beads that differ by noise alone support no eigen-PSF."""
    saved = calibration(16, 1e4)
    truth = psfs_at(np.full((1, 2), 150.0))
    rng = np.random.default_rng(3)
    light = np.repeat(1e4 * truth + 20, 16, axis=0)
    saved.tensors["0.beads"] = ((rng.poisson(light) - 20.0) / 1e4)[:, None]
    [field] = learn_psf_fields(saved)
    assert len(field.eigen) == 0
    assert field.held_out.field_db == field.held_out.mean_db
    assert field.psf(np.zeros((3, 2))) == pytest.approx(
        np.repeat(field.mean[None], 3, axis=0)
    )


def test_few_beads_have_one_psf_and_no_verdict():
    [field] = learn_psf_fields(calibration(3, 1e5))
    assert field.held_out is None and len(field.eigen) == 0
    with pytest.raises(ValueError, match="at most 2"):
        learn_psf_fields(calibration(3, 1e5), count=3)


def test_a_folder_without_images_is_refused_by_name():
    saved = calibration(4, 1e5)
    del saved.tensors["0.beads"]
    with pytest.raises(CalibrationError, match=r"x\.calib: contains no bead images"):
        learn_psf_fields(saved)


def test_sessions_take_it_as_fixed_psfs_over_the_frame(field, monkeypatch):
    saved = calibration(40, 1e5)
    saved.manifest.optics = PROFILE.optics
    fixed = fixed_field(saved)
    assert fixed.n_coefficients == 0
    (psfs,) = fixed.kernels(torch.zeros(1, 0))
    assert psfs.shape == (1, GRID, GRID, SIDE, SIDE)
    places = grid_positions() * SHAPE
    light = field.psf(places).clip(0)
    expected = light / light.sum((1, 2), keepdims=True)
    assert psfs[0].flatten(0, 1).numpy() == pytest.approx(expected, abs=1e-7)
    # As the brute-force sum of the product-convolution, but for tiles and clipping.
    shape = (300, 64)
    part = fixed_field(saved, (0, 0, *shape))
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)).double()
    tiled = part.operator(torch.zeros(0, dtype=torch.float64), shape).forward(x)
    whole = product_convolution([field], [1.0], shape).forward(x)
    alone = torch.from_numpy(field.mean)
    one = Convolution(alone, shape).forward(x)
    inner = (slice(20, -20),) * 2
    error, least = ((a - whole)[inner].norm() for a in (tiled, one))
    assert error < 0.35 * least
    assert part.psf(torch.zeros(0), (0.0, 0.0)).numpy() == pytest.approx(
        part.grid[0, 0], abs=1e-6
    )
    with pytest.raises(ValueError, match="must have the sum 1"):
        FixedField(fixed.image, 0.2, "", 2 * fixed.grid)
    assert part != fixed and hash(fixed) == hash(fixed_field(saved))
    # The tiles of an operator hold PSFs of some size only.
    monkeypatch.setattr(place, "_LARGEST_WINDOW", 11)
    small, middle = fixed_field(saved).grid, slice(SIDE // 2 - 5, SIDE // 2 + 6)
    cut = fixed.grid[..., middle, middle]
    assert small == pytest.approx(cut / cut.sum((2, 3), keepdims=True))
