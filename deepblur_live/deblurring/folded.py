"""The deblurring network for inference: modulation by noise folded into the weights.

In training each image has its own noise level, and the proximal network's features are
scaled and shifted per image, two more passes over memory per layer. A frame has one
level, so scale and shift are folded into the weights and biases.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from deepblur_live.deblurring.data_step import NETWORK_ERROR, data_weight, finish
from deepblur_live.deblurring.noise import noise_contrast, noise_level
from deepblur_live.deblurring.proximal import SLOPE

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.blur import LinearBlur
    from deepblur_live.deblurring.fista import UnrolledFista

__all__ = ["FoldedFista"]

_LAST = torch.channels_last
# Pixels that stay neighbours are moved together, as one number of so many bytes.
_WIDE = {4: torch.int32, 8: torch.int64, 16: torch.complex128}
# oneDNN always computes so many output channels at once, one or two vectors of them;
# the last layer then computes this many rows × columns of positions together.
_CHANNELS_AT_ONCE = {"AVX2": (8, (2, 1))}
_ELSEWHERE = 16, (2, 2)


class FoldedFista:
    """`UnrolledFista` for one frame at a time: the same numbers, faster.

    Weights are folded again, in place, when the noise level changes, and without a
    number that leaves the device: a CUDA graph records it with the frame's other steps.

    Parameters
    ----------
    network
        The trained network, on its device; its weights are copied.
    dtype
        Of the convolutions. Everything else is float32.
    """

    @torch.no_grad()
    def __init__(
        self, network: UnrolledFista, dtype: torch.dtype = torch.float32
    ) -> None:
        self._network, self._dtype = network, dtype
        self._steps: list[float] = network.steps().tolist()
        self._momenta: list[float] = network.momentum.tolist()
        self._contrast: torch.Tensor | None = None
        # What the proximal network reads, channels last: pixels, then the contrast.
        self._inputs: torch.Tensor | None = None
        self._data_weight = torch.zeros(1, 1, 1, device=network.momentum.device)
        *hidden, last = (
            (layer.get_parameter("weight"), layer.get_parameter("bias"))
            for layer in network.proximal.layers
        )
        self._source = hidden
        # Weights of all iterations in one tensor, so that a layer is folded at once;
        # the last layer they share.
        self._folded = [_repeated(pair, network.iterations, dtype) for pair in hidden]
        self._hidden = [
            [(weights[k], biases[k]) for weights, biases in self._folded]
            for k in range(network.iterations)
        ]
        self._last = _converted(last, dtype)
        device, fold = last[0].device, network.proximal.shrink
        self._convolve = _convolution(device, dtype)
        self._together: tuple[int, int] | None = None
        if device.type == "cpu" and _onednn_serves(dtype):
            capability = torch.backends.cpu.get_cpu_capability()
            channels, together = _CHANNELS_AT_ONCE.get(capability, _ELSEWHERE)
            if math.prod(together) * fold**2 <= channels:
                self._together = together
                self._last_together = _converted(_several(last, fold, together), dtype)

    @torch.no_grad()
    def fold(self, level: torch.Tensor) -> None:
        """Fold the modulation of one noise level into the weights.

        Parameters
        ----------
        level
            (1,) standard deviation of the noise, of images scaled to about [0, 1], on
            the network's device.
        """
        conditions = self._network.conditions(level)[:, 0]
        modulation = self._network.proximal.modulation(conditions)
        for (weight, bias), (scale, shift), (weights, biases) in zip(
            self._source, modulation, self._folded, strict=True
        ):
            weights.copy_(weight * scale[..., None, None, None])
            biases.copy_(torch.addcmul(shift, bias, scale))
        self._set_data_weight(level)

    def _set_data_weight(self, level: torch.Tensor) -> None:
        self._data_weight.copy_(data_weight(level.clamp(*self._network.sigma_range)))

    @torch.no_grad()
    def prepare(self, y: torch.Tensor, sigma: torch.Tensor) -> None:
        """Make `proximal` ready for images of noise `sigma`; see `__call__`."""
        network, level = self._network, noise_level(sigma, y)
        self.fold(level)
        self._contrast = self._inputs = None
        if network.noise_map:
            contrast = noise_contrast(sigma, level, y, network.proximal.shrink)
            self._contrast = contrast.to(self._dtype)
            batch, _, rows, columns = contrast.shape
            shape = (batch, rows, columns, network.proximal.shrink**2 + 1)
            self._inputs = self._contrast.new_empty(shape)
            self._inputs[..., -1] = self._contrast[:, 0]

    @torch.no_grad()
    def __call__(
        self, y: torch.Tensor, operator: LinearBlur, sigma: torch.Tensor
    ) -> torch.Tensor:
        """Deblur images (B, H, W); see `UnrolledFista.forward`.

        The noise `sigma` is one level (1,), or the map (1, H, W) of one image.
        """
        network = self._network
        self.prepare(y, sigma)
        prepared = operator.prepare(y)
        x = z = y
        for k, (step, momentum) in enumerate(
            zip(self._steps, self._momenta, strict=True)
        ):
            new = operator.gradient_step(z, prepared, step)
            if k >= network.plain:
                new = self.proximal(new, k)
            # new + momentum·(new - x), in one pass.
            z = torch.lerp(x, new, 1 + momentum)
            x = new
        for k in range(len(self._steps), self._network.iterations):
            z = operator.prox_data(x, y, self._data_weight, NETWORK_ERROR)
            x = self.proximal(z, k)
        fold = self._network.proximal.shrink
        return finish(x, y, operator, self._data_weight, fold)

    @torch.no_grad()
    def proximal(self, z: torch.Tensor, iteration: int) -> torch.Tensor:
        """Return the proximal point of images (B, H, W) in one of the iterations.

        For the noise that `prepare` was given last.
        """
        fold = self._network.proximal.shrink
        if self._inputs is None:
            features = _unshuffled(z.to(self._dtype), fold)
        else:
            # The contrast beside them stays in place: concatenating would copy both
            # again.
            for channel, (i, j) in enumerate(itertools.product(range(fold), repeat=2)):
                self._inputs[..., channel].copy_(z[:, i::fold, j::fold])
            features = self._inputs.permute(0, 3, 1, 2)
        for weight, bias in self._hidden[iteration]:
            features = self._convolve(features, weight, bias)
        rows, columns = features.shape[-2:]
        down, across = self._together or (1, 1)
        if self._together is None or rows % down or columns % across:
            weight, bias = self._last
            residual = F.conv2d(features, weight, bias, padding=1)
            return z + _shuffled(residual, fold, fold)
        weight, bias = self._last_together
        residual = F.conv2d(features, weight, bias, (down, across), padding=1)
        return z + _shuffled(residual, down * fold, across * fold)


def _converted(
    pair: tuple[torch.Tensor, torch.Tensor], dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return copies of a weight and a bias, in the layout convolutions prefer."""
    weight, bias = (tensor.detach().to(dtype, copy=True) for tensor in pair)
    return weight.contiguous(memory_format=_LAST), bias


