"""Product-convolution against a sum over all pixels, each with its own PSF."""

import itertools

import numpy as np
import pytest
import torch

from deepblur_live.blur.field_basis import FieldView
from deepblur_live.blur.product_convolution import (
    Order,
    ProductConvolution,
    eigen_psfs,
    mixed_maps,
)
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.optics import frame_part

# Square, so that maps and fields that are transposed fit.
SHAPE, FRAME = (90, 90), (60, 60)
FAMILY = ZernikeField(ZernikeFamily(pupil_samples=31), FieldView(*FRAME), remainder=0)
FIELD = FAMILY.sample(1, torch.Generator().manual_seed(4))[0].double()
ORDERS = pytest.mark.parametrize("order", list(Order))


def image(shape=SHAPE, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def local_psfs(pixels):
    """PSFs of pixels (n, 2) of the image, beyond the frame too."""
    starts = [part.start for part in frame_part(SHAPE, FRAME)]
    positions = (pixels + 0.5 - np.array(starts)) / np.array(FRAME)
    return FAMILY.local.psf(FAMILY.at(FIELD, positions))


def brute_force(x, pixel, order):
    """Σ_r PSF(pixel - r) x(r), the PSF that of the source r or that of the pixel."""
    half = FAMILY.window // 2
    steps = np.arange(-half, half + 1)
    sources = np.stack(np.meshgrid(*[steps] * 2, indexing="ij"), -1).reshape(-1, 2)
    sources = sources + pixel
    psfs = local_psfs(sources if order is Order.MULTIPLY_FIRST else pixel[None])
    down, right = (pixel - sources).T + half
    own = np.arange(len(sources)) if len(psfs) > 1 else 0
    return float((psfs[own, down, right] * x[sources[:, 0], sources[:, 1]]).sum())


def blur_of_field(order, count=24):
    return ProductConvolution.of_family(FAMILY, FIELD, SHAPE, FRAME, count, order, 13)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(15, 75, (12, 2))


@ORDERS
def test_it_is_the_spatially_varying_sum(order, pixels):
    """And the other order is not, nor are maps that are transposed."""
    blur, x = blur_of_field(order), image()
    expected = np.array([brute_force(x, pixel, order) for pixel in pixels])

    def error(operator):
        found = operator.forward(x)[pixels[:, 0], pixels[:, 1]].numpy()
        return np.abs(found - expected).max() / np.ptp(expected)

    assert error(blur) < 0.002
    (other,) = set(Order) - {order}
    assert error(blur_of_field(other)) > 0.03
    blur.maps = blur.maps.mT
    assert error(blur) > 0.03


def test_orders_are_adjoint_with_the_psf_turned():
    """Multiply-then-convolve is the transpose of convolve-then-multiply."""
    psfs = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(0)).double()
    maps = image((3, 31, 40))
    first = ProductConvolution(psfs, maps, Order.MULTIPLY_FIRST)
    after = ProductConvolution(psfs.flip(-2, -1), maps, Order.CONVOLVE_FIRST)
    y = image((31, 40), 1)
    torch.testing.assert_close(first.adjoint(y), after.forward(y))


def test_a_point_shows_the_psf_of_its_place_in_the_first_order_alone():
    x = torch.zeros(SHAPE, dtype=torch.float64)
    x[30, 52] = 1
    psf = local_psfs(np.array([[30, 52]]))[0]
    part = (slice(15, 46), slice(37, 68))
    found = blur_of_field(Order.MULTIPLY_FIRST).forward(x)[part]
    torch.testing.assert_close(found, psf, atol=2e-4, rtol=0)
    found = blur_of_field(Order.CONVOLVE_FIRST).forward(x)[part]
    assert (found - psf).abs().max() > 5e-4


def test_the_error_falls_with_the_number_of_eigen_psfs():
    """Root mean square over the field, and the eigen-PSFs are orthonormal."""
    line = np.linspace(0, 1, 9)
    places = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    psfs = FAMILY.local.psf(FAMILY.at(FIELD, places))
    errors = []
    for count in (1, 2, 4, 8, 16):
        eigen, shares = eigen_psfs(FAMILY, FIELD, line, line, count)
        gram = torch.einsum("ikl,jkl->ij", eigen, eigen)
        torch.testing.assert_close(gram, torch.eye(count).double())
        found = torch.einsum("iab,ikl->abkl", torch.from_numpy(shares), eigen)
        error = (found.flatten(0, 1) - psfs).square().sum() / psfs.square().sum()
        errors.append(float(error.sqrt()))
    assert errors[0] > 0.1
    assert all(b < 0.8 * a for a, b in itertools.pairwise(errors))
    assert errors[-1] < 0.002


def test_gamma_mixes_only_the_maps():
    """A(γ) = Σ γ_p A_p."""
    psfs = torch.rand(4, 7, 7, generator=torch.Generator().manual_seed(0)).double()
    maps, x = image((3, 4, 32, 30)), image((32, 30), 1)
    gamma = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    parts = [ProductConvolution(psfs, one).forward(x) for one in maps]
    expected = torch.einsum("p,phw->hw", gamma, torch.stack(parts))
    found = ProductConvolution(psfs, mixed_maps(maps, gamma)).forward(x)
    torch.testing.assert_close(found, expected)


def test_a_map_for_each_psf():
    with pytest.raises(ValueError, match="3 PSFs, but 2 maps"):
        ProductConvolution(torch.rand(3, 5, 5), torch.rand(2, 32, 32))
