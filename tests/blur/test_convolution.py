"""Convolution against brute force, its adjoint, its gradient and proximal steps."""

import numpy as np
import pytest
import torch

from deepblur_live.blur import Convolution, prox_by_conjugate_gradient
from deepblur_live.blur.zernike import ZernikeFamily


def operator(shape, dtype=torch.float64, batch=2):
    family = ZernikeFamily(pupil_samples=63)
    gamma = family.sample(batch, torch.Generator().manual_seed(1)).to(dtype)
    return family.operator(gamma, shape)


def images(shape, dtype=torch.float64, batch=2):
    generator = torch.Generator().manual_seed(2)
    return torch.rand(batch, *shape, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("shape", [(31, 31), (40, 64), (63, 50), (45, 31)])
def test_adjoint(shape):
    blur, u, v = operator(shape), images(shape), images(shape).flip(0)
    left = (blur.forward(u) * v).sum()
    right = (u * blur.adjoint(v)).sum()
    assert abs(left - right) <= 1e-12 * abs(left)


def test_forward_is_the_brute_force_convolution():
    psf = torch.rand(3, 5, generator=torch.Generator().manual_seed(0)).double()
    x = images((7, 8), batch=1)[0]
    expected = torch.zeros_like(x)
    for i in range(7):
        for j in range(8):
            for a in range(3):
                for b in range(5):
                    expected[i, j] += psf[a, b] * x[(i - a + 1) % 7, (j - b + 2) % 8]
    torch.testing.assert_close(Convolution(psf, (7, 8)).forward(x), expected)


def test_the_gradient_step_equals_the_form_with_four_ffts():
    shape = (40, 45)
    blur, z, y = operator(shape), images(shape), images(shape).flip(1)
    expected = z - 0.7 * blur.adjoint(blur.forward(z) - y)
    step = blur.gradient_step(z, blur.prepare(y), 0.7)
    torch.testing.assert_close(step, expected, rtol=1e-12, atol=1e-12)


def test_steps_in_fewer_passes_give_the_same_and_leave_their_inputs():
    """Without a gradient they are computed in place, and once for each operator."""
    shape = (40, 45)
    blur, z, y = operator(shape), images(shape), images(shape).flip(1)
    weight = torch.full((2, 1, 1), 0.1, dtype=torch.float64)
    prepared = blur.prepare(y)
    step, proximal = blur.gradient_step(z, prepared, 0.7), blur.prox_data(z, y, weight)
    with torch.no_grad():
        fast = operator(shape)
        kept = prepared.clone(), fast.power.clone(), z.clone(), y.clone()
        close = {"rtol": 1e-12, "atol": 1e-12}
        torch.testing.assert_close(fast.prepare(y), prepared, **close)
        torch.testing.assert_close(fast.gradient_step(z, prepared, 0.7), step, **close)
        torch.testing.assert_close(fast.prox_data(z, y, weight), proximal, **close)
        # The spectrum of one image cannot hold the result of two blurs.
        alone = fast.gradient_step(z[0], prepared, 0.7)
    assert alone.shape == z.shape
    torch.testing.assert_close(alone[0], step[0], **close)
    for now, before in zip((prepared, fast.power, z, y), kept, strict=True):
        assert torch.equal(now, before)


def test_flux_is_conserved():
    blur, x = operator((40, 45)), images((40, 45))
    torch.testing.assert_close(blur.forward(x).sum((1, 2)), x.sum((1, 2)))


def test_operator_is_differentiable_in_the_coefficients():
    family = ZernikeFamily(pupil_samples=31)
    x = images((32, 32), batch=1)[0]
    gamma = torch.full((7,), 0.05, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda g: family.operator(g, (32, 32)).forward(x)[::8, ::8], gamma, atol=1e-6
    )


def test_float32_agrees_with_float64():
    x = images((40, 40))
    single = operator((40, 40), torch.float32).forward(x.float())
    double = operator((40, 40)).forward(x)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), double.numpy(), atol=2e-5)


def test_wiener_undoes_the_blur_without_noise():
    blur, x = operator((64, 64)), images((64, 64))
    smooth = blur.forward(x)
    restored = blur.wiener(blur.forward(smooth), 1e-6)
    assert (restored - smooth).norm() < 0.03 * smooth.norm()


def test_a_psf_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match=r"31 × 31 pixels does not fit .* 30 × 64"):
        Convolution(torch.rand(31, 31), (30, 64))
    with pytest.raises(ValueError, match="odd sides"):
        Convolution(torch.rand(4, 5), (30, 64))


@pytest.mark.parametrize("shape", [(32, 36), (33, 35)])
def test_the_spectral_mean_is_that_of_the_whole_spectrum(shape):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, *shape, generator=generator, dtype=torch.float64)
    half, whole = torch.fft.rfft2(image).abs(), torch.fft.fft2(image).abs()
    found = operator(shape).spectral_mean(half)
    expected = whole.mean((1, 2), keepdim=True)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_the_proximal_step_minimises_its_objective():
    blur, z, y = operator((40, 45)), images((40, 45)), images((40, 45)).flip(1)
    weight = torch.tensor([0.02, 0.3], dtype=torch.float64)[:, None, None]
    x = blur.prox_data(z, y, weight)
    # AᵀA x + λ x = Aᵀ y + λ z.
    left = blur.adjoint(blur.forward(x)) + weight * x
    right = blur.adjoint(y) + weight * z
    torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


def test_the_proximal_step_with_a_mask_is_near_the_exact_one():
    """The closed form is approximate at the frame's border; its error is bounded."""
    family, shape, frame = ZernikeFamily(), (96, 96), (66, 66)
    gamma = family.sample(1, torch.Generator().manual_seed(1))
    blur = family.operator(gamma, shape, frame)
    x = torch.nn.functional.avg_pool2d(images((98, 98), torch.float32, 1), 3, 1)
    y, z = blur.forward(x), x + 0.1 * images(shape, torch.float32, 1)
    weight = torch.full((1, 1, 1), 0.05)
    exact = prox_by_conjugate_gradient(blur, z, y, weight, 60)
    found = blur.prox_data(z, y, weight)
    inside = (slice(None), slice(31, 65), slice(31, 65))
    assert (found - exact)[inside].norm() < 0.03 * (exact - z)[inside].norm()
    assert (found - exact).norm() < 0.5 * (exact - z).norm()
