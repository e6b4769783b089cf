"""Checks of a deblurred frame: finite, flux conserved, consistent with the frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from deepblur_live.optics import extend, frame_part
from deepblur_live.runtime.calibration import conserves_flux

if TYPE_CHECKING:
    from deepblur_live.blur import BlurFamily

__all__ = ["FrameChecks", "Verdict", "reblurs"]

# Allowed residual: this multiple of the residual of the frame itself, taken as a sharp
# image, plus a constant. See docs/decisions/0020-check-of-the-reblurred-frame.md
_SELF_RESIDUAL, _TOLERANCE = 1.2, 0.005


@torch.no_grad()
def reblurs(
    image: torch.Tensor,
    sharp: torch.Tensor,
    family: BlurFamily,
    coefficients: torch.Tensor,
    sigma: float,
) -> bool:
    """Return whether a sharp image, blurred again, is the frame to within its noise.

    Parameters
    ----------
    image, sharp
        (H, W) the scaled frame, and the deblurred one, on any devices.
    family, coefficients
        The blur: A(γ) and γ (P,).
    sigma
        Standard deviation of the noise.
    """
    kernels = tuple(k.to(sharp.device) for k in family.kernels(coefficients[None]))
    frame = image.to(sharp.device)
    margin = family.window // 2

    def residual(candidate: torch.Tensor) -> float:
        whole = extend(candidate.float()[None], 2 * margin)
        shape = (whole.shape[-2], whole.shape[-1])
        again = family.operator_from(kernels, shape).forward(whole)
        # The light that crosses the border is not known.
        inner = (slice(margin, -margin), slice(margin, -margin))
        part = frame_part(shape, (frame.shape[0], frame.shape[1]))
        return float((again[0][part] - frame)[inner].std())

    allowed = max(_SELF_RESIDUAL * residual(frame), sigma) + _TOLERANCE
    # NaN fails the comparison too.
    return residual(sharp) <= allowed


@dataclass(frozen=True)
class Verdict:
    """How much of a deblurred frame may be shown.

    Parameters
    ----------
    strength
        1 for the deblurred frame, 0 for the raw one; between them a mixture.
    reason
        Why it is not 1, in a few words; empty otherwise.
    """

    strength: float = 1.0
    reason: str = ""


class FrameChecks:
    """Flux and finiteness of every frame; every n-th is also blurred again.

    Parameters
    ----------
    family
        The rig's blurs.
    reblur_every
        Number of frames from one such check to the next. After a failure every frame is
        checked until one passes.
    """

    def __init__(self, family: BlurFamily, reblur_every: int = 30) -> None:
        self._family = family
        self._every = reblur_every
        self._since = reblur_every - 1

    def next_frame(self) -> None:
        """Count a frame."""
        self._since += 1

    def verdict(
        self,
        image: torch.Tensor,
        sharp: torch.Tensor,
        coefficients: torch.Tensor,
        sigma: float,
    ) -> Verdict:
        """Judge a deblurred frame; arguments as `reblurs`.

        May be called more than once per frame.
        """
        if not conserves_flux(image, sharp):
            return Verdict(0.0, "the deblurred frame failed its check of total light")
        if self._since < self._every:
            return Verdict()
        if not reblurs(image, sharp, self._family, coefficients, sigma):
            return Verdict(
                0.0, "the deblurred frame, blurred again, does not match the raw frame"
            )
        self._since = 0
        return Verdict()
