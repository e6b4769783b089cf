"""Frame and A(γ) → sharp frame: unrolled FISTA with a learned proximal operator."""

from deepblur_live.deblurring.architecture import build_deblurring
from deepblur_live.deblurring.compiled import CompiledFista
from deepblur_live.deblurring.fista import UnrolledFista
from deepblur_live.deblurring.folded import FoldedFista
from deepblur_live.deblurring.proximal import ProximalNet

__all__ = [
    "CompiledFista",
    "FoldedFista",
    "ProximalNet",
    "UnrolledFista",
    "build_deblurring",
]
