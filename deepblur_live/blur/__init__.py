"""What a blur is: families A(γ), operators, symmetries, estimates and their errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

# These functions are named as their modules, so that importing the module later would
# replace the function in this package.
from deepblur_live.blur.extra_blur import extra_blur
from deepblur_live.blur.relative_error import relative_error
from deepblur_live.blur.wide_prior import wide_prior
from deepblur_live.lazy import lazy_names

if TYPE_CHECKING:
    from deepblur_live.blur.convolution import Convolution
    from deepblur_live.blur.diagnosis import Cause, ChangeShape
    from deepblur_live.blur.estimate import ErrorModel, Estimate, VerdictModel
    from deepblur_live.blur.family import BlurFamily, ChangeMetric, Quality
    from deepblur_live.blur.focus import focus_direction, focus_weights
    from deepblur_live.blur.marginal import expected_kernels, marginal_kernels
    from deepblur_live.blur.operator import LinearBlur, prox_by_conjugate_gradient
    from deepblur_live.blur.prior import AdmissibleSet, Box, Prior
    from deepblur_live.blur.registry import (
        FAMILIES,
        family_from_manifest,
        family_from_profile,
    )
    from deepblur_live.blur.symmetry import ResolvedBy, Symmetry, nearest, orbit

__all__ = [
    "FAMILIES",
    "AdmissibleSet",
    "BlurFamily",
    "Box",
    "Cause",
    "ChangeMetric",
    "ChangeShape",
    "Convolution",
    "ErrorModel",
    "Estimate",
    "LinearBlur",
    "Prior",
    "Quality",
    "ResolvedBy",
    "Symmetry",
    "VerdictModel",
    "expected_kernels",
    "extra_blur",
    "family_from_manifest",
    "family_from_profile",
    "focus_direction",
    "focus_weights",
    "marginal_kernels",
    "nearest",
    "orbit",
    "prox_by_conjugate_gradient",
    "relative_error",
    "wide_prior",
]

__getattr__ = lazy_names(
    __name__,
    {
        "AdmissibleSet": "prior",
        "BlurFamily": "family",
        "Box": "prior",
        "Cause": "diagnosis",
        "ChangeMetric": "family",
        "ChangeShape": "diagnosis",
        "Convolution": "convolution",
        "ErrorModel": "estimate",
        "Estimate": "estimate",
        "FAMILIES": "registry",
        "LinearBlur": "operator",
        "Prior": "prior",
        "Quality": "family",
        "ResolvedBy": "symmetry",
        "Symmetry": "symmetry",
        "VerdictModel": "estimate",
        "expected_kernels": "marginal",
        "family_from_manifest": "registry",
        "family_from_profile": "registry",
        "focus_direction": "focus",
        "focus_weights": "focus",
        "marginal_kernels": "marginal",
        "nearest": "symmetry",
        "orbit": "symmetry",
        "prox_by_conjugate_gradient": "operator",
    },
)
