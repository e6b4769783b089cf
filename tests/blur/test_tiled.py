"""Tiles against a spatially varying sum, and against one convolution."""

import math

import pytest
import torch

from deepblur_live.blur import Convolution, prox_by_conjugate_gradient
from deepblur_live.blur.field_basis import FieldView
from deepblur_live.blur.product_convolution import ProductConvolution
from deepblur_live.blur.tiled import TiledBlur, grid_positions, on_grid
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.optics import frame_part

FRAME, SHAPE = (300, 340), (320, 360)
FAMILY = ZernikeField(ZernikeFamily(pupil_samples=63), FieldView(*FRAME), remainder=0)
FIELD = FAMILY.sample(1, torch.Generator().manual_seed(2))[0]
WHERE = frame_part(SHAPE, FRAME)


def image(shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    white = torch.rand(1, *shape, generator=generator, dtype=torch.float64)
    return torch.nn.functional.avg_pool2d(white, 3, 1, 1).to(dtype)


@pytest.fixture(scope="module")
def reference():
    return ProductConvolution.of_family(FAMILY, FIELD, SHAPE, FRAME, 20, grid=13)


@pytest.fixture(scope="module")
def tiled():
    return FAMILY.operator(FIELD, SHAPE, FRAME)


def distance(found, expected, start):
    """Return the error relative to what the step changes, off the frame's border."""
    part = (slice(None), *(slice(p.start + 15, p.stop - 15) for p in WHERE))
    return float((found - expected)[part].norm() / (expected - start)[part].norm())


@pytest.mark.parametrize(
    ("shape", "frame", "tile"),
    [
        # Lengths that no number of tiles divides; a tile of odd side.
        ((211, 157), (193, 131), 77),
        ((131, 300), None, 128),
        ((96, 64), None, 64),
    ],
)
def test_the_weights_sum_to_1_and_flux_is_kept(shape, frame, tile):
    psfs = FAMILY.kernels(FIELD.double())[0]
    blur = TiledBlur(psfs, shape, frame, tile=tile)
    x = image(shape, dtype=torch.float64)
    tolerance = 1e-12
    # A tile's own step of 0 leaves the image as it is.
    same = blur._add(blur._cut(x))
    torch.testing.assert_close(same, x, rtol=tolerance, atol=tolerance)
    assert float(blur.forward(x).sum() / x.sum()) == pytest.approx(1, abs=tolerance)


def test_it_is_the_blur_of_the_field(reference, tiled):
    """The error is a few per cent of that of one PSF."""
    x = image(SHAPE)
    assert distance(tiled.forward(x), reference.forward(x), x) < 0.006
    one = Convolution(FAMILY.psf(FIELD), SHAPE)
    assert distance(one.forward(x), reference.forward(x), x) > 0.04


def test_a_point_shows_the_local_psf(tiled):
    """At a position of the grid no PSF is interpolated; far from tiles' ends."""
    row, column = FRAME[0] * 2 // 7, FRAME[1] * 5 // 7
    x = torch.zeros(1, *SHAPE)
    at = WHERE[0].start + row, WHERE[1].start + column
    x[0, at[0], at[1]] = 1
    part = [slice(place - 15, place + 16) for place in at]
    found = tiled.forward(x)[0][part[0], part[1]]
    positions = ((row + 0.5) / FRAME[0], (column + 0.5) / FRAME[1])
    expected = FAMILY.psf(FIELD, positions)
    assert float((found - expected).norm() / expected.norm()) < 0.05
    turned = FAMILY.psf(FIELD, positions[::-1])
    assert float((found - turned).norm() / turned.norm()) > 0.2


def test_its_steps_are_near_those_of_the_whole_operator(reference, tiled):
    sharp = image(SHAPE)
    y = reference.forward(sharp)
    found = tiled.gradient_step(y, tiled.prepare(y), 1.0)
    exact = reference.gradient_step(y, reference.prepare(y), 1.0)
    assert distance(found, exact, y) < 0.05
    weight = torch.full((1, 1, 1), 0.01)
    exact = prox_by_conjugate_gradient(tiled, y, y, weight, 30)
    assert distance(tiled.prox_data(y, y, weight), exact, y) < 0.02


@pytest.mark.parametrize("typical", [None, 0.018])
def test_a_constant_field_is_one_convolution(typical):
    gamma = FAMILY.local.sample(1, torch.Generator().manual_seed(2)).double()
    constant = torch.from_numpy(FAMILY.constant(gamma.numpy()))
    psfs, psf = FAMILY.kernels(constant)[0], FAMILY.local.psf(gamma)
    torch.testing.assert_close(psfs, psf[:, None, None].expand_as(psfs))
    blur = FAMILY.operator(constant, SHAPE, FRAME)
    one = FAMILY.local.operator(gamma, SHAPE, FRAME)
    x = image(SHAPE, dtype=torch.float64)
    y, weight = one.forward(x), torch.full((1, 1, 1), 0.01, dtype=torch.float64)
    assert distance(blur.forward(x), one.forward(x), x) < 0.01
    found = blur.gradient_step(y, blur.prepare(y), 1.0)
    assert distance(found, one.gradient_step(y, one.prepare(y), 1.0), y) < 0.03
    found = blur.prox_data(y, y, weight, typical)
    assert distance(found, one.prox_data(y, y, weight, typical), y) < 0.05


def test_an_image_of_one_tile_has_the_psf_of_its_middle():
    shape, frame = (120, 96), (100, 80)
    blur = FAMILY.operator(FIELD[None], shape, frame)
    # The grid has no PSF in the middle, but four around it.
    psf = FAMILY.kernels(FIELD[None])[0][:, 3:5, 3:5].mean((1, 2))
    one = Convolution(psf, shape, frame)
    y, weight = image(shape), torch.full((1, 1, 1), 0.01)
    torch.testing.assert_close(blur.forward(y), one.forward(y))
    torch.testing.assert_close(
        blur.prox_data(y, y, weight, 0.018), one.prox_data(y, y, weight, 0.018)
    )


def test_batches_are_their_images_one_by_one():
    fields = FAMILY.sample(2, torch.Generator().manual_seed(3))
    covariance = torch.from_numpy(FAMILY.prior.covariance).float() * 0.1
    kernels = FAMILY.expected_kernels(fields, covariance.expand(2, -1, -1))
    both = FAMILY.operator_from(kernels, SHAPE, FRAME)
    y = torch.cat([image(SHAPE, 0), image(SHAPE, 1)])
    weight = torch.tensor([0.01, 0.1])[:, None, None]
    found = (
        both.gradient_step(y, both.prepare(y), 0.7),
        both.prox_data(y, y, weight, 0.018),
    )
    for i in range(2):
        alone = FAMILY.operator_from(
            tuple(kernel[i : i + 1] for kernel in kernels), SHAPE, FRAME
        )
        one = y[i : i + 1]
        step = alone.gradient_step(one, alone.prepare(one), 0.7)
        torch.testing.assert_close(found[0][i : i + 1], step, rtol=1e-4, atol=1e-5)
        step = alone.prox_data(one, one, weight[i : i + 1], 0.018)
        torch.testing.assert_close(found[1][i : i + 1], step, rtol=1e-3, atol=1e-4)


def test_it_is_differentiable_in_the_coefficients():
    family = ZernikeField(
        ZernikeFamily(pupil_samples=31), FieldView(100, 100), remainder=0
    )
    x = image((100, 100), dtype=torch.float64)
    field = family.sample(1, torch.Generator().manual_seed(0))[0].double()

    def blurred(coefficients):
        blur = TiledBlur(*family.kernels(coefficients), (100, 100), tile=64)
        step = blur.gradient_step(x, blur.prepare(x), 0.5)
        return blur.forward(x)[0, ::30, ::30], step[0, ::30, ::30]

    field.requires_grad_(True)
    assert torch.autograd.gradcheck(blurred, field, atol=1e-6, fast_mode=True)


def test_kernels_are_interpolated_between_the_edges_of_the_frame():
    positions = torch.from_numpy(grid_positions(3))
    plane = (2 * positions[:, 0] - positions[:, 1] + 1)[:, None, None]
    wide = torch.from_numpy(grid_positions(8))
    expected = (2 * wide[:, 0] - wide[:, 1] + 1).view(8, 8, 1, 1)
    torch.testing.assert_close(on_grid(plane), expected)
    assert math.isclose(float(wide.min()), 0)
    assert math.isclose(float(wide.max()), 1)


def test_psfs_that_do_not_fit_are_refused():
    psfs = FAMILY.kernels(FIELD)[0]
    with pytest.raises(ValueError, match=r"31 × 31 pixels do not fit .* 30 × 64"):
        TiledBlur(psfs, (30, 64))
    with pytest.raises(ValueError, match="tiles of 24 × 24"):
        TiledBlur(psfs, (64, 64), tile=24)
