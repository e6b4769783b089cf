"""Focus sweeps: γ with the sign of the even modes, from PSFs of another code."""

import math

import numpy as np
import pytest
import torch
from specimens import ERRORS, cells

from deepblur_live.blur import focus_direction
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.identification import SweepError, identify_sweep
from deepblur_live.identification.sweep import search as sweep_search
from deepblur_live.identification.sweep.fit import SweepPrior, _residuals, fit_sweep
from deepblur_live.identification.sweep.problem import sweep_problem
from deepblur_live.identification.sweep.registration import lateral_shifts, registered
from deepblur_live.profile import Optics

FAMILY = ZernikeFamily.from_optics(Optics())
PER_UM = focus_direction(FAMILY)
EVEN = FAMILY.even
Z = np.array([-0.4, 0.0, 0.4])
TRUTH = np.array([0.06, -0.05, 0.04, 0.05, -0.03, 0.02, 0.03, -0.04])
SIDE, CUT = 256, 24


@pytest.fixture(autouse=True)
def quick_search(monkeypatch):
    """A search of a tenth of the size; its breadth is a matter of the evaluation."""
    monkeypatch.setattr(sweep_search, "_TRIED", 300)
    monkeypatch.setattr(sweep_search, "_STARTS", 5)
    monkeypatch.setattr(sweep_search, "_ROUNDS", 1)


def scalar_psf(gamma, z_um, half=24, samples=96):
    """|FT of the pupil|², integrated over pixels: exact defocus, aplanatic, 4–11.

    Zernike polynomials are written out; the transform is a plain sum.
    """
    na, n, wavelength, pixel = 1.41, 1.51, 0.54, 0.1
    u = (np.arange(samples) + 0.5) / samples * 2 - 1
    y, x = np.meshgrid(u, u, indexing="ij")
    r2, inside = x**2 + y**2, x**2 + y**2 <= 1
    s6, s8 = math.sqrt(6), math.sqrt(8)
    modes = {
        5: 2 * s6 * x * y,
        6: s6 * (x**2 - y**2),
        7: s8 * (3 * r2 - 2) * y,
        8: s8 * (3 * r2 - 2) * x,
        9: s8 * (3 * x**2 * y - y**3),
        10: s8 * (x**3 - 3 * x * y**2),
        11: math.sqrt(5) * (6 * r2**2 - 6 * r2 + 1),
    }
    cosine = np.sqrt(1 - (na / n) ** 2 * np.minimum(r2, 1))
    path = n / wavelength * (1 - cosine)
    path -= path[inside].mean()
    unit = path / np.sqrt((path[inside] ** 2).mean())
    phase = z_um * path + gamma[0] * unit
    for value, mode in zip(gamma[1:], modes.values(), strict=True):
        phase = phase + value * mode
    field = np.where(inside, cosine**-0.25 * np.exp(-2j * np.pi * phase), 0)
    points = (np.arange(-half, half + 1)[:, None] + np.array([-0.25, 0.25])).ravel()
    transform = np.exp(2j * np.pi * na * pixel / wavelength * points[:, None] * u)
    intensity = np.abs(transform @ field @ transform.T) ** 2
    side = 2 * half + 1
    psf = intensity.reshape(side, 2, side, 2).sum((1, 3))
    return psf / psf.sum()


