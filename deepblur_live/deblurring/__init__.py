"""Frame and A(γ) → sharp frame: unrolled networks with a learned proximal operator."""

from deepblur_live.deblurring.architecture import (
    DEBLURRING_KINDS,
    DeblurringNet,
    build_deblurring,
)
from deepblur_live.deblurring.compiled import CompiledFista
from deepblur_live.deblurring.douglas_rachford import UnrolledDouglasRachford
from deepblur_live.deblurring.drunet import DRUNet
from deepblur_live.deblurring.fista import UnrolledFista
from deepblur_live.deblurring.folded import FoldedFista
from deepblur_live.deblurring.proximal import ProximalNet

__all__ = [
    "DEBLURRING_KINDS",
    "CompiledFista",
    "DRUNet",
    "DeblurringNet",
    "FoldedFista",
    "ProximalNet",
    "UnrolledDouglasRachford",
    "UnrolledFista",
    "build_deblurring",
]
