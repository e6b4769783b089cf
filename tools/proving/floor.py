"""The counted floor: the bytes and operations that a frame's kernels need at least.

Every part takes at least its bytes over the card's bandwidth, and at least its
operations over its rate, both as measured by the first stage; parts follow one another.
A part reads its inputs and writes its outputs once, and they do not stay in the cache:
one that avoids a pass altogether can be faster (docs/decisions/0195-prove-card.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepblur_live.deblurring import ProximalNet, UnrolledFista
    from proving.stage import Context

__all__ = ["Work", "frame", "milliseconds", "proximal", "transform"]

# Bytes of a number, and per pixel of a half spectrum of complex numbers.
_SINGLE, _HALF = 4, 2
_SPECTRUM = _SINGLE


@dataclass(frozen=True)
class Work:
    """Bytes moved and half-precision operations done by one kernel."""

    bytes: float
    operations: float = 0.0


def milliseconds(parts: list[Work], context: Context) -> float | None:
    """Return the floor of parts, or None where the card's peaks are not known."""
    if not context.bandwidth or not context.rate:
        return None
    return 1e3 * sum(
        max(part.bytes / context.bandwidth, part.operations / context.rate)
        for part in parts
    )


def transform(rows: int, columns: int) -> list[Work]:
    """Count a real FFT, or its inverse: along the rows, then along the columns."""
    return 2 * [Work((_SINGLE + _SPECTRUM) * rows * columns)]


def proximal(network: ProximalNet, rows: int, columns: int) -> list[Work]:
    """Count the proximal network's layers, features in half precision.

    The first reads the image, and the last reads it again and writes it.
    """
    positions = rows * columns / network.shrink**2
    image = _SINGLE * rows * columns
    contrast = _HALF * positions * network.noise_map
    weights = [layer.get_parameter("weight") for layer in network.layers]
    features = [_HALF * len(weight) * positions for weight in weights[:-1]]
    read = [image + contrast, *features[:-1], features[-1] + image]
    written = [*features, image]
    return [
        Work(a + b, 2 * weight.numel() * positions)
        for a, b, weight in zip(read, written, weights, strict=True)
    ]


def frame(network: UnrolledFista, rows: int, columns: int) -> list[Work]:
    """Count one frame (rows, columns), extended.

    A gradient step has two FFTs, |ĥ|² and the right side applied in between, and two
    updates of images, the second of them the momentum's. A proximal data step has four
    FFTs, two products of spectra, and one update; one more such step ends the network.
    """
    pixels = rows * columns
    exact = network.iterations - network.gradients + 1
    calls = network.iterations - network.plain
    fourier = transform(rows, columns)
    spectrum = Work((3 * _SPECTRUM + _SINGLE / 2) * pixels)
    product, update = Work(3 * _SPECTRUM * pixels), Work(3 * _SINGLE * pixels)
    return [
        # The right side.
        *[*fourier, product],
        *network.gradients * [*fourier, spectrum, *fourier, update, update],
        *exact * [*4 * fourier, product, product, update],
        *calls * proximal(network.proximal, rows, columns),
    ]