def through(specimen, psf):
    """The interior of a specimen's convolution with a PSF."""
    kernel = np.zeros(specimen.shape)
    kernel[: len(psf), : len(psf)] = psf
    kernel = np.roll(kernel, (-(len(psf) // 2),) * 2, (0, 1))
    image = np.fft.ifft2(np.fft.fft2(specimen) * np.fft.fft2(kernel)).real
    return image[CUT:-CUT, CUT:-CUT]


def specimen(seed=0):
    return cells(SIDE + 2 * CUT, seed)[: SIDE + 2 * CUT, : SIDE + 2 * CUT].numpy()


def planes_of(gamma, z_um=Z, sigma=0.003, seed=0):
    chance = np.random.default_rng(seed)
    sharp = specimen(seed)
    images = [through(sharp, scalar_psf(gamma, z)) for z in z_um]
    noisy = [image + sigma * chance.standard_normal(image.shape) for image in images]
    return torch.from_numpy(np.stack(noisy))


@pytest.fixture(scope="module")
def planes():
    return planes_of(TRUTH)


def problem_of(planes, z_um=Z):
    z, direction = torch.from_numpy(z_um), torch.from_numpy(PER_UM)
    return sweep_problem(FAMILY, planes, z, direction, 64)


def test_the_other_code_agrees_with_the_family():
    for z in Z:
        psf = FAMILY.psf(torch.from_numpy(TRUTH + z * PER_UM)).numpy()
        other = scalar_psf(TRUTH, z, half=FAMILY.window // 2)
        # Half-apodised pupil and the sensitive area of a pixel differ a little.
        error = np.sum((psf - other) ** 2) / np.sum(other**2)
        assert -10 * math.log10(error) > 20


def test_modes_with_signs_and_what_to_do(planes):
    shares = []
    result = identify_sweep(FAMILY, planes, Z, ERRORS, shares.append)
    assert result.coefficients == pytest.approx(TRUTH, abs=0.02)
    refocus = -TRUTH[0] / PER_UM[0]
    assert result.refocus_um == pytest.approx(refocus, abs=0.04)
    assert result.chi2 < 2 and not result.thick and result.turn_known
    assert shares == sorted(shares) and shares[-1] == 1.0
    # The same stack the other way round has the opposite even modes.
    back = identify_sweep(FAMILY, planes, -Z, ERRORS)
    flipped = np.where(EVEN, -TRUTH, TRUTH)
    assert back.coefficients == pytest.approx(flipped, abs=0.02)
    assert back.refocus_um == pytest.approx(-refocus, abs=0.04)


def test_a_plane_elsewhere_gives_the_blur_there(planes):
    # Stated at z = 0: shifting the positions shifts the defocus alone.
    problem = problem_of(planes)
    fit = fit_sweep(problem, torch.from_numpy(TRUTH)[None], wide(), 10)
    moved = problem_of(planes, Z + 0.1)
    start = torch.from_numpy(TRUTH - 0.1 * PER_UM)[None]
    there = fit_sweep(moved, start, wide(), 10)
    change = (there.gamma - fit.gamma)[0].numpy()
    assert change == pytest.approx(-0.1 * PER_UM, abs=2e-3)


def wide():
    covariance = torch.eye(8, dtype=torch.float64)
    return SweepPrior(torch.zeros(8, dtype=torch.float64), covariance)


def test_brightness_of_the_planes_does_not_matter(planes):
    light = torch.tensor([1.0, 0.7, 1.6])[:, None, None]
    start = torch.from_numpy(TRUTH)[None]
    fits = [
        fit_sweep(problem_of(p), start, wide(), 10).gamma
        for p in (planes, light * planes)
    ]
    torch.testing.assert_close(*fits, atol=1e-4, rtol=0)


def test_the_derivatives_are_those_of_the_residuals(planes):
    """With the specimen eliminated, along a step the residual changes as stated."""
    problem = problem_of(planes)
    x = torch.from_numpy(TRUTH)[None]
    _, slopes = _residuals(problem, x)
    for mode in (0, 3, 7):
        step = torch.zeros(1, 8, dtype=torch.float64)
        step[0, mode] = 2e-3
        ahead, behind = (_residuals(problem, x + s)[0] for s in (step, -step))
        numeric = (ahead - behind)[0] / 4e-3
        error = (numeric - slopes[0, :, mode]).norm() / numeric.norm()
        assert float(error) < 0.1


def test_shifted_planes_are_registered(planes):
    rolls = [(3, -5), (0, 0), (-2, 4)]
    moved = torch.stack(
        [plane.roll(roll, (0, 1)) for plane, roll in zip(planes, rolls, strict=True)]
    )
    # Coma displaces a PSF out of focus by a pixel or two, without any motion.
    before = lateral_shifts(planes, 1, FAMILY.cutoff)
    shifts = lateral_shifts(moved, 1, FAMILY.cutoff)
    assert (shifts - before).tolist() == [list(roll) for roll in rolls]
    cut = registered(moved, torch.tensor(rolls))
    assert cut.shape == (3, SIDE - 5, SIDE - 9)
    # Away from what was rolled in at the border, each shows the same part.
    inner = registered(planes, torch.zeros(3, 2, dtype=torch.int64))[:, 10:-10, 10:-10]
    place = cut[:, 8 : 8 + inner.shape[1], 5 : 5 + inner.shape[2]]
    torch.testing.assert_close(place, inner[:, : place.shape[1], : place.shape[2]])


def test_one_plane_and_planes_out_of_order_are_refused(planes):
    for z, count, reason in (
        ([0.0], 1, "one plane"),
        ([0.0, 0.4], 2, "2 planes: give 3 to 7"),
        ([0.0, 0.4, 0.2], 3, "not monotone"),
        ([0.0, 0.01, 0.02], 3, "nm apart"),
    ):
        with pytest.raises(SweepError, match=reason):
            identify_sweep(FAMILY, planes[:count], np.array(z), ERRORS)


def test_a_focus_that_does_not_move_is_refused():
    still = planes_of(TRUTH, np.zeros(3))
    with pytest.raises(SweepError, match="the focus has not moved"):
        identify_sweep(FAMILY, still, Z, ERRORS)


def test_another_specimen_is_refused(planes):
    other = torch.stack([planes[0], planes[1], planes_of(TRUTH, Z[2:], seed=5)[0]])
    with pytest.raises(SweepError, match="the specimen moved"):
        identify_sweep(FAMILY, other, Z, ERRORS)


def test_noise_alone_is_refused():
    noise = torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with pytest.raises(SweepError, match="too little detail"):
        identify_sweep(FAMILY, noise, Z, ERRORS)


def test_a_thick_specimen_gives_its_direction_only():
    layers = [(0.8, 0.0, 0), (0.1, -0.8, 1), (0.1, 0.8, 2)]
    gamma = np.zeros(8)
    gamma[0] = 0.1
    images = [
        sum(w * through(specimen(s), scalar_psf(gamma, z - d)) for w, d, s in layers)
        for z in Z
    ]
    chance = np.random.default_rng(0)
    noisy = np.stack(images) + 0.003 * chance.standard_normal((3, SIDE, SIDE))
    result = identify_sweep(FAMILY, torch.from_numpy(noisy), Z, ERRORS)
    assert "different structures" in result.thick


def test_a_family_without_a_focus_is_refused_by_name(planes):
    astigmatism = ZernikeFamily(noll=(5, 6))
    with pytest.raises(ValueError, match="ZernikeFamily cannot be swept"):
        identify_sweep(astigmatism, planes, Z, ERRORS)
