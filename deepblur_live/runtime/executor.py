"""Run a model's two networks with torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from deepblur_live.deblurring import FoldedFista
from deepblur_live.optics import extend, margin
from deepblur_live.runtime.device import choose_precision

if TYPE_CHECKING:
    from deepblur_live.blur import BlurFamily
    from deepblur_live.runtime.pack import ModelPack

__all__ = ["TorchExecutor", "deblur_frame"]


class TorchExecutor:
    """Torch on the CPU or a CUDA card: the reference for every other executor.

    Parameters
    ----------
    pack
        The model.
    family
        The rig's blurs.
    device
        Where tensors go.
    half
        Convolutions in bfloat16; FFTs stay in float32. By default where
        `choose_precision` says so.

    Attributes
    ----------
    dtype
        Of the convolutions.
    notes
        What the user should know; emptied by whoever reports it.
    """

    def __init__(
        self,
        pack: ModelPack,
        family: BlurFamily,
        device: torch.device,
        *,
        half: bool | None = None,
    ) -> None:
        self.device = device
        self.notes: list[str] = []
        self._family = family
        if half is None:
            self.dtype = choose_precision(device)[0]
        else:
            self.dtype = torch.bfloat16 if half else torch.float32
        self._identification = pack.identification.to(device)
        self._deblurring = pack.deblurring.to(device)
        self._deblurring.proximal.use_channels_last()
        self._folded = FoldedFista(self._deblurring, self.dtype)

    @property
    def description(self) -> str:
        """What runs where."""
        precision = str(self.dtype).removeprefix("torch.")
        return f"torch {torch.__version__} on {self.device.type}, {precision}"

    @torch.no_grad()
    def identify(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return coefficients (P,) and deviations (P,), on the CPU."""
        coefficients, sigma = self._identification.decode(
            self.identification_output(inputs)
        )
        return coefficients[0], sigma[0]

    @torch.no_grad()
    def identification_output(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the identification network's output, not decoded, on the CPU."""
        output: torch.Tensor = self._identification(inputs.to(self.device))
        return output.cpu()

    @torch.no_grad()
    def deblur(
        self, image: torch.Tensor, coefficients: torch.Tensor, sigma: float
    ) -> torch.Tensor:
        """Return the sharp (H, W), on the executor's device."""
        gamma = coefficients.to(self.device, torch.float32)
        kernels = self._family.kernels(gamma[None])
        fold = self._deblurring.proximal.shrink
        image = image.to(self.device)
        return deblur_frame(self._folded, image, self._family, kernels, sigma, fold)


def deblur_frame(
    fista: FoldedFista,
    image: torch.Tensor,
    family: BlurFamily,
    kernels: tuple[torch.Tensor, ...],
    sigma: float,
    fold: int,
) -> torch.Tensor:
    """Return the sharp (H, W) of a frame, extended over its border and cropped again.

    Parameters
    ----------
    fista
        The deblurring network.
    image
        (H, W) scaled to about [0, 1].
    family, kernels
        The rig's blurs, and the kernels of γ (1, P), on the image's device.
    sigma
        Standard deviation of the noise.
    fold
        The proximal network's `shrink`.
    """
    rows, columns = image.shape
    extended = extend(image[None], margin(family.window), fold)
    shape = (extended.shape[-2], extended.shape[-1])
    operator = family.operator_from(kernels, shape, (rows, columns))
    return fista(extended, operator, sigma)[0, :rows, :columns].float()
