"""The physics of one point: pupil → PSF, Zernike modes, borders, noise, metrics."""

from deepblur_live.optics.borders import (
    extend,
    frame_mask,
    frame_part,
    margin,
    seven_smooth,
)
from deepblur_live.optics.means import box_mean
from deepblur_live.optics.metrics import psf_snr, psnr, ssim
from deepblur_live.optics.noise import CameraNoise, NoiseModel, local_light
from deepblur_live.optics.noise_fit import contradiction, measure_noise
from deepblur_live.optics.otf import otf

__all__ = [
    "CameraNoise",
    "NoiseModel",
    "box_mean",
    "contradiction",
    "extend",
    "frame_mask",
    "frame_part",
    "local_light",
    "margin",
    "measure_noise",
    "otf",
    "psf_snr",
    "psnr",
    "seven_smooth",
    "ssim",
]
