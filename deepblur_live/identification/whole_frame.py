"""Follow the specimen by whole pixels, and reduce each frame's spectrum to few bins.

A blur change multiplies the spectrum by a smooth ratio; a window over another part of
the specimen changes it everywhere. The window is therefore moved with the specimen, by
whole pixels: interpolation would itself be a blur.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from deepblur_live.optics.reduced_spectrum import (
    BINS,
    ReducedSpectrum,
    bin_frequencies,
    looks,
    taper_line,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["WholeFrameSpectrum"]

# The window leaves this share of the frame free on each side, to move with the
# specimen.
_MARGIN = 1 / 16
# Frequencies that registration uses, in cycles per pixel: illumination lies below,
# mostly noise above.
_BAND = (0.01, 0.25)
# The window moves where the correlation exceeds that in its present place by the first
# factor, and its own rms by the second: 8 in noise alone is rarer than 1 in 10⁹ frames.
_LEAST_GAIN, _LEAST_PEAK = 1.05, 8.0
# It moves only to where the frame has this coherence with the reference frame, and not
# less than in its present place, to within the second number.
_RECOGNISED, _TIE = 0.5, 0.02
# Another specimen has less coherence than the first number with the reference frame;
# one at rest more than the second with the frame before; and it is accepted after
# this many frames.
_LOST, _AT_REST, _STRANGE = 0.4, 0.95, 3
# Coherence is taken over coarse structure: there it survives a change of the blur, of
# defocus in a thick specimen too.
_COARSE = (0.03, 0.12)
# `torch.fft` is slow for lengths with a larger prime factor.
_LARGEST_FACTOR = 7


class WholeFrameSpectrum:
    """Reduces frames to spectra in a window that moves with the specimen."""

    def __init__(self) -> None:
        self._references = 0
        self.reset()

    def reset(self) -> None:
        """Make the next frame the reference."""
        self._shape: tuple[int, ...] = ()
        self._before: torch.Tensor | None = None
        self._last: torch.Tensor | None = None
        self._strange = 0
        self._shift = (0, 0)

    def reduce(self, image: torch.Tensor) -> ReducedSpectrum:
        """Return the spectrum of a frame (H, W), in the frame's unit squared.

        A frame of another size becomes the reference; so does one where the specimen
        has moved by more than the margin of 1/16 of the frame, and the third one of
        another specimen that is at rest.

        Raises
        ------
        ValueError
            The frame is too small for a window of 64 × 64 pixels.
        """
        if tuple(image.shape) != self._shape:
            self.reset()
            self._shape = tuple(image.shape)
        spectrum = self._transform(image, self._shift)
        if self._before is None:
            self._references += 1
            self._before = spectrum
        power, coherence = self._compared(spectrum, self._before)
        if any(moved := self._displacement(spectrum)):
            shift = (self._shift[0] + moved[0], self._shift[1] + moved[1])
            room = self._room
            inside = all(abs(s) <= r for s, r in zip(shift, room, strict=True))
            nearest = tuple(
                min(max(s, -r), r) for s, r in zip(shift, room, strict=True)
            )
            there = self._transform(image, nearest)
            found = self._compared(there, self._before)
            # Cells that move one by one have no common shift to find.
            if found[1] >= max(_RECOGNISED, coherence - _TIE):
                if not inside:
                    self.reset()
                    return self.reduce(image)
                self._shift, (power, coherence) = shift, found
                spectrum = there
        if self._is_strange(spectrum, coherence):
            self._references += 1
            self._before, coherence = spectrum, 1.0
        self._last = spectrum
        return ReducedSpectrum(
            power.cpu().numpy(), self._fine, self._shift, self._references, coherence
        )

    @property
    def _fine(self) -> tuple[int, int]:
        rows, columns = self._shape
        return _bins(rows), _bins(columns)

    @property
    def _room(self) -> tuple[int, int]:
        (rows, columns), (b, c) = self._shape, self._fine
        return (rows - BINS * b) // 2, (columns - BINS * c) // 2

    def _transform(self, image: torch.Tensor, shift: tuple[int, ...]) -> torch.Tensor:
        """Return the spectrum (h, w//2+1) of the tapered window at a shift.

        White noise of variance σ² has the mean square σ².
        """
        rows, columns = (BINS * b for b in self._fine)
        top, left = (r + s for r, s in zip(self._room, shift, strict=True))
        window = image[top : top + rows, left : left + columns].float()
        taper = _taper(rows, columns, image.device)
        # The taper's own mean is subtracted, so that none leaks to the lowest bins.
        mean = (window * taper).sum() / taper.sum()
        spectrum: torch.Tensor = torch.fft.rfft2((window - mean) * taper, norm="ortho")
        return spectrum

    def _is_strange(self, spectrum: torch.Tensor, coherence: float) -> bool:
        """Return whether several frames agree with one another, not with the first."""
        strange = False
        if coherence < _LOST and self._last is not None:
            strange = self._compared(spectrum, self._last)[1] > _AT_REST
        self._strange = self._strange + 1 if strange else 0
        if self._strange < _STRANGE:
            return False
        self._strange = 0
        return True

    def _compared(
        self, spectrum: torch.Tensor, before: torch.Tensor
    ) -> tuple[torch.Tensor, float]:
        """Return the power (64, 33), and the coherence with another spectrum."""
        cross = spectrum * before.conj()
        both = _reduced(cross.real, self._fine) ** 2
        both = both + _reduced(cross.imag, self._fine) ** 2
        power = _reduced(_square(spectrum), self._fine)
        other = _reduced(_square(before), self._fine)
        coarse = _coarse(power.device)
        shared = (both / power.clamp(min=1e-30))[coarse].sum()
        coherence = float(shared / other[coarse].sum().clamp(min=1e-30))
        # Of unrelated frames it is 1/looks. In a small frame, of one frequency in a
        # bin, it is not defined.
        chance = 1 / looks(self._fine)
        if chance == 1:
            return power, 1.0
        return power, max(0.0, (coherence - chance) / (1 - chance))

    def _displacement(self, spectrum: torch.Tensor) -> tuple[int, int]:
        """Return by how many pixels the specimen is off the window, by correlation."""
        assert self._before is not None
        passband = _passband(spectrum.shape, spectrum.device)
        cross = spectrum * self._before.conj() * passband
        # Half whitened: sharp peaks, without the noise of weak frequencies.
        cross = cross / cross.abs().sqrt().clamp(min=1e-20)
        rows, columns = (BINS * b for b in self._fine)
        correlation = torch.fft.irfft2(cross, s=(rows, columns))
        peak = int(correlation.argmax())
        height = correlation.flatten()[peak]
        least = _LEAST_PEAK * correlation.square().mean().sqrt()
        if height < torch.maximum(_LEAST_GAIN * correlation[0, 0], least):
            return 0, 0
        row, column = divmod(peak, columns)
        return (
            row - rows if row > rows // 2 else row,
            column - columns if column > columns // 2 else column,
        )


def _bins(side: int) -> int:
    """Return how many frequencies are averaged in a bin, for this side of a frame."""
    largest = int(side * (1 - 2 * _MARGIN)) // BINS
    if side < BINS:
        raise ValueError(f"a side of {side} pixels is smaller than {BINS}")
    return next((b for b in range(largest, 0, -1) if _is_smooth(b)), 1)


def _is_smooth(number: int) -> bool:
    for factor in range(2, _LARGEST_FACTOR + 1):
        while number % factor == 0:
            number //= factor
    return number == 1


@lru_cache(maxsize=4)
def _taper(rows: int, columns: int, device: torch.device) -> torch.Tensor:
    down, across = (torch.tensor(taper_line(n)).float() for n in (rows, columns))
    taper = (down[:, None] * across).to(device)
    return taper / taper.square().mean().sqrt()


@lru_cache(maxsize=4)
def _passband(shape: torch.Size, device: torch.device) -> torch.Tensor:
    rows, columns = shape[0], 2 * (shape[1] - 1)
    fy = torch.fft.fftfreq(rows, device=device)[:, None]
    radius = torch.hypot(fy, torch.fft.rfftfreq(columns, device=device))
    return ((radius > _BAND[0]) & (radius < _BAND[1])).float()


@lru_cache(maxsize=4)
def _coarse(device: torch.device) -> torch.Tensor:
    """Return the bins (64, 33) of coarse structure, without those on the axes."""
    radius, _ = bin_frequencies()
    coarse = (radius > _COARSE[0]) & (radius < _COARSE[1])
    coarse[:, 0] = coarse[0] = False
    return torch.from_numpy(coarse).to(device)


def _square(spectrum: torch.Tensor) -> torch.Tensor:
    return spectrum.real**2 + spectrum.imag**2


def _reduced(power: torch.Tensor, fine: Sequence[int]) -> torch.Tensor:
    """Return the means (64, 33) over boxes of frequencies, centred on the bins'."""
    b, c = fine
    # A real image has the same power at f and -f.
    mirrored = power[:, 1:-1].flip(-1).roll(-1, 0).flip(0)
    full = torch.cat([power, mirrored], -1).roll((b // 2, c // 2), (0, 1))
    return full.reshape(BINS, b, BINS, c).mean((1, 3))[:, : BINS // 2 + 1]
