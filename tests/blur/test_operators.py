"""Every operator: adjoint, gradient step, proximal step, the deblurring network."""

import pytest
import torch

from deepblur_live.blur import Convolution
from deepblur_live.blur.product_convolution import Order, ProductConvolution
from deepblur_live.blur.tiled import TiledBlur
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.deblurring import FoldedFista, UnrolledFista
from deepblur_live.runtime.pack import load_pack

FAMILY = ZernikeFamily(pupil_samples=63)


def convolution(shape, frame=None, dtype=torch.float64, batch=2):
    gamma = FAMILY.sample(batch, torch.Generator().manual_seed(1)).to(dtype)
    return Convolution(FAMILY.psf(gamma), shape, frame)


def two_regions(
    shape, frame=None, dtype=torch.float64, batch=2, order=Order.MULTIPLY_FIRST
):
    """Two PSFs, blended from left to right."""
    gamma = FAMILY.sample(2 * batch, torch.Generator().manual_seed(1)).to(dtype)
    psfs = FAMILY.psf(gamma).view(batch, 2, FAMILY.window, FAMILY.window)
    left = torch.linspace(1, 0, shape[1]).to(psfs).expand(shape)
    return ProductConvolution(psfs, torch.stack([left, 1 - left]), order, frame)


def two_regions_after(shape, frame=None, dtype=torch.float64, batch=2):
    return two_regions(shape, frame, dtype, batch, Order.CONVOLVE_FIRST)


def tiles(shape, frame=None, dtype=torch.float64, batch=2):
    """Four PSFs in the corners; one tile where the image is as small as one."""
    gamma = FAMILY.sample(4 * batch, torch.Generator().manual_seed(1)).to(dtype)
    side = FAMILY.window
    psfs = FAMILY.psf(gamma).view(batch, 2, 2, side, side)
    return TiledBlur(psfs, shape, frame, tile=40)


KINDS = pytest.mark.parametrize(
    "make", [convolution, two_regions, two_regions_after, tiles]
)
EXACT = pytest.mark.parametrize("make", [convolution, two_regions, two_regions_after])


def images(shape, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, *shape, generator=generator, dtype=torch.float64).to(dtype)


@KINDS
@pytest.mark.parametrize("frame", [None, (29, 31)])
@pytest.mark.parametrize("shape", [(31, 31), (40, 64), (63, 50), (131, 97)])
def test_adjoint(make, shape, frame):
    blur, u, v = make(shape, frame), images(shape, 0), images(shape, 1)
    left, right = (blur.forward(u) * v).sum(), (u * blur.adjoint(v)).sum()
    assert abs(left - right) <= 1e-12 * abs(left)


@EXACT
def test_gradient_step(make):
    shape = (40, 45)
    blur, z, y = make(shape), images(shape, 0), images(shape, 1)
    expected = z - 0.7 * blur.adjoint(blur.forward(z) - y)
    found = blur.gradient_step(z, blur.prepare(y), 0.7)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@EXACT
def test_proximal_step(make):
    """(AᵀA + λ) x = Aᵀy + λz; by conjugate gradient it is approximate."""
    shape = (40, 45)
    blur, z, y = make(shape), images(shape, 0), images(shape, 1)
    weight = torch.full((2, 1, 1), 0.3, dtype=torch.float64)
    x = blur.prox_data(z, y, weight)
    left = blur.adjoint(blur.forward(x)) + weight * x
    right = blur.adjoint(y) + weight * z
    tolerance = 1e-10 if make is convolution else 2e-3
    assert (left - right).norm() < tolerance * right.norm()


@KINDS
def test_the_trained_network_deblurs_with_it(make):
    """Far better than with no operator; folded weights give the same numbers."""
    generator = torch.Generator().manual_seed(0)
    points = (torch.rand(2, 96, 96, generator=generator) < 0.01).float()
    sharp = torch.nn.functional.max_pool2d(points, 5, 1, 2)
    blur = make((96, 96), dtype=torch.float32)
    y = blur.forward(sharp) + 0.005 * torch.randn(sharp.shape, generator=generator)
    network: UnrolledFista = load_pack("zernike7").deblurring
    with torch.no_grad():
        found = network(y, blur, torch.full((2,), 0.005))
        folded = FoldedFista(network)(y, blur, torch.tensor([0.005]))
    torch.testing.assert_close(folded, found, atol=1e-3, rtol=1e-3)
    assert (found - sharp).norm() < 0.4 * (y - sharp).norm()
