"""The default family: exact defocus, apodisation, pixels with area, emission band."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from psf_generator.propagators import ScalarCartesianPropagator

from deepblur_live.blur import family_from_profile
from deepblur_live.optics import psf_snr
from deepblur_live.optics.pupil import defocus_per_um, exact_defocus, pixel_response
from deepblur_live.optics.zernike import zernike
from deepblur_live.profile import Optics, Profile

DEFAULT = family_from_profile(Profile())
APLANATIC = replace(DEFAULT, noll=(4, 11), ranges=0.5, apodisation=1, pixel_aperture=0)


def middle(psf, side=25):
    cut = (psf.shape[-1] - side) // 2
    inner = psf[..., cut : cut + side, cut : cut + side]
    return inner / inner.sum()


def over_the_disc(function):
    """Return the mean of a function of ρ over the unit disc, by Gauss's rule in ρ²."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    rho = torch.tensor((nodes + 1) / 2).sqrt()
    return float((function(rho) * torch.tensor(weights / 2)).sum())


def test_the_default_is_a_real_objective():
    assert DEFAULT.noll == (4, 5, 6, 7, 8, 9, 10, 11)
    assert DEFAULT.exact_defocus
    assert 0 < DEFAULT.apodisation < 1
    assert 0 < DEFAULT.pixel_aperture < 1
    np.testing.assert_allclose(DEFAULT.half_ranges[0], DEFAULT.focus_direction[0])


@pytest.mark.parametrize("sine", [0.019, 0.021, 0.3, 0.95, 1.0])
def test_exact_defocus_has_no_mean_and_unit_rms(sine):
    assert over_the_disc(lambda r: exact_defocus(r, sine)) == pytest.approx(0, abs=1e-5)
    square = over_the_disc(lambda r: exact_defocus(r, sine) ** 2)
    assert square == pytest.approx(1, abs=1e-4)


def test_exact_defocus_becomes_noll_4_at_small_angles():
    rho = torch.linspace(0, 1, 20, dtype=torch.float64)
    paraxial = zernike(4, rho, torch.zeros_like(rho))
    # The next term is of the order of sin²α.
    assert (exact_defocus(rho, 0.05) - paraxial).abs().max() < 0.05**2
    assert (exact_defocus(rho, 0.93) - paraxial).abs().max() > 0.2


@pytest.mark.parametrize(
    ("na", "index", "wavelength", "of_noll_4", "of_noll_11"),
    # Waves in 100 nm of defocus, by projection on a grid of the pupil.
    [(1.41, 1.515, 540, 0.049, 0.0056), (0.95, 1.0, 520, 0.036, 0.0046)],
)
def test_a_shift_of_the_focus_is_mostly_noll_4(
    na, index, wavelength, of_noll_4, of_noll_11
):
    per_um = defocus_per_um(na / index, index, wavelength)
    for noll, expected in ((4, of_noll_4), (11, of_noll_11)):
        share = over_the_disc(
            lambda r, noll=noll: (
                exact_defocus(r, na / index) * zernike(noll, r, torch.zeros_like(r))
            )
        )
        assert 0.1 * per_um * share == pytest.approx(expected, rel=0.05)


def test_defocus_per_micrometre_is_continuous_at_small_angles():
    low, high = (defocus_per_um(sine, 1.0, 500) for sine in (0.0199999, 0.0200001))
    assert high == pytest.approx(low, rel=1e-3)


@pytest.mark.parametrize("z_um", [0.0, 0.45])
def test_psf_agrees_with_another_implementation(z_um):
    window = APLANATIC.window
    # Its pixels are spaced by pix_size·n/(n - 1), its planes from -z·n/2 to z·n/2.
    other = ScalarCartesianPropagator(
        n_pix_pupil=255,
        n_pix_psf=window,
        wavelength=540.0,
        na=1.41,
        pix_size=100 * (window - 1) / window,
        defocus_step=2e3 / 3 * z_um,
        n_defocus=3,
        n_i=1.51,
        n_i0=1.51,
        apod_factor=True,
    )
    theirs = other.compute_focus_field()[-1, 0].abs() ** 2
    assert APLANATIC.focus_direction is not None
    gamma = torch.tensor(APLANATIC.focus_direction * z_um)
    assert psf_snr(APLANATIC.psf(gamma), theirs / theirs.sum()) > 45


def test_the_paraxial_form_differs_out_of_focus():
    """At NA 1.41 the two part at 0.4 µm by more than the blur is identified to."""
    paraxial = replace(APLANATIC, exact_defocus=False)
    for z_um, low, high in ((0.0, 100, np.inf), (0.2, 26, 34), (0.4, 13, 19)):
        gamma = torch.tensor(APLANATIC.focus_direction * z_um)
        snr = psf_snr(middle(paraxial.psf(gamma)), middle(APLANATIC.psf(gamma)))
        assert low < snr < high


