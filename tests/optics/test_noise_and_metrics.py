"""Camera noise by its moments; metrics against closed forms and scikit-image."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from deepblur_live.optics import CameraNoise, psf_snr, psnr, ssim


@pytest.mark.parametrize("level", [0.0, 3.0, 500.0])
def test_camera_noise_has_the_stated_mean_and_variance(level):
    camera = CameraNoise(offset_adu=100, gain_e_per_adu=0.46, read_noise_e=1.6)
    electrons = torch.full((400, 400), level)
    grey = camera.sample(electrons, torch.Generator().manual_seed(0))
    assert grey.dtype == torch.float32
    mean, variance = camera.mean(electrons)[0, 0], camera.variance(electrons)[0, 0]
    n = grey.numel()
    assert abs(grey.mean() - mean) < 5 * math.sqrt(variance / n)
    assert abs(grey.var() / variance - 1) < 5 * math.sqrt(2.2 / n)
    assert mean == pytest.approx(100 + level / 0.46)
    assert variance == pytest.approx((level + 1.6**2) / 0.46**2)


def test_impossible_cameras_are_refused():
    with pytest.raises(ValueError, match="gain_e_per_adu 0"):
        CameraNoise(gain_e_per_adu=0)
    with pytest.raises(ValueError, match="read_noise_e -1"):
        CameraNoise(read_noise_e=-1)


def test_psf_snr_of_a_known_error():
    h = torch.rand(2, 5, 5)
    torch.testing.assert_close(psf_snr(1.1 * h, h), torch.full((2,), 20.0))


def test_psnr_and_ssim():
    rng = np.random.default_rng(0)
    truth = rng.random((64, 70))
    noisy = truth + 0.1 * rng.standard_normal(truth.shape)
    assert psnr(truth + 0.1, truth) == pytest.approx(20)
    assert psnr(20 * (truth + 0.1), 20 * truth, peak=20) == pytest.approx(20)
    ours = ssim(noisy, truth)
    theirs = structural_similarity(
        noisy,
        truth,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ours == pytest.approx(theirs, abs=1e-3)
    assert ssim(truth, truth) == pytest.approx(1)
