"""The family in PSF space: PSFs there and back, and that its blurs are PSFs."""

import numpy as np
import pytest
import torch
from calibrated_family import states

from deepblur_live.blur.psf_family import PsfFamily
from deepblur_live.blur.zernike import SPHERICAL_MODES, ZernikeFamily
from deepblur_live.calibration.psf_learning import learn_psf_family
from deepblur_live.optics import psf_snr
from deepblur_live.profile import Optics

LOCAL = ZernikeFamily(noll=SPHERICAL_MODES, pupil_samples=63)


def psfs(count, seed=0):
    gamma = torch.from_numpy(states(count, seed=seed, spread=0.01))
    return LOCAL.psf(gamma).numpy()


@pytest.fixture(scope="module")
def family():
    return learn_psf_family(psfs(60), LOCAL.cutoff, 8)


def test_new_psfs_are_in_its_span(family):
    """Eight eigen-PSFs of 60 states explain others far better than their mean does."""
    new = psfs(20, seed=3)
    flat = family.eigen.reshape(8, -1)
    c = (new - family.mean).reshape(20, -1) @ flat.T / (flat**2).sum(1)
    found = family.psf(torch.from_numpy(c))
    snr = float(psf_snr(found, torch.from_numpy(new)).mean())
    alone = float(psf_snr(torch.from_numpy(family.mean), torch.from_numpy(new)).mean())
    assert snr > alone + 8
    assert (family.prior.admissible.gauge(c) <= 1).mean() >= 0.9
    # Coefficients are the change relative to the mean PSF.
    change = np.linalg.norm(found[0].numpy() - family.mean)
    change /= np.linalg.norm(family.mean)
    assert family.metric.size(c[0]) == pytest.approx(change, rel=0.02)


def test_each_blur_is_a_psf(family):
    c = 5 * family.sample(20, torch.Generator().manual_seed(0))
    found = family.psf(c)
    assert found.min() >= 0
    torch.testing.assert_close(found.sum((-2, -1)), torch.ones(20))


def test_its_jacobian_is_the_derivative_where_light_is_cut_off_too(family):
    c = 3 * family.sample(2, torch.Generator().manual_seed(1)).double()
    psf, slopes = family.psf_and_jacobian(c)
    assert (psf == 0).any()
    torch.testing.assert_close(psf, family.psf(c))
    for k, step in enumerate(1e-7 * torch.eye(8, dtype=torch.float64)):
        numeric = (family.psf(c + step) - family.psf(c - step)) / 2e-7
        torch.testing.assert_close(slopes[:, k], numeric, rtol=1e-3, atol=1e-6)


def test_its_operator_and_words(family):
    c = family.sample(1, torch.Generator().manual_seed(0))[0]
    image = torch.zeros(64, 64)
    image[32, 32] = 1
    blurred = family.operator(c, (64, 64)).forward(image)
    half = family.window // 2
    part = slice(32 - half, 33 + half)
    torch.testing.assert_close(blurred[part, part], family.psf(c), atol=1e-6, rtol=0)
    assert family.names[0] == "eigen-PSF 1"
    assert family.metric.show(0.031) == "3.1 % of the PSF"
    (peak,) = family.quality(np.zeros(8))
    assert peak.value == pytest.approx(1, abs=1e-3)
    assert "60 PSFs" in family.describe()
    again = learn_psf_family(psfs(60), LOCAL.cutoff, 8)
    assert again == family
    assert hash(again) == hash(family)


def test_what_is_no_set_of_psfs_is_refused(family):
    good = psfs(5)
    for wrong, message in (
        (good[:2], "at least 3"),
        (good[:, :-1], "square PSFs"),
        (np.concatenate([good, np.full_like(good[:1], np.nan)]), "finite"),
        (np.concatenate([good, -good[:1]]), "more light"),
        (good[[0, 0, 0]], "these PSFs have 0"),
    ):
        with pytest.raises(ValueError, match=message):
            learn_psf_family(wrong, LOCAL.cutoff)
    with pytest.raises(ValueError, match="these PSFs have 4"):
        learn_psf_family(good, LOCAL.cutoff, 5)
    with pytest.raises(ValueError, match="sum 1"):
        PsfFamily(2 * family.mean, family.eigen, family.covariance, 3.0, 0.26)
    with pytest.raises(ValueError, match="learned from measured PSFs"):
        PsfFamily.from_optics(Optics())
