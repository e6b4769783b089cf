"""Scaling of frames from grey values to [0, 1] and back; frames that are refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deepblur_live.identification import WINDOW
from deepblur_live.runtime.device import page_locked
from deepblur_live.runtime.line_offsets import remove_line_offsets
from deepblur_live.runtime.repair import COARSEST, repair_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.runtime.scaling_graph import ScalingGraph

__all__ = ["BadFrame", "Scaled", "keeps_flux", "scale"]

# With a larger fraction of clipped pixels the blur cannot be identified.
_MAX_SATURATED = 0.01
# Rounding to fewer grey values is a larger noise than any that is supported (0.05 of
# the range), and follows the image (docs/decisions/0135-few-grey-values.md).
_FEWEST_VALUES = 8
_CEILINGS = (255, 1023, 4095, 16383, 65535)
# Percentiles that become 0 and 1, computed from about so many pixels.
_PERCENTILES = 0.1, 99.9
_SAMPLE = 65_536
# Fewer between inspections, where the host has less than a millisecond per frame.
_SAMPLE_BETWEEN = 16_384
_CPU = torch.device("cpu")
# Allowed relative change of flux, for a frame of this side in pixels: deblurring
# conserves flux except across the border (docs/decisions/0007-flux-check.md).
_FLUX, _FLUX_SIDE = 0.01, 512
# The flux of a darker frame is compared with this share of its range.
_DARK = 0.1
# A border of one value is filled if less of the line beside it than this share has that
# value: a dark specimen fades into such a background.
_FILLED = 0.25


class BadFrame(ValueError):
    """A frame that cannot be deblurred; the text says why, in a few words."""


@dataclass(frozen=True)
class Scaled:
    """A frame scaled to about [0, 1], and the inverse of the scaling.

    Parameters
    ----------
    image
        (H, W) float32, on the device it was scaled for.
    low, span
        Grey values: ``pixels = low + span · image``.
    inner
        The range of the frame without its defects, relative to that with them (0 to 1).
    """

    image: torch.Tensor
    low: float
    span: float
    inner: tuple[float, float] = (0.0, 1.0)

    def restore(self, image: torch.Tensor) -> torch.Tensor:
        """Return an image in the frame's grey values, (H, W) float32, on the CPU.

        From a card the copy is asynchronous, in torch's current stream.
        """
        grey = image.mul(self.span).add_(self.low)
        # Into page-locked memory, which is several times faster.
        return grey.to("cpu", non_blocking=True)

    def noise_variance(
        self, offset: float, gain: float, read_noise: float, level: float
    ) -> float:
        """Return a calibrated camera's mean noise variance, in the image's units.

        Parameters
        ----------
        offset, gain, read_noise
            Grey value without light, electrons per grey value, rms electrons.
        level
            Mean brightness of the scaled image.
        """
        electrons = max(0.0, (level * self.span + self.low - offset) * gain)
        return (electrons + read_noise**2) / gain**2 / self.span**2


def scale(
    pixels: NDArray[Any],
    device: torch.device = _CPU,
    cutoff: float = COARSEST,
    inner: tuple[float, float] | None = None,
    graph: ScalingGraph | None = None,
) -> Scaled:
    """Remove a camera's defects and scale a frame by its 0.1 and 99.9 percentiles.

    Parameters
    ----------
    pixels
        (H, W) grey values.
    device
        Where it is scaled.
    cutoff
        The optics' coherent cut-off in cycles per pixel, which limits how isolated a
        pixel can be.
    inner, graph
        That of an earlier frame of this camera, and what then scales without reading
        values back from the device: a card is not waited for. Not for floats and
        integers of more than 16 bits, which may overflow.

    Raises
    ------
    BadFrame
        When it is not a single-channel image, too small, constant or nearly so,
        saturated, filled along its border, or not finite.
    """
    if pixels.ndim != 2:
        raise BadFrame(f"not a single-channel image (shape {pixels.shape})")
    if pixels.dtype.kind not in "uif":
        raise BadFrame(f"not a numeric type ({pixels.dtype})")
    if min(pixels.shape) < WINDOW:
        height, width = pixels.shape
        raise BadFrame(f"too small ({height} × {width}, at least {WINDOW} × {WINDOW})")
    # Torch accepts writable arrays only.
    native = np.require(pixels, pixels.dtype.newbyteorder("="), ["C", "W"])
    count = _SAMPLE if inner is None else _SAMPLE_BETWEEN
    stride = max(1, int(np.sqrt(native.size / count)))
    sample = native[::stride, ::stride]
    if native.dtype.kind == "f" and not np.isfinite(native).all():
        raise BadFrame("not finite (NaN or infinity)")
    low, high = _range(sample)
    rows, columns = native[:, ::stride], native[::stride].T
    if any(map(_is_filled, (rows, rows[::-1], columns, columns[::-1]))):
        raise BadFrame("filled along its border with one value: crop it")
    if native.dtype.kind in "ui" and high - low < _FEWEST_VALUES - 1:
        raise BadFrame(
            f"fewer than {_FEWEST_VALUES} grey values: expose longer, or use a camera "
            "mode with more bits"
        )
    wide = native.dtype.kind != "u" or native.dtype.itemsize > 2
    if inner is not None and graph is not None and not wide:
        low, high = (low + part * (high - low) for part in inner)
        return Scaled(graph.run(native, low, high), low, high - low, inner)
    native = native.astype(np.float64) if wide else native
    if device.type == "cuda":
        # Uploaded as integers: half as many bytes as float32.
        values = page_locked(native).to(device, non_blocking=True)
    else:
        values = torch.from_numpy(native)
    # A copy even of float64: the pixels belong to the frame.
    image = values.to(torch.float64 if wide else torch.float32, copy=True)
    # In place: allocating memory costs as much as the arithmetic.
    image.sub_(low).div_(high - low)
    inner = (0.0, 1.0)
    repaired = repair_pixels(image, cutoff) > 0
    if remove_line_offsets(image) or repaired:
        # Without the defects the range is narrower.
        below, above = _limits(image[::stride, ::stride].cpu().numpy())
        if above > below:
            image.sub_(below).div_(above - below)
            inner = below, above
            low, high = (low + part * (high - low) for part in inner)
    scaled = image.float()
    if wide and not bool(torch.isfinite(scaled).all()):
        raise BadFrame("its values are out of range")
    return Scaled(scaled, low, high - low, inner)


def _is_filled(pixels: NDArray[Any]) -> bool:
    """Return whether the first lines of a frame are filled with one value.

    No PSF blurs such an edge: deblurring would draw bright lines beside it.
    """
    value, length = pixels[0, 0], pixels.shape[1]
    if not (pixels[0] == value).all():
        return False
    counts = np.count_nonzero(pixels == value, axis=1)
    others = counts[counts < length]
    return bool(len(others) and others[0] < _FILLED * length)


def _range(sample: NDArray[Any]) -> tuple[float, float]:
    """Return the grey values that a frame is scaled by, from a part of its pixels.

    Raises
    ------
    BadFrame
        When they are saturated or constant.
    """
    if sample.dtype.kind == "u" and sample.dtype.itemsize <= 2:
        # From the histogram of few grey values: five times as fast as sorting.
        counts = np.bincount(sample.ravel())
        highest, share = len(counts) - 1, counts[-1] / sample.size
        low, high = _limits_of_counts(counts)
    else:
        highest = sample.max()
        share = np.mean(sample == highest) if sample.dtype.kind == "u" else 0.0
        low, high = _limits(sample)
    ceiling = sample.dtype.kind == "u" and int(highest) in _CEILINGS
    if ceiling and _MAX_SATURATED < share < 1:
        raise BadFrame(f"saturated ({share:.0%} of the pixels)")
    if not high > low:
        raise BadFrame("constant")
    return low, high


def _limits_of_counts(counts: NDArray[np.intp]) -> tuple[float, float]:
    """Return `_limits` of pixels, given how many have each value, from 0 on."""
    below = counts.cumsum()
    last = int(below[-1]) - 1
    # A percentile lies between two of the pixels in order, as NumPy has it.
    places = [share / 100 * last for share in _PERCENTILES]
    order = [n for place in places for n in (int(place), min(int(place) + 1, last))]
    values = np.searchsorted(below, order, "right").tolist()
    low, high = (
        values[2 * i] + (values[2 * i + 1] - values[2 * i]) * (place - int(place))
        for i, place in enumerate(places)
    )
    return low, high


def _limits(sample: NDArray[Any]) -> tuple[float, float]:
    """Return the grey values that a frame is scaled by."""
    low, high = np.percentile(sample, _PERCENTILES)
    return float(low), float(high)


def keeps_flux(before: float, after: float, side: int) -> bool:
    """Return whether means of a frame and of its deblurred image may differ so much.

    To within 1 % from a shorter side of 512 pixels on; more for smaller frames, whose
    border is a larger part of them.
    """
    allowed = _FLUX * max(1.0, _FLUX_SIDE / side)
    # NaN fails the comparison too.
    return abs(after - before) <= allowed * max(before, _DARK)
