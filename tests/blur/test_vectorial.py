"""The Gaussian that represents the vector nature of light."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from deepblur_live.blur import family_from_profile
from deepblur_live.optics import psf_snr
from deepblur_live.optics.pupil import vectorial_blur_nm
from deepblur_live.profile import Optics, Profile, ProfileError, check_profile

SAMPLES = 101
GAMMA = torch.tensor([0.05, 0.04, -0.06, 0.05, 0.02, 0.04, -0.05, 0.05]).double()


def family(optics, **more):
    known = {"apodisation": 1.0, "pixel_aperture": 0.0, "extra_blur_nm": "vectorial"}
    return family_from_profile(Profile(optics=Optics(**optics, **(known | more))))


def rotations(theta, phi):
    """Return (N, 3, 3) matrices that turn each ray of the pupil to the axis."""
    axis = np.stack([-np.sin(phi), np.cos(phi), 0 * phi], -1)
    cross = np.zeros((len(phi), 3, 3))
    cross[:, 0, 1], cross[:, 0, 2] = -axis[:, 2], axis[:, 1]
    cross[:, 1, 0], cross[:, 1, 2] = axis[:, 2], -axis[:, 0]
    cross[:, 2, 0], cross[:, 2, 1] = -axis[:, 1], axis[:, 0]
    angle = -theta[:, None, None]
    # Rodrigues' formula.
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def dipole_psf(of, gamma):
    """Return the PSF (K, K) of dipoles that rotate freely: each ray turned by itself.

    The field of a dipole is its part across the ray; the lens turns it with the ray.
    """
    u = np.linspace(-1, 1, SAMPLES)
    y, x = np.meshgrid(u, u, indexing="ij")
    rho, phi = np.hypot(x, y), np.arctan2(y, x)
    share = np.clip((1 - rho) * (SAMPLES - 1) / 2 + 0.5, 0, 1)
    inside = share > 0
    sine = of.numerical_aperture / of.refractive_index * np.minimum(rho[inside], 1)
    theta, phi = np.arcsin(sine), phi[inside]
    ray = np.stack([sine * np.cos(phi), sine * np.sin(phi), np.cos(theta)], -1)
    across = np.eye(3) - ray[:, :, None] * ray[:, None, :]
    fields = (rotations(theta, phi) @ across)[:, :2]
    grid = replace(of, pupil_samples=SAMPLES).pupil(torch.float64, torch.device("cpu"))
    wave = np.exp(-2j * np.pi * (gamma @ grid.modes).numpy()[inside.ravel()])
    wave = wave * share[inside] / np.sqrt(np.cos(theta))
    places = np.arange(of.window) - of.window // 2
    transform = np.exp(2j * np.pi * of.cutoff * places[:, None] * u)
    total = np.zeros((of.window, of.window))
    for component in fields.reshape(len(fields), -1).T:
        full = np.zeros((SAMPLES, SAMPLES), complex)
        full[inside] = component * wave
        total += np.abs(transform @ full @ transform.T) ** 2
    return torch.from_numpy(total / total.sum())


@pytest.mark.parametrize(
    ("optics", "least", "without"),
    [
        # An oil, a water and an air objective.
        ({}, 32, 18),
        (
            {
                "numerical_aperture": 1.1,
                "refractive_index": 1.33,
                "wavelength_nm": 520.0,
            },
            38,
            20,
        ),
        ({"numerical_aperture": 0.8, "refractive_index": 1.0}, 38, 20),
    ],
)
def test_a_gaussian_describes_freely_rotating_dipoles(optics, least, without):
    with_blur, scalar = family(optics), family(optics, extra_blur_nm=0.0)
    for gamma in (0 * GAMMA, GAMMA, -GAMMA.flip(0)):
        truth = dipole_psf(scalar, gamma)
        ours = with_blur.psf(gamma)
        assert psf_snr(ours / ours.sum(), truth) > least
        sharp = scalar.psf(gamma)
        assert psf_snr(sharp / sharp.sum(), truth) < without


def test_its_variance_at_small_angles_is_that_of_the_fields():
    """By differences of the fields over the pupil of a lens of small aperture."""
    step, sine = 1e-4, 1e-3
    turned = []
    for x, y in ((sine + step, 0.0), (sine, 0.0), (sine, step)):
        rho = np.hypot(x, y)
        theta, phi = np.array([np.arcsin(rho)]), np.array([np.arctan2(y, x)])
        ray = np.array([[x, y, np.sqrt(1 - rho**2)]])
        across = np.eye(3) - ray[:, :, None] * ray[:, None, :]
        turned.append((rotations(theta, phi) @ across)[0, :2])
    along = [(turned[k] - turned[1]) / step for k in (0, 2)]
    slope = sum((part**2).sum() for part in along) / (turned[1] ** 2).sum()
    # A field's variance in the image is that of its transform: (λ / 2πn)² per axis.
    expected = 1000.0 / (2 * np.pi) * np.sqrt(slope / 2)
    assert vectorial_blur_nm(sine, 1.0, 1000.0) == pytest.approx(expected, rel=1e-3)


def test_a_profile_names_it_or_a_number():
    blur = family({}).extra_blur_nm
    assert blur == vectorial_blur_nm(1.41 / 1.51, 1.51, 540.0)
    assert 40 < blur < 55
    for wrong in (-1, 2000, "scalar", True):
        with pytest.raises(ProfileError, match='from 0 to 1000 nm, or "vectorial"'):
            check_profile({"optics": {"extra_blur_nm": wrong}}, "rig.toml")
