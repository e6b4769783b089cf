"""The counted floor: operations and bytes of the shipped networks over measured peaks.

Nothing on this machine could be quicker than its peaks allow, were every part perfect:
each part takes the longer of its arithmetic and of its way through memory, and parts
follow one another. The peaks are those of a large matrix product and of a plain copy,
measured in the same run.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from benchmarking.clock import Clock
    from deepblur_live.deblurring import ProximalNet, UnrolledFista

__all__ = [
    "Cost",
    "Peaks",
    "floor_ms",
    "frame_costs",
    "gradient_costs",
    "measure_bandwidth",
    "measure_flops",
    "network_costs",
    "proximal_costs",
]

_FLOAT = 4  # bytes


@dataclass(frozen=True)
class Cost:
    """What one part must do at least.

    Parameters
    ----------
    flop
        Floating-point operations, a multiplication with its addition counted as two.
    moved
        Bytes read and written.
    dtype
        Of the arithmetic.
    """

    flop: float
    moved: float
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Peaks:
    """What a machine did best, measured.

    Parameters
    ----------
    flops
        Operations a second of a large matrix product, by dtype.
    bandwidth
        Bytes a second that a copy reads and writes.
    """

    flops: Mapping[torch.dtype, float]
    bandwidth: float


def floor_ms(costs: Iterable[Cost], peaks: Peaks) -> float:
    """Return the least time of parts that follow one another, ms."""
    return 1e3 * sum(
        max(cost.flop / peaks.flops[cost.dtype], cost.moved / peaks.bandwidth)
        for cost in costs
    )


def measure_flops(clock: Clock, dtype: torch.dtype, size: int) -> float:
    """Measure the operations a second of a product of matrices of side `size`."""
    a, b = (torch.rand(size, size, device=clock.device).to(dtype) for _ in range(2))
    product = torch.empty_like(a)
    return 2 * size**3 / clock.time(lambda: torch.mm(a, b, out=product)).best * 1e3


def measure_bandwidth(clock: Clock, size: int) -> float:
    """Measure the bytes a second that a copy of `size` bytes reads and writes.

    What fits into a cache is copied faster: give the size of what the stages work on.
    """
    source = torch.zeros(size, dtype=torch.uint8, device=clock.device)
    target = torch.empty_like(source)
    return 2 * size / clock.time(lambda: target.copy_(source)).best * 1e3


def network_costs(
    network: nn.Module, shape: tuple[int, ...], dtype: torch.dtype
) -> list[Cost]:
    """Return the cost of each convolution and matrix product of a network.

    What lies between them (norms, rectifiers) is counted as free: it can be fused.
    """
    size = torch.finfo(dtype).bits // 8
    costs: list[Cost] = []

    def note(
        layer: nn.Module, given: tuple[torch.Tensor, ...], y: torch.Tensor
    ) -> None:
        weight = layer.get_parameter("weight")
        # Each output needs one row of the weights.
        flop = 2 * y.numel() * weight[0].numel()
        moved = size * (given[0].numel() + weight.numel() + y.numel())
        costs.append(Cost(flop, moved, dtype))

    # Shapes suffice: nothing is computed.
    shadow = copy.deepcopy(network).to("meta")
    for layer in shadow.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(note)
    with torch.no_grad():
        shadow(torch.empty(shape, device="meta"))
    return costs


def proximal_costs(
    network: ProximalNet, shape: tuple[int, int], dtype: torch.dtype
) -> list[Cost]:
    """Return the costs of the proximal network on one image, its modulation folded."""
    rows, columns = (side // network.shrink for side in shape)
    layers = nn.Sequential(*network.layers)
    costs = network_costs(layers, (1, network.shrink**2, rows, columns), dtype)
    # The image is read, converted and written; read again, added to and written.
    pixels, size = math.prod(shape), torch.finfo(dtype).bits // 8
    around = pixels * (_FLOAT + size) + pixels * (2 * _FLOAT + size)
    return [*costs, Cost(pixels, around)]


def gradient_costs(shape: tuple[int, int]) -> list[Cost]:
    """Return the costs of one gradient step: two real FFTs and what lies between.

    Real images and their half spectra have the same size: as many bytes a pixel.
    """
    pixels, transform = math.prod(shape), _transform_cost(shape)
    # Spectrum, |ĥ|² (half the size) and right side in, spectrum out.
    spectrum = Cost(2 * pixels, 3.5 * _FLOAT * pixels)
    # z and the change in, z out.
    step = Cost(2 * pixels, 3 * _FLOAT * pixels)
    return [transform, spectrum, transform, step]


def _transform_cost(shape: tuple[int, int]) -> Cost:
    """Return the cost of one real FFT, there or back."""
    pixels = math.prod(shape)
    # Half of the 5 N log₂ N of a complex transform; along the rows, then the columns.
    return Cost(2.5 * pixels * math.log2(pixels), 4 * _FLOAT * pixels)


def exact_costs(shape: tuple[int, int]) -> list[Cost]:
    """Return the costs of one exact data step: four real FFTs and what lies between."""
    pixels, transform = math.prod(shape), _transform_cost(shape)
    # Two images in, one out: what the guess leaves unexplained, its part that was
    # seen, the change added, the light kept.
    step = Cost(pixels, 3 * _FLOAT * pixels)
    # The guess blurred; the rest divided by |ĥ|² + λ.
    return 2 * [transform, _product_cost(shape), transform, step]


def once_costs(shape: tuple[int, int]) -> list[Cost]:
    """Return the costs of what a frame needs once: OTF, right side, last data step."""
    transform = _transform_cost(shape)
    # The OTF; conj(ĥ)·ŷ.
    return [transform, transform, _product_cost(shape), *exact_costs(shape)]


def _product_cost(shape: tuple[int, int]) -> Cost:
    """Return the cost of a product of spectra: two in, one out."""
    pixels = math.prod(shape)
    return Cost(3 * pixels, 3 * _FLOAT * pixels)


def frame_costs(
    network: UnrolledFista, shape: tuple[int, int], dtype: torch.dtype
) -> list[Cost]:
    """Return the costs of one whole image of the operator's shape."""
    proximal = proximal_costs(network.proximal, shape, dtype)
    # z ← x + β(x - x_previous): two images in, one out.
    momentum = Cost(3 * math.prod(shape), 3 * _FLOAT * math.prod(shape))
    gradient = [*gradient_costs(shape), *proximal, momentum]
    exact = [*exact_costs(shape), *proximal]
    exacts = network.iterations - network.gradients
    return network.gradients * gradient + exacts * exact + once_costs(shape)
