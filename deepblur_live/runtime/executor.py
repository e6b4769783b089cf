"""Running the networks: the seam, and torch as its reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from deepblur_live.deblurring import FoldedFista, UnrolledFista
from deepblur_live.optics import Convolution, ZernikeFamily, extend, margin
from deepblur_live.runtime.device import choose_precision

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.runtime.pack import ModelPack

__all__ = ["Executor", "Server", "TorchExecutor", "deblur_frame"]


class Server(Protocol):
    """What has deblurred a frame."""

    @property
    def description(self) -> str:
        """What runs where, for a person to read."""


class Executor(Protocol):
    """Runs a model's two networks on one device."""

    @property
    def description(self) -> str:
        """What runs where, for a person to read."""

    @property
    def server(self) -> Server:
        """What deblurred the last frame."""

    @property
    def reference(self) -> Server:
        """What gives second opinions."""

    @property
    def device(self) -> torch.device:
        """Where tensors go."""

    def identify(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return coefficients (P,) and deviations (P,) for (1, 2, 64, 32) inputs."""

    def deblur(
        self, image: torch.Tensor, coefficients: torch.Tensor, sigma: float
    ) -> torch.Tensor:
        """Return the sharp (H, W) of an image scaled to about [0, 1]."""

    def second_opinion(
        self,
        image: torch.Tensor,
        coefficients: torch.Tensor,
        sigma: float,
        server: Server,
    ) -> torch.Tensor | None:
        """Return what the reference makes of a server's frame; None of its own."""

    def distrust(self, server: Server, why: str) -> None:
        """Serve by the next best from now on: a server's answer was wrong."""

    def card_failed(self) -> None:
        """Count a failure of the card against what has run on it."""

    def take_notes(self) -> list[str]:
        """Return what the user should know since the last call."""

    def close(self) -> None:
        """End what goes on in the background."""


class TorchExecutor:
    """The reference: torch on the CPU or a CUDA card.

    Parameters
    ----------
    pack
        The model.
    family
        The rig's blurs.
    device
        Where to run.
    half
        Convolutions in bfloat16; FFTs stay in float32. By default where
        `choose_precision` says so.

    Attributes
    ----------
    dtype
        Of the convolutions.
    """

    def __init__(
        self,
        pack: ModelPack,
        family: ZernikeFamily,
        device: torch.device,
        *,
        half: bool | None = None,
    ) -> None:
        self.device = device
        self._family = family
        if half is None:
            self.dtype = choose_precision(device)[0]
        else:
            self.dtype = torch.bfloat16 if half else torch.float32
        self._identification = pack.identification.to(device)
        self._deblurring = pack.deblurring.to(device)
        self._deblurring.proximal.use_channels_last()
        self._folded: FoldedFista | None = None
        if isinstance(self._deblurring, UnrolledFista):
            self._folded = FoldedFista(self._deblurring, self.dtype)

    @property
    def description(self) -> str:
        """What runs where."""
        precision = str(self.dtype).removeprefix("torch.")
        return f"torch {torch.__version__} on {self.device.type}, {precision}"

    @property
    def server(self) -> Server:
        """What deblurs all frames."""
        return self

    @property
    def reference(self) -> Server:
        """The same."""
        return self

    def second_opinion(
        self,
        image: torch.Tensor,
        coefficients: torch.Tensor,
        sigma: float,
        server: Server,
    ) -> torch.Tensor | None:
        """Return None: torch is the reference."""
        return None

    def distrust(self, server: Server, why: str) -> None:
        """Do nothing: there is no other to fall back to."""

    def card_failed(self) -> None:
        """Do nothing: torch itself is all there is."""

    def take_notes(self) -> list[str]:
        """Return what the user should know: nothing."""
        return []

    def close(self) -> None:
        """Do nothing: nothing goes on in the background."""

    @torch.no_grad()
    def identify(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return coefficients (P,) and deviations (P,), on the CPU."""
        coefficients, sigma = self._identification.decode(self.answer(inputs))
        return coefficients[0], sigma[0]

    @torch.no_grad()
    def answer(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return what the identification network says, undecoded, on the CPU."""
        output: torch.Tensor = self._identification(inputs.to(self.device))
        return output.cpu()

    @torch.no_grad()
    def deblur(
        self, image: torch.Tensor, coefficients: torch.Tensor, sigma: float
    ) -> torch.Tensor:
        """Return the sharp (H, W), on the executor's device."""
        psf = self._family.psf(coefficients.to(self.device, torch.float32))[None]

        def network(whole: torch.Tensor, operator: Convolution) -> torch.Tensor:
            if self._folded is not None:
                return self._folded(whole, operator, sigma)
            level = torch.tensor([sigma], dtype=torch.float32, device=self.device)
            half = self.dtype == torch.bfloat16
            with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
                sharp: torch.Tensor = self._deblurring(whole, operator, level)
            return sharp

        fold = self._deblurring.proximal.shrink
        return deblur_frame(network, image.to(self.device), psf, fold)


def deblur_frame(
    network: Callable[[torch.Tensor, Convolution], torch.Tensor],
    image: torch.Tensor,
    psf: torch.Tensor,
    fold: int,
) -> torch.Tensor:
    """Return the sharp (H, W) of a frame: continued over its border, deblurred, cut.

    Parameters
    ----------
    network
        From an image (1, H', W') and its operator to the sharp image.
    image
        (H, W) scaled to about [0, 1].
    psf
        (1, K, K), on the image's device.
    fold
        What the proximal network folds.
    """
    rows, columns = image.shape
    whole = extend(image[None], margin(psf.shape[-1]), fold)
    shape = (whole.shape[-2], whole.shape[-1])
    operator = Convolution(psf, shape, (rows, columns))
    return network(whole, operator)[0, :rows, :columns].float()
