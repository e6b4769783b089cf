"""The deblurring network with its proximal network in four Triton kernels.

Importing this module needs Triton.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from deepblur_live.deblurring.folded import FoldedFista
from deepblur_live.deblurring.proximal import SLOPE
from deepblur_live.deblurring.triton_kernels import convolution, first_convolution

if TYPE_CHECKING:
    from deepblur_live.deblurring.fista import UnrolledFista

__all__ = ["Launch", "TritonFista"]

_LONGEST_STRIP = 64
# Each strip also loads the row above it and the row below.
_REPEATED = 2
# Where Triton's interpreter runs the kernels, without a card.
_PROCESSORS = 1
# A sum over fewer channels than this is not a matrix product for Triton.
_LEAST_CHANNELS = 16


@dataclass(frozen=True)
class Launch:
    """How the kernels are launched.

    Parameters
    ----------
    columns
        Of a strip: a power of two of at least 16.
    warps
        Of a program.
    stages
        Rows that are in flight from memory at once.
    together
        Programs that a multiprocessor has registers for.
    """

    columns: int = 128
    warps: int = 4
    stages: int = 2
    together: int = 2


# A Hopper card's product takes 64 rows, and shares the weights among four warps; on
# others each warp loads them for its own rows, of which it should have many.
_HOPPER, _LAUNCH, _HOPPER_LAUNCH = 9, Launch(), Launch(columns=64, together=4)


class TritonFista(FoldedFista):
    """`FoldedFista` whose proximal network is one Triton kernel a layer.

    Pixels are folded, cast, convolved, rectified, unfolded and added to the image in
    four passes, where torch takes about fifteen. The first image of a shape takes some
    seconds: kernels are compiled.

    Parameters
    ----------
    network
        The trained network, on its device; its weights are copied.
    dtype
        Of the products; sums are float32.
    launch
        How the kernels are launched; by default as fits the card.

    Raises
    ------
    ValueError
        When the kernels do not support the network's sizes.
    """

    def __init__(
        self,
        network: UnrolledFista,
        dtype: torch.dtype = torch.bfloat16,
        launch: Launch | None = None,
    ) -> None:
        if why_not := unsupported(network):
            raise ValueError(why_not)
        super().__init__(network, dtype)
        processors, usual, device = _PROCESSORS, _LAUNCH, network.momentum.device
        if device.type == "cuda":
            properties = torch.cuda.get_device_properties(device)
            processors = properties.multi_processor_count
            if properties.major == _HOPPER:
                usual = _HOPPER_LAUNCH
        self._launch = launch or usual
        self._at_once = processors * self._launch.together

    @torch.no_grad()
    def proximal(self, z: torch.Tensor, iteration: int) -> torch.Tensor:
        """Return the proximal point of images (B, H, W) in one of the iterations.

        For the noise that `prepare` was given last.
        """
        z = z.contiguous()
        batch, rows, columns = z.shape[0], z.shape[1] // 2, z.shape[2] // 2
        launch = self._launch
        across = -(-columns // launch.columns)
        strip = _strip(rows, across * batch, self._at_once)
        grid = across, -(-rows // strip), batch
        options = {
            "COLUMNS": launch.columns,
            "num_warps": launch.warps,
            "num_stages": launch.stages,
        }
        sizes = rows, columns, strip, SLOPE
        contrast = z if self._contrast is None else self._contrast.contiguous()
        weights = self._hidden[iteration]
        channels = len(weights[0][1])
        features = [
            z.new_empty((batch, rows, columns, channels), dtype=self._dtype)
            for _ in range(2)
        ]
        first_convolution[grid](
            *(z, contrast, features[0], *_flat(*weights[0]), *sizes),
            NOISE_MAP=self._contrast is not None,
            OUTPUTS=channels,
            **options,
        )
        for pair in weights[1:]:
            convolution[grid](
                *(features[0], z, features[1], *_flat(*pair), *sizes),
                LAST=False,
                INPUTS=channels,
                OUTPUTS=channels,
                **options,
            )
            features.reverse()
        sharp = torch.empty_like(z)
        convolution[grid](
            *(features[0], z, sharp, *_flat(*self._last), *sizes),
            LAST=True,
            INPUTS=channels,
            OUTPUTS=_LEAST_CHANNELS,
            **options,
        )
        return sharp


def unsupported(network: UnrolledFista) -> str:
    """Return why the kernels do not support a network; empty if they do."""
    proximal = network.proximal
    channels = len(proximal.layers[0].get_parameter("bias"))
    if proximal.shrink != 2:
        return f"it folds {proximal.shrink} × {proximal.shrink} pixels, not 2 × 2"
    if channels < _LEAST_CHANNELS or channels & (channels - 1):
        return f"{channels} channels: must be a power of two of at least 16"
    return ""


def _flat(
    weight: torch.Tensor, bias: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a weight (O, I, 3, 3), channels last, as (O, 3, 3, I), and the bias."""
    weight = weight.permute(0, 2, 3, 1)
    assert weight.is_contiguous(), "folded weights lie channels last"
    return weight, bias


def _strip(rows: int, across: int, at_once: int) -> int:
    """Return how many rows a strip should have.

    All strips take equally long, and as many as fit run at once, so that their time is
    that of the rounds needed.

    Parameters
    ----------
    rows
        To be divided into strips.
    across
        Strips side by side.
    at_once
        Strips that the card computes at once.
    """

    def time(strip: int) -> int:
        strips = across * -(-rows // strip)
        return -(-strips // at_once) * (strip + _REPEATED)

    return min(range(1, _LONGEST_STRIP + 1), key=time)
