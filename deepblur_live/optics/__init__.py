"""The physics of one point: pupil → PSF, Zernike modes, borders, noise, metrics."""

from deepblur_live.optics.borders import extend, frame_mask, margin, seven_smooth
from deepblur_live.optics.metrics import psf_snr, psnr, ssim
from deepblur_live.optics.noise import CameraNoise
from deepblur_live.optics.otf import otf

__all__ = [
    "CameraNoise",
    "extend",
    "frame_mask",
    "margin",
    "otf",
    "psf_snr",
    "psnr",
    "seven_smooth",
    "ssim",
]
