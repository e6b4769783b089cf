"""The interface of operators, and a proximal step where none has a closed form."""

from __future__ import annotations

from typing import Protocol

import torch

__all__ = ["LinearBlur", "prox_by_conjugate_gradient"]


class LinearBlur(Protocol):
    """A linear blur A on images of one shape, batched over leading dimensions.

    All that it is made of are the kernels of its family (`BlurFamily.kernels`), so that
    a recorded CUDA graph can copy them into buffers that stay in place.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the images."""

    @property
    def mask(self) -> torch.Tensor | None:
        """(H, W): 1 where a camera recorded the image, falling to 0 outside the frame.

        None when the frame is the whole image.
        """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return A x, (..., H, W)."""

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Return Aᵀ y, (..., H, W)."""

    def prepare(self, y: torch.Tensor) -> torch.Tensor:
        """Return what `gradient_step` needs of the data y; computed once a frame."""

    def gradient_step(
        self, z: torch.Tensor, prepared: torch.Tensor, step: torch.Tensor | float
    ) -> torch.Tensor:
        """Return z - step · Aᵀ(A z - y), with ``prepared = prepare(y)``."""

    def prox_data(
        self,
        z: torch.Tensor,
        y: torch.Tensor,
        weight: torch.Tensor,
        typical_error: float | None = None,
    ) -> torch.Tensor:
        """Return the x near z that explains y: argmin ‖A x - y‖² + λ‖x - z‖².

        Parameters
        ----------
        z, y
            (B, H, W) the current image, and the data.
        weight
            λ, (B, 1, 1).
        typical_error
            Root mean square error of z that λ was chosen for. An operator that can
            measure the error of z from its residual may scale λ accordingly.

        Notes
        -----
        An operator may use an approximation, which its tests bound.
        """


def prox_by_conjugate_gradient(
    operator: LinearBlur,
    z: torch.Tensor,
    y: torch.Tensor,
    weight: torch.Tensor,
    steps: int = 10,
) -> torch.Tensor:
    """Return argmin ‖√M (A x - y)‖² + λ‖x - z‖² by conjugate gradient, M the mask.

    For operators whose proximal step has no closed form.

    Parameters
    ----------
    operator
        A.
    z, y
        (B, H, W) the current image, where the iteration starts, and the data.
    weight
        λ, (B, 1, 1).
    steps
        Number of iterations.
    """

    def masked(image: torch.Tensor) -> torch.Tensor:
        return image if operator.mask is None else image * operator.mask

    # (AᵀMA + λ)(x - z) = AᵀM(y - A z), starting at x = z.
    change = torch.zeros_like(z)
    residual = direction = operator.adjoint(masked(y - operator.forward(z)))
    size = residual.square().sum((-2, -1), keepdim=True)
    # Where z explains y exactly, 0 / 0 must not occur.
    tiny = torch.finfo(z.dtype).tiny
    for _ in range(steps):
        image = operator.adjoint(masked(operator.forward(direction)))
        image = image + weight * direction
        curvature = (direction * image).sum((-2, -1), keepdim=True)
        length = size / curvature.clamp(min=tiny)
        change = change + length * direction
        residual = residual - length * image
        new = residual.square().sum((-2, -1), keepdim=True)
        direction = residual + new / size.clamp(min=tiny) * direction
        size = new
    return z + change
