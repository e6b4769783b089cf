"""Images of beads through a stack, against other code, and fits against the bound."""

import numpy as np
import pytest
import torch
from evaluation.true_optics import TrueOptics

from deepblur_live.calibration.fit import ToFit, fit_beads, start_of
from deepblur_live.calibration.least_squares import PixelNoise
from deepblur_live.calibration.model import BeadParameters, StackModel
from deepblur_live.profile import Optics

OPTICS = Optics(refractive_index=1.515, apodisation=1.0, pixel_aperture=1.0)
TRUE = TrueOptics(1.41, 540, 1.515, 100, aplanatic=True, pixel_integration=True)
Z = tuple(np.linspace(-0.9, 0.9, 7))
MODES = tuple(range(5, 16))


def model(**changes):
    options = {"noll": MODES, "diameter_nm": 0.0, "z_um": Z, "side": 31} | changes
    return StackModel(OPTICS, **options)


def gammas(count, size=0.03):
    return np.random.default_rng(3).uniform(-size, size, (count, len(MODES)))


def true_images(gamma, row, column, z_um, half=15):
    """By other code: a shift in the specimen is a tilt of the pupil."""
    shift = model().cutoff / 2
    modes = dict(zip(MODES, gamma, strict=True)) | {2: column * shift, 3: row * shift}
    wide = [TRUE.psf(modes, z - z_um, half=45) for z in Z]
    return np.stack(wide)[:, 45 - half : 46 + half, 45 - half : 46 + half]


def test_images_agree_with_other_code():
    gamma = gammas(1)[0]
    theirs = true_images(gamma, 0.3, -0.4, 0.12)
    bead = BeadParameters(torch.from_numpy(gamma), 0.3, -0.4, 0.12, 1.0, 0.0)
    ours = model().image(bead).double().numpy()
    for mine, other in zip(ours, theirs, strict=True):
        scale = (mine * other).sum() / (mine**2).sum()
        error = ((scale * mine - other) ** 2).sum() / (other**2).sum()
        # Worst at 0.9 µm from the focus, where 47 points across the pupil are few.
        assert error < 4e-4
        # Their PSFs have sum 1 in 91 pixels, ours in all of the plane.
        assert 1.0 < scale < 1.03


@pytest.mark.parametrize("pixel_size_nm", [100.0, 150.0])
def test_slopes_agree_with_differences(pixel_size_nm):
    optics = OPTICS.model_copy(update={"pixel_size_nm": pixel_size_nm})
    shape = StackModel(optics, MODES, 200.0, Z, 21, torch.float64)
    gamma = torch.from_numpy(gammas(1)[0])
    vector = BeadParameters(gamma, 0.3, -0.4, 0.12, 100.0, 0.3).vector()
    (slopes,) = shape.images_and_slopes(vector[None]).slopes
    for k in range(len(vector)):
        step = torch.zeros_like(vector)
        step[k] = 1e-5
        above, below = (shape.images((vector + way * step)[None])[0] for way in (1, -1))
        by_difference = (above - below) / 2e-5
        assert torch.allclose(
            slopes[k], by_difference, atol=1e-5 * float(slopes[k].abs().max())
        )


def test_coarse_pixels_see_the_mean_of_fine_ones():
    """λ/(NA·px) = 2.55: the intensity is not sampled by the pixels."""
    coarse = OPTICS.model_copy(update={"pixel_size_nm": 150.0})
    fine = coarse.model_copy(update={"pixel_size_nm": 50.0})
    gamma = torch.from_numpy(gammas(1)[0])
    place = BeadParameters(gamma, 0.0, 0.0, 0.1, 1.0, 0.0)
    images = StackModel(coarse, MODES, 0.0, Z, 21).image(place)
    parts = StackModel(fine, MODES, 0.0, Z, 63).image(place)
    sums = parts.reshape(len(Z), 21, 3, 21, 3).sum((2, 4))
    assert torch.allclose(images, sums, atol=2e-4 * float(images.max()))


def test_errors_reach_the_cramer_rao_bound():
    """At 10⁴ photons a plane, with images from other code."""
    rng, shape = np.random.default_rng(0), model()
    noise, ratios = PixelNoise(1.6**2), []
    for gamma in gammas(4):
        row, column, z = rng.uniform(-0.4, 0.4, 3)
        mean = 1e4 * true_images(gamma, row, column, 0.3 * z) + 20
        data = [rng.poisson(mean) + rng.normal(0, 1.6, mean.shape) for _ in range(5)]
        crops = [torch.from_numpy(one) for one in data]
        starts = [ToFit(one, start_of(shape, one, blur=0.0)) for one in crops]
        for fit in fit_beads(shape, starts, noise, fit_blur=False):
            error = fit.coefficients - gamma
            p = len(gamma)
            bound = fit.covariance[:p, :p]
            ratios.append(error @ np.linalg.solve(bound, error) / p)
            assert abs(fit.bead.z_um - 0.3 * z) < 0.01
    # Mean squared error over the bound; its own deviation is 0.1.
    assert 0.7 < np.mean(ratios) < 1.44


def test_the_gaussian_is_measured():
    shape = model(diameter_nm=200.0)
    truth = BeadParameters(torch.from_numpy(gammas(1)[0]), 0.2, 0.1, 0.1, 3e4, 0.8)
    mean = shape.image(truth).double().numpy() + 20
    crop = torch.from_numpy(np.random.default_rng(1).poisson(mean).astype(float))
    (fit,) = fit_beads(shape, [ToFit(crop, start_of(shape, crop))], PixelNoise(0.0))
    assert fit.bead.blur == pytest.approx(0.8, abs=4 * fit.covariance[-1, -1] ** 0.5)
    assert fit.chi2 == pytest.approx(1, abs=0.1)


def test_defocus_is_no_mode():
    with pytest.raises(ValueError, match="defocus"):
        model(noll=(4, 5))
