"""The parity gate: an engine that does not agree with torch is not used.

Half-precision engines are known to give wrong sums, black frames or NaN without any
error; only a comparison finds them. See
docs/decisions/0003-tensorrt-behind-a-parity-gate.md
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from deepblur_live.optics import NoiseModel

__all__ = [
    "LIMIT",
    "Parity",
    "compare",
    "trial_frame",
    "trial_noise",
    "trial_spectra",
]

LIMIT = 5e-3
"""Largest relative L2 error; a constant result has a larger one."""


@dataclass(frozen=True)
class Parity:
    """How an engine's result compares with torch's in float32.

    Parameters
    ----------
    what
        What was compared, for the user.
    error
        ‖result - reference‖ / ‖reference‖; not finite where the result is not.
    """

    what: str
    error: float

    @property
    def passed(self) -> bool:
        """Whether the engine may be used."""
        return self.error < LIMIT

    @property
    def text(self) -> str:
        """The verdict in a few words."""
        if not math.isfinite(self.error):
            return f"{self.what}: the engine's result is not finite"
        verdict = "agrees with" if self.passed else "differs from"
        return (
            f"{self.what}: the engine {verdict} torch, relative error "
            f"{self.error:.1e}, allowed {LIMIT:g}"
        )


def compare(what: str, result: torch.Tensor, reference: torch.Tensor) -> Parity:
    """Compare two tensors of one shape."""
    got, wanted = result.double().cpu(), reference.double().cpu()
    return Parity(what, float((got - wanted).norm() / wanted.norm()))


def trial_frame(shape: tuple[int, int]) -> torch.Tensor:
    """Return the test frame (H, W) for engines: blobs, edges and noise."""
    generator = torch.Generator().manual_seed(0)
    dots = torch.rand(1, 1, *shape, generator=generator) ** 40
    image = F.avg_pool2d(dots, 7, 1, 3, count_include_pad=False)
    image = image / image.max()
    image[..., : shape[0] // 3, : shape[1] // 4] += 0.3
    image += 0.01 * torch.randn(image.shape, generator=generator)
    return image[0, 0]


def trial_noise() -> NoiseModel:
    """Return the noise that is stated for the test frame: some of it shot noise."""
    slope, intercept, least = torch.tensor([[5e-4], [1e-4], [1e-6]])
    return NoiseModel(slope, intercept, least)


def trial_spectra(shape: tuple[int, ...]) -> torch.Tensor:
    """Return the test spectra (B, 2, H, W) for identification engines."""
    generator = torch.Generator().manual_seed(0)
    spectra = torch.randn(shape, generator=generator).clamp(-6, 6)
    spectra[:, 1] = torch.rand(spectra[:, 1].shape, generator=generator)
    return spectra
