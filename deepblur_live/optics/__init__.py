"""The physics: pupil → PSF → operator A(γ), its adjoint, the families, the noise."""

from deepblur_live.optics.borders import extend, margin, seven_smooth
from deepblur_live.optics.estimate import Estimate, reach
from deepblur_live.optics.family import BlurFamily
from deepblur_live.optics.metrics import psf_snr, psnr, ssim
from deepblur_live.optics.noise import CameraNoise
from deepblur_live.optics.operators import BlurOperator, Convolution
from deepblur_live.optics.zernike_family import (
    PAPER_MODES,
    SPHERICAL_MODES,
    ZernikeFamily,
)

__all__ = [
    "PAPER_MODES",
    "SPHERICAL_MODES",
    "BlurFamily",
    "BlurOperator",
    "CameraNoise",
    "Convolution",
    "Estimate",
    "ZernikeFamily",
    "extend",
    "margin",
    "psf_snr",
    "psnr",
    "reach",
    "seven_smooth",
    "ssim",
]
