"""Motion within an exposure: its effect on PSFs, and frames that show it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from specimens import ERRORS, FAMILY, LENIENT, blurred, cells

from deepblur_live.identification import Identifier, SpectralRefiner, welch
from deepblur_live.identification.motion import MotionCheck, MovedFamily
from deepblur_live.identification.search import LOCAL
from deepblur_live.identification.specimen import SpecimenSpectrum

MOVED = MovedFamily(FAMILY, 0.7)
GAMMA = torch.tensor([0.05, -0.06, 0.08, 0.04, -0.05, 0.03, 0.06])
# Some specimens, for a prior of their spectra that others of their kind follow.
SPECTRA = torch.stack([welch(cells(seed=100 + i))[0] for i in range(8)])
SPECIMEN = SpecimenSpectrum.learned(SPECTRA, 6)


def moved(image, way):
    """Return an image averaged over steps of a way (y, x) in pixels, periodically."""
    steps = (np.arange(512) + 0.5) / 512 - 0.5
    shift = -2j * torch.pi * torch.from_numpy(steps)[:, None]
    fy = torch.fft.fftfreq(image.shape[-2], dtype=torch.float64)
    fx = torch.fft.rfftfreq(image.shape[-1], dtype=torch.float64)
    # The sum over all steps of the product of the shifts along y and along x.
    down, right = torch.exp(shift * fy * way[0]), torch.exp(shift * fx * way[1])
    transfer = down.T @ right / len(steps)
    spectrum = torch.fft.rfft2(image.double()) * transfer
    return torch.fft.irfft2(spectrum, image.shape[-2:])


@pytest.mark.parametrize("way", [(3.0, 2.0), (0.0, 0.0), (-5.0, 0.0)])
def test_a_moved_psf_is_the_average_over_the_way(way):
    psf = MOVED.psf(torch.cat([GAMMA, torch.tensor(way)])[None])[0]
    still = torch.zeros(64, 64)
    still[: FAMILY.window, : FAMILY.window] = FAMILY.psf(GAMMA)
    assert psf.shape == (64, 64)
    assert torch.allclose(psf.double(), moved(still, way), atol=1e-4 * psf.max())


@pytest.mark.parametrize("way", [(3.0, 2.0), (1e-4, -1e-4)])
def test_slopes_of_a_moved_psf_are_its_derivatives(way):
    at = torch.cat([GAMMA, torch.tensor(way)]).double()[None]
    psf, slopes = MOVED.psf_and_jacobian(at)
    assert torch.equal(psf, MOVED.psf(at))
    for k in range(at.shape[1]):
        step = torch.zeros_like(at)
        step[0, k] = 1e-5
        brute = (MOVED.psf(at + step) - MOVED.psf(at - step)) / 2e-5
        assert torch.allclose(slopes[:, k], brute, atol=1e-6)


def test_prior_and_symmetries_are_the_familys_and_leave_the_way():
    assert len(MOVED.prior.mean) == MOVED.n_coefficients == 9
    assert np.allclose(np.sqrt(np.diag(MOVED.prior.covariance))[-2:], 0.7)
    point = torch.cat([GAMMA, torch.tensor([3.0, 2.0])])[None].double()
    psf = MOVED.psf(point)
    power = torch.fft.rfft2(psf).abs()
    for symmetry in MOVED.symmetries:
        image = symmetry.apply_rows(point)
        assert torch.equal(image[0, -2:], point[0, -2:])
        assert torch.allclose(torch.fft.rfft2(MOVED.psf(image)).abs(), power, atol=1e-5)


def frame(seed, way=(0.0, 0.0), gamma=GAMMA):
    """Return a frame (384, 384) of a specimen that moved during the exposure."""
    return blurred(moved(cells(384, seed), way).float(), gamma, 0.005, seed)


def found(image, gamma=GAMMA):
    """Return the motion that is found where the blur is about known."""
    refiner = SpectralRefiner(FAMILY, ERRORS, SPECIMEN)
    spectrum, averages = welch(image)
    data = refiner.prepare(spectrum, averages, 1)
    check = MotionCheck(refiner, ERRORS, SPECIMEN)
    return check.find(data, gamma.double().numpy())


def test_motion_is_found_with_its_length():
    for seed, way in enumerate([(3.0, 2.7), (-4.0, 1.5)]):
        motion = found(frame(seed, way))
        assert motion.clear, motion
        assert motion.pixels == pytest.approx(np.hypot(*way), abs=0.6)


@pytest.mark.parametrize("modes", [{}, {1: 0.15}, {2: 0.12}, {3: 0.15}])
def test_aberrations_are_no_motion(modes):
    gamma = GAMMA.clone() if not modes else torch.zeros(7)
    for k, value in modes.items():
        gamma[k] = value
    motion = found(frame(5, gamma=gamma), gamma)
    assert not motion.clear, motion


def solved(image):
    """Return the estimate of a frame by a quick search."""
    identifier = Identifier(FAMILY, LENIENT, specimen=SPECIMEN)
    identifier.refiner._library_size = 500
    identifier.observe(image, 0.0)
    start = GAMMA.double().numpy()
    problem = identifier.prepare(image, start)
    assert problem.search is not None
    quick = replace(problem, search=LOCAL, phases=False)
    return identifier.accept(identifier.solve(quick))


def test_a_frame_with_motion_is_refused_and_says_why():
    refused = solved(frame(1, (0.0, 5.0)))
    assert not refused.trusted
    assert "moved by about 5 pixels during the exposure" in refused.reason
    assert solved(frame(1)).trusted


def test_without_a_learned_prior_motion_is_not_looked_for():
    assert Identifier(FAMILY, ERRORS).motion is None
