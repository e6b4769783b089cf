"""A fixed Gaussian blur in the family's PSFs: its physics, and that all parts agree."""

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from deepblur_live.blur import extra_blur, family_from_profile
from deepblur_live.optics import psf_snr
from deepblur_live.profile import Optics, Profile, ProfileError, check_profile

GAMMA = torch.tensor([0.1, 0.05, -0.1, 0.05, 0.0, 0.05, -0.05, 0.05]).double()
SHARP = family_from_profile(Profile())
BLURRED = family_from_profile(Profile(optics=Optics(extra_blur_nm=105.0)))


def test_the_transfer_function_is_the_gaussians():
    """|ĥ| falls by exp(-2π²σ²f²), the Gaussian's transfer function."""
    wide = {"defocus_range_um": 3.0}
    side, sigma = 63, 0.6
    sharp, blurred = (
        family_from_profile(Profile(optics=Optics(extra_blur_nm=blur, **wide)))
        for blur in (0.0, 100 * sigma)
    )
    # The light on the pixels, before what the window lacks is made up for.
    light = [f._intensity(GAMMA, slopes=False)[0] for f in (sharp, blurred)]
    assert light[0].shape[-1] == side
    f = np.fft.fftfreq(side)
    square = f[:, None] ** 2 + f**2
    before, after = (np.abs(np.fft.fft2(part.numpy())) for part in light)
    inside = (np.sqrt(square) < 1.6 * sharp.cutoff) & (before > 0.02)
    assert inside.sum() > 800
    expected = np.exp(-2 * (math.pi * sigma) ** 2 * square)
    np.testing.assert_allclose((after / before)[inside], expected[inside], atol=0.01)


@pytest.mark.parametrize("sigma_nm", [30.0, 105.0])
def test_the_psf_is_a_convolution_with_a_gaussian(sigma_nm):
    """Brute force, on pixels of a fifth the size."""
    points = replace(SHARP, pixel_aperture=0.0, exact_defocus=False)
    fine = replace(points, pixel_size_nm=20.0).psf(GAMMA).numpy()
    half, sigma = len(fine) // 2, sigma_nm / 20
    places = np.arange(-half, half + 1)
    gauss = np.exp(-(places**2) / (2 * sigma**2))
    matrix = np.stack([np.roll(gauss, k) for k in places]) / gauss.sum()
    smooth = matrix @ fine @ matrix.T
    # The middles of the camera's pixels.
    side = 19
    rows = half + 5 * (np.arange(side) - side // 2)
    expected = smooth[np.ix_(rows, rows)]
    edge = points.window // 2 - side // 2
    ours = replace(points, extra_blur_nm=sigma_nm).psf(GAMMA)[edge:-edge, edge:-edge]
    expected = torch.from_numpy(expected / expected.sum())
    assert psf_snr(ours / ours.sum(), expected) > 38
    without = points.psf(GAMMA)[edge:-edge, edge:-edge]
    assert psf_snr(without / without.sum(), expected) < 27


def test_the_jacobian_is_the_derivative():
    family = replace(BLURRED, pupil_samples=63, bandwidth_nm=40.0)
    psf, jacobian = family.psf_and_jacobian(GAMMA)
    torch.testing.assert_close(psf, family.psf(GAMMA))
    step = 1e-6 * torch.eye(8, dtype=torch.float64)
    numeric = (family.psf(GAMMA + step) - family.psf(GAMMA - step)) / 2e-6
    torch.testing.assert_close(jacobian, numeric, rtol=1e-5, atol=1e-9)


def test_it_is_a_property_of_the_instrument_in_every_part():
    assert BLURRED != SHARP
    assert hash(BLURRED) != hash(SHARP)
    assert pickle.loads(pickle.dumps(BLURRED)) == BLURRED
    assert BLURRED.extra_blur == pytest.approx(1.05)
    assert extra_blur(BLURRED.coarse()) == pytest.approx(1.05)
    assert extra_blur(object()) == 0
    torch.testing.assert_close(BLURRED.kernels(GAMMA)[0], BLURRED.psf(GAMMA))
    # The deblurring divides by the same transfer function that identification fits.
    operator = BLURRED.operator(GAMMA, (64, 64))
    impulse = torch.zeros(64, 64, dtype=torch.float64)
    impulse[32, 32] = 1
    image, half = operator.forward(impulse), BLURRED.window // 2
    part = slice(32 - half, 32 + half + 1)
    torch.testing.assert_close(image[part, part], BLURRED.psf(GAMMA))


def test_without_it_nothing_changes():
    family = family_from_profile(Profile(optics=Optics(extra_blur_nm=0.0)))
    assert family == SHARP
    tiny = replace(SHARP, extra_blur_nm=0.5)
    torch.testing.assert_close(tiny.psf(GAMMA), SHARP.psf(GAMMA), rtol=0, atol=1e-5)


def test_a_blur_wider_than_half_the_resolution_is_refused_by_name():
    with pytest.raises(ValueError, match=r"extra_blur_nm 400: must be from 0 to 0\.5"):
        replace(SHARP, extra_blur_nm=400.0)
    with pytest.raises(ProfileError, match="extra_blur_nm"):
        check_profile({"optics": {"extra_blur_nm": -1}}, "rig.toml")