def test_pixels_integrate_the_light_that_falls_on_them():
    """Against points within the pixels, which are camera pixels a fifth the size."""
    gamma = torch.tensor([0.1, 0.05, -0.1, 0.05, 0.0, 0.05, -0.05, 0.05])
    points = replace(DEFAULT, pixel_aperture=0.0, exact_defocus=False)
    fine = replace(points, pixel_size_nm=20.0)
    light = fine.psf(gamma.double())
    side, centre = 19, fine.window // 2
    edge = centre - 5 * (side // 2) - 2
    cells = light[edge : edge + 5 * side, edge : edge + 5 * side]
    cells = cells.view(side, 5, side, 5).sum((1, 3))
    half = points.window // 2 - side // 2
    ours = replace(points, pixel_aperture=1.0).psf(gamma.double())[
        half : half + side, half : half + side
    ]
    assert psf_snr(ours / ours.sum(), cells / cells.sum()) > 30
    assert psf_snr(points.psf(gamma.double())[half:-half, half:-half], cells) < 27


def test_pixel_response_of_a_point_is_the_identity():
    here = torch.device("cpu")
    response = pixel_response(0.0, 9, torch.float64, here)
    torch.testing.assert_close(response, torch.eye(9, dtype=torch.float64))
    # A constant stays the same, but for the window's edges.
    wide = pixel_response(1.0, 201, torch.float64, here)
    assert wide[100].sum() == pytest.approx(1, abs=1e-3)


def test_apodisation_makes_the_peak_narrower():
    zero = torch.zeros(2, dtype=torch.float64)
    psfs = [
        middle(replace(APLANATIC, apodisation=a).psf(zero)) for a in (0.0, 0.5, 1.0)
    ]
    heights = [float(psf[12, 13] / psf[12, 12]) for psf in psfs]
    assert heights == sorted(heights, reverse=True)


@pytest.mark.parametrize("apodisation", [0.0, 0.5, 1.0])
def test_energy_counts_all_light_of_the_pupil(apodisation):
    """Parseval: what lies outside the window falls as the window grows."""
    family = replace(APLANATIC, apodisation=apodisation)
    cuts = [
        float(replace(family, pixel_size_nm=size).energy_cut(torch.zeros(2)))
        for size in (60.0, 150.0)
    ]
    assert 0.01 < cuts[1] < cuts[0] < 0.06


def test_a_narrow_band_is_one_wavelength_and_a_wide_one_blurs():
    gamma = torch.tensor([0.1, 0.05, -0.1, 0.05, 0.0, 0.05, -0.05, 0.05]).double()
    single = DEFAULT.psf(gamma)
    narrow, wide = (replace(DEFAULT, bandwidth_nm=b).psf(gamma) for b in (1.0, 80.0))
    assert psf_snr(narrow, single) > 60
    assert 20 < psf_snr(wide, single) < 50
    # Gauss's rule at three wavelengths. A phase in waves is less at a longer one.
    offset = 40 * np.sqrt(0.6)
    lines = [
        middle(replace(DEFAULT, wavelength_nm=w).psf(gamma * 540 / w))
        for w in (540 - offset, 540, 540 + offset)
    ]
    mean = sum(w * line for w, line in zip((5, 8, 5), lines, strict=True)) / 18
    assert psf_snr(middle(wide), mean) > 35


def test_jacobian_of_the_default_is_the_derivative():
    family = replace(DEFAULT, pupil_samples=63, bandwidth_nm=40.0)
    gamma = family.search_points(1, torch.Generator().manual_seed(1)).double()
    psf, jacobian = family.psf_and_jacobian(gamma)
    torch.testing.assert_close(psf, family.psf(gamma))
    step = 1e-6 * torch.eye(8, dtype=torch.float64)
    numeric = (family.psf(gamma + step) - family.psf(gamma - step)) / 2e-6
    torch.testing.assert_close(jacobian[0], numeric, rtol=1e-5, atol=1e-9)


def test_the_window_holds_strong_defocus():
    ends = torch.zeros(8)
    ends[0] = DEFAULT.half_ranges[0]
    assert DEFAULT.energy_cut(ends) < 0.11
    narrow = family_from_profile(Profile(optics=Optics(defocus_range_um=0.2)))
    assert narrow.window < DEFAULT.window


def test_search_points_are_mostly_near_focus():
    points = DEFAULT.search_points(4000, torch.Generator().manual_seed(0)).abs()
    usual = torch.tensor(DEFAULT.prior.scale)
    assert 0.7 < (points[:, 0] < usual[0]).float().mean() < 0.9
    assert points[:, 0].max() > 0.9 * DEFAULT.half_ranges[0]
    assert (points <= torch.tensor(DEFAULT.half_ranges)).all()


@pytest.mark.parametrize(
    ("key", "value"),
    [("apodisation", 1.1), ("pixel_aperture", -0.1), ("bandwidth_nm", 540.0)],
)
def test_impossible_values_are_refused_by_name(key, value):
    with pytest.raises(ValueError, match=key):
        replace(DEFAULT, **{key: value})