def _repeated(
    pair: tuple[torch.Tensor, torch.Tensor], count: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return copies (count, ...) of a weight and a bias, each as by `_converted`."""
    weight, bias = pair
    # The channels of a weight (outputs, inputs, rows, columns) lie last.
    many = weight.detach().permute(0, 2, 3, 1).to(dtype).repeat(count, 1, 1, 1, 1)
    return many.permute(0, 1, 4, 2, 3), bias.detach().to(dtype).repeat(count, 1)


def _several(
    pair: tuple[torch.Tensor, torch.Tensor], fold: int, together: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the last layer for several positions at once: larger kernels, a stride.

    Its few output channels would leave most of the vector unit idle. Those of the
    positions are in the order that `_shuffled` expects.

    Parameters
    ----------
    pair
        Weight (fold², C, 3, 3) and bias.
    fold
        What the network folds.
    together
        Rows and columns of positions, which are the strides.
    """
    weight, bias = pair
    down, across = together
    places = weight.new_zeros(
        down, fold, across, fold, weight.shape[1], 2 + down, 2 + across
    )
    kernel = weight.view(fold, fold, -1, 3, 3)
    for i, j in itertools.product(range(down), range(across)):
        places[i, :, j, ..., i : i + 3, j : j + 3] = kernel
    biases = bias.view(1, fold, 1, fold).expand(down, fold, across, fold)
    return places.flatten(0, 3), biases.flatten()


def _convolution(
    device: torch.device, dtype: torch.dtype
) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return a 3×3 convolution with bias and leaky rectifier, in one pass if it can be.

    On the CPU a rectifier of its own takes a third of the convolution's time.
    """
    fused = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
    if device.type != "cpu" or fused is None or not _onednn_serves(dtype):

        def separate(
            x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
        ) -> torch.Tensor:
            y = F.conv2d(x, weight, bias, padding=1)
            return F.leaky_relu(y, SLOPE, inplace=True)

        return separate

    ones, after = [1, 1], ("leaky_relu", [SLOPE], "")

    def in_one(
        x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        y: torch.Tensor = fused(x, weight, bias, ones, ones, ones, 1, *after)
        return y

    return in_one


def _onednn_serves(dtype: torch.dtype) -> bool:
    """Return whether oneDNN, torch's library for the CPU, convolves in this dtype."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def _unshuffled(x: torch.Tensor, fold: int) -> torch.Tensor:
    """Return `pixel_unshuffle` of images (B, H, W), channels last, much sooner."""
    batch, height, width = x.shape
    rows, columns = height // fold, width // fold
    x = x.contiguous()
    wide = _WIDE.get(fold * x.element_size())
    if wide is None:
        return F.pixel_unshuffle(x[:, None], fold).contiguous(memory_format=_LAST)
    runs = x.view(wide).view(batch, rows, fold, columns).transpose(2, 3).contiguous()
    return runs.view(x.dtype).view(batch, rows, columns, fold**2).permute(0, 3, 1, 2)


def _shuffled(x: torch.Tensor, down: int, across: int) -> torch.Tensor:
    """Return (B, down·across, H, W) as images (B, down·H, across·W), row by row.

    `pixel_shuffle`, where both are equal, of channels last: much sooner.
    """
    batch, _, rows, columns = x.shape
    wide = _WIDE.get(across * x.element_size(), x.dtype)
    pixels = x.permute(0, 2, 3, 1).contiguous()
    runs = pixels.view(wide).view(batch, rows, columns, down, -1).transpose(2, 3)
    return runs.contiguous().view(x.dtype).view(batch, down * rows, across * columns)
