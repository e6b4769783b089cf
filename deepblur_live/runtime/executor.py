"""Run a model's two networks with torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from deepblur_live.blur import expected_kernels
from deepblur_live.deblurring import FoldedFista
from deepblur_live.optics import extend, frame_part, margin, seven_smooth
from deepblur_live.runtime.device import choose_precision

if TYPE_CHECKING:
    from deepblur_live.blur import BlurFamily, LinearBlur
    from deepblur_live.optics import NoiseModel
    from deepblur_live.runtime.pack import ModelPack

__all__ = ["TorchExecutor", "deblur_frame", "extended_shape", "frame_operator"]


class TorchExecutor:
    """Torch on the CPU or a CUDA card: the reference for every other executor.

    Parameters
    ----------
    pack
        The model.
    family
        The rig's blurs.
    device
        Device of the tensors.
    half
        Whether convolutions are in bfloat16 (FFTs stay in float32); by default as
        `choose_precision` decides.

    Attributes
    ----------
    dtype
        Data type of the convolutions.
    notes
        Messages to the user; emptied by whoever reports them.
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
        self._family, self._weights = family, pack.weights
        if half is None:
            self.dtype = choose_precision(device)[0]
        else:
            self.dtype = torch.bfloat16 if half else torch.float32
        self._identification = pack.identification.to(device)
        self._deblurring = pack.deblurring.to(device)
        self._deblurring.proximal.use_channels_last()
        self._folded = FoldedFista(self._deblurring, self.dtype)
        # The last frame's coefficients and covariance, and their kernels.
        self._last: (
            tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]] | None
        ) = None
        # The last frame's kernels and size, and their operator.
        self._operator: (
            tuple[tuple[torch.Tensor, ...], tuple[int, int], LinearBlur] | None
        ) = None

    @property
    def description(self) -> str:
        """Version, device, precision and weights."""
        precision = str(self.dtype).removeprefix("torch.")
        return (
            f"torch {torch.__version__} on {self.device.type}, {precision}, "
            f"{self._weights} weights"
        )

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
        self,
        image: torch.Tensor,
        coefficients: torch.Tensor,
        covariance: torch.Tensor,
        noise: NoiseModel,
    ) -> torch.Tensor:
        """Return the sharp (H, W), on the executor's device.

        Parameters
        ----------
        image
            (H, W) scaled to about [0, 1], on any device.
        coefficients, covariance
            γ (P,) and its covariance (P, P), on the CPU; zeros where γ is exact.
        noise
            Noise of the image, in its units.
        """
        kernels = self._kernels_of(coefficients, covariance)
        return deblur_frame(
            self._folded,
            image.to(self.device),
            self._operator_of(kernels, (image.shape[0], image.shape[1])),
            noise.to(self.device),
            self._family.window,
            self._deblurring.proximal.shrink,
        )

    def _operator_of(
        self, kernels: tuple[torch.Tensor, ...], frame: tuple[int, int]
    ) -> LinearBlur:
        # It takes 2 ms, and changes only with the kernels.
        last = self._operator
        if last is None or last[0] is not kernels or last[1] != frame:
            fold = self._deblurring.proximal.shrink
            operator = frame_operator(self._family, kernels, frame, fold)
            last = self._operator = kernels, frame, operator
        return last[2]

    def _kernels_of(
        self, coefficients: torch.Tensor, covariance: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        # They take 10 ms, and the track changes only with an identification.
        last = self._last
        if (
            last is None
            or not torch.equal(last[0], coefficients)
            or not torch.equal(last[1], covariance)
        ):
            gamma = coefficients.float()
            if self.device.type == "cuda":
                # From page-locked memory it does not wait for the last frame.
                gamma = gamma.pin_memory().to(self.device, non_blocking=True)
            kernels = expected_kernels(self._family, gamma, covariance.float())
            last = self._last = coefficients.clone(), covariance.clone(), kernels
        return last[2]


def extended_shape(shape: tuple[int, int], window: int, fold: int) -> tuple[int, int]:
    """Return the sides of a frame after `extend` has extended it over its border.

    Parameters
    ----------
    shape
        (H, W) of the frame.
    window
        Side of the PSF.
    fold
        The proximal network's `shrink`.
    """
    rows, columns = (seven_smooth(side + margin(window), fold) for side in shape)
    return rows, columns


def frame_operator(
    family: BlurFamily,
    kernels: tuple[torch.Tensor, ...],
    frame: tuple[int, int],
    fold: int,
) -> LinearBlur:
    """Return the blur of frames (H, W) that are extended over their border.

    Parameters
    ----------
    family, kernels
        The rig's blurs, and the kernels of one γ.
    frame
        (H, W).
    fold
        The proximal network's `shrink`.
    """
    shape = extended_shape(frame, family.window, fold)
    return family.operator_from(kernels, shape, frame)


def deblur_frame(
    fista: FoldedFista,
    image: torch.Tensor,
    operator: LinearBlur,
    noise: NoiseModel,
    window: int,
    fold: int,
) -> torch.Tensor:
    """Return the sharp (H, W) of a frame, extended over its border and cropped again.

    Parameters
    ----------
    fista
        The deblurring network.
    image
        (H, W) scaled to about [0, 1].
    operator
        The blur, from `frame_operator`, on the image's device.
    noise
        Noise of the image, on its device.
    window
        Side of the PSF.
    fold
        The proximal network's `shrink`.
    """
    frame, border = (image.shape[0], image.shape[1]), margin(window)
    extended = extend(image[None], border, fold)
    # Extend the noise map itself: where the frame's extension is blended, its own noise
    # is less than the map should say.
    sigma = extend(noise.map(image[None]), border, fold)
    sharp = fista(extended, operator, sigma)
    return sharp[0][frame_part(operator.shape, frame)].float()
