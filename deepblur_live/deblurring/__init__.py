"""Frame and A(γ) → sharp frame: unrolled FISTA with a learned proximal operator."""

from deepblur_live.deblurring.fista import UnrolledFista
from deepblur_live.deblurring.proximal import ProximalNet

__all__ = ["ProximalNet", "UnrolledFista"]
