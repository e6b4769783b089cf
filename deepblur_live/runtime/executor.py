"""Running the networks: the seam, and torch as its reference."""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from deepblur_live.deblurring import FoldedFista, UnrolledFista
from deepblur_live.optics import Convolution, ZernikeFamily, extend

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.runtime.pack import ModelPack

__all__ = [
    "Choice",
    "Executor",
    "TorchExecutor",
    "choose_device",
    "deblur_frame",
    "tune_process",
]


class Executor(Protocol):
    """Runs a model's two networks on one device."""

    @property
    def description(self) -> str:
        """What runs where, for a person to read."""

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
        self, image: torch.Tensor, coefficients: torch.Tensor, sigma: float
    ) -> torch.Tensor | None:
        """Return what the reference makes of the frame; None where it did already."""

    def distrust(self, why: str) -> None:
        """Serve by the next best from now on: the last answer was wrong."""

    def take_notes(self) -> list[str]:
        """Return what the user should know since the last call."""

    def close(self) -> None:
        """End what goes on in the background."""


@dataclass(frozen=True)
class Choice:
    """Which device was chosen, and why."""

    device: torch.device
    why: str


def choose_device(wanted: str = "auto") -> Choice:
    """Choose where the networks run.

    Raises
    ------
    ValueError
        When a device is named that is not there.
    """
    if wanted == "cpu":
        return Choice(torch.device("cpu"), "asked for")
    if torch.cuda.is_available():
        return Choice(torch.device("cuda"), torch.cuda.get_device_name())
    if wanted == "cuda":
        raise ValueError("model.device 'cuda': torch finds no CUDA card here")
    return Choice(torch.device("cpu"), "torch finds no CUDA card")


def tune_process(threads: int | None = None) -> int:
    """Tune this process for inference on the CPU; return its number of threads.

    One core is left to the camera and the window. Large buffers are kept rather than
    returned to the system after each layer, which makes convolutions three times
    quicker with glibc.
    """
    count = threads or max(1, (os.cpu_count() or 2) - 1)
    torch.set_num_threads(count)
    if sys.platform == "linux":
        # M_TRIM_THRESHOLD = -1, M_MMAP_MAX = -4 (malloc.h); other C libraries lack it.
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(-4, 0)
            mallopt(-1, 2**30)
    return count


def _half_is_quicker(device: torch.device) -> bool:
    """Return whether bfloat16 convolutions run natively: without, they crawl."""
    if device.type != "cpu":
        return True
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


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
        Convolutions in bfloat16; FFTs stay in float32. By default where that is
        quicker: on a card, and on a CPU that can.
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
        self._half = _half_is_quicker(device) if half is None else half
        self._identification = pack.identification.to(device)
        self._deblurring = pack.deblurring.to(device)
        self._deblurring.proximal.use_channels_last()
        self._folded: FoldedFista | None = None
        if isinstance(self._deblurring, UnrolledFista):
            dtype = torch.bfloat16 if self._half else torch.float32
            self._folded = FoldedFista(self._deblurring, dtype)

    @property
    def description(self) -> str:
        """What runs where."""
        precision = "bfloat16" if self._half else "float32"
        return f"torch {torch.__version__} on {self.device.type}, {precision}"

    def second_opinion(
        self, image: torch.Tensor, coefficients: torch.Tensor, sigma: float
    ) -> torch.Tensor | None:
        """Return None: torch is the reference."""
        return None

    def distrust(self, why: str) -> None:
        """Do nothing: there is no other to fall back to."""

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
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
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
    whole = extend(image[None], psf.shape[-1] - 1, fold)
    shape = (whole.shape[-2], whole.shape[-1])
    operator = Convolution(psf, shape, (rows, columns))
    return network(whole, operator)[0, :rows, :columns].float()
