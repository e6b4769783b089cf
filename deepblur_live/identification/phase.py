"""What a frame's phases tell of its blur, and its power spectrum cannot.

Many blurs fit a power spectrum alike: the same PSF turned by 180° and, in noise, others
with nearly the same |ĥ|. The phase of ĥ tells them apart, as wrong phases smear what is
sharp. Give a frame's frequencies the amplitudes of one Wiener filter, the same whatever
the blur, and undo each blur's phases: with the true ones gradients are sparsest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch

from deepblur_live.identification.otf import coarse
from deepblur_live.identification.spectrum import WINDOW, frequencies
from deepblur_live.optics import Convolution, extend

if TYPE_CHECKING:
    from deepblur_live.optics import ZernikeFamily

__all__ = ["DEVIATION", "NearbyPhase", "Phase", "noise_share", "sparsity"]

DEVIATION = 0.23
"""Noise alone changes the logarithm of the sparsity by so much, over √pixels: measured
on 43 pictures of the training split, at σ of 0.01, 0.03 and 0.05 alike."""

# Specimens' power falls with the square of the frequency (Field, JOSA A 4(12) 1987);
# its height is read off these cycles a pixel. Beside a filter that takes it for flat,
# 75 of 75 validation frames are turned right, not 69.
_BAND = (0.02, 0.1)
_LOWEST = 1 / 64
# A frame without noise is still not known to the last digit.
_LEAST_SHARE = 1e-4
# The filter keeps back more noise than Wiener's (1): beside it, on 198 validation
# frames of σ = 0.01 to 0.05, the PSF that phases lead to is 0.5 dB better with 3 and
# 0.2 dB with 10; and on 66 of σ = 0.001 and 0.01 so little as 0.3 costs 1 dB.
_CAUTION = 4.0
# Misfit that one such deviation is worth: beside 2, on 264 validation frames 4
# costs 0.1 dB and 8 0.9 dB.
_WORTH = 2.0
# Which share of the gradients' energy is in edges, and so bends the cost, depends on
# the specimen: 0.03 to 1. It is measured down the slope, so far away that with all of
# the energy in edges the cost would rise by so much. Looks of 5 and 80 do as well.
_LOOK = 20.0
_LEAST_EDGES, _MOST_EDGES = 0.03, 1.5
# A look at the phases says nothing of blurs that are farther off, in waves.
_NEARBY = 0.03
_TINY = 1e-12
# |ĥ|² below which its phase is not looked at.
_DARK = 1e-6


def sparsity(image: torch.Tensor) -> torch.Tensor:
    """Return ‖∇x‖₁ / (‖∇x‖₂ √N) over the last two axes: small for few sharp edges."""
    down = image.diff(dim=-2)[..., :, :-1]
    right = image.diff(dim=-1)[..., :-1, :]
    square = down.square_().add_(right.square_()).add_(_TINY)
    energy = square.mean((-2, -1))
    return square.sqrt_().mean((-2, -1)) / energy.sqrt()


def noise_share(
    spectrum: torch.Tensor, shape: tuple[int, int], power: torch.Tensor, sigma: float
) -> tuple[torch.Tensor, float]:
    """Return σ² over the specimen's power (H, W//2+1), and that times f⁻² alone.

    Parameters
    ----------
    spectrum
        (H, W//2+1) of an image without its mean.
    shape
        (H, W).
    power
        |ĥ|² of the image's shape.
    sigma
        Of the noise.
    """
    rows, columns = shape
    square, band = _square_and_band(rows, columns, spectrum.device)
    inside = spectrum[band]
    seen = (inside.real**2 + inside.imag**2) / (rows * columns) - sigma**2
    height = (seen.clamp(min=0) * square[band]).mean() / power[band].mean()
    rise = sigma**2 / height.clamp(min=1e-12)
    return (rise * square).clamp(min=_LEAST_SHARE), float(rise)


@lru_cache(maxsize=8)
def _square_and_band(
    rows: int, columns: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return f² (H, W//2+1), and which frequencies are in the band."""
    y = torch.fft.fftfreq(rows, device=device)[:, None]
    x = torch.fft.rfftfreq(columns, device=device)
    square = (x**2 + y**2).clamp(min=_LOWEST**2)
    return square, (square > _BAND[0] ** 2) & (square < _BAND[1] ** 2)


@dataclass(frozen=True)
class NearbyPhase:
    """The cost of the phases near one γ, as a quadratic: a look at them takes long.

    Parameters
    ----------
    at, at_slope
        (1, P) γ, and the cost's slope there, in misfit a wave.
    curvature
        (1, P, P).
    """

    at: torch.Tensor
    at_slope: torch.Tensor
    curvature: torch.Tensor

    def reaches(self, gamma: torch.Tensor) -> bool:
        """Return whether γ (1, P) is so near that the quadratic still holds."""
        return float((gamma - self.at).norm()) < _NEARBY

    def cost(self, gamma: torch.Tensor) -> torch.Tensor:
        """Return (1,) what the phases have against γ (1, P) more than there."""
        slope, _ = self.slope(gamma)
        return 0.5 * ((gamma - self.at) * (slope + self.at_slope)).sum(1)

    def slope(self, gamma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the cost's slope (1, P) and curvature (1, P, P)."""
        bent = (self.curvature @ (gamma - self.at)[..., None])[..., 0]
        return self.at_slope + bent, self.curvature


class _Look(NamedTuple):
    """One look at the phases of a blur, at γ (P,): its turn takes hardly longer."""

    gamma: torch.Tensor
    blur: Convolution
    spectrum: torch.Tensor
    """(H, W//2+1), the frame's without the blur's phases."""
    image: torch.Tensor
    """(H, W), of that spectrum."""


class Phase:
    """A frame's frequencies, to be looked at with the phases of any blur undone.

    Parameters
    ----------
    family
        The blurs.
    image
        (H, W) scaled to about [0, 1].
    sigma
        Of the noise in it.
    reference
        (P,) coefficients whose |ĥ| the filter takes.
    """

    def __init__(
        self,
        family: ZernikeFamily,
        image: torch.Tensor,
        sigma: float,
        reference: torch.Tensor,
    ) -> None:
        self._family = coarse(family)
        self._frame = (image.shape[0], image.shape[1])
        psf = self._family.psf(reference)
        whole = extend(image, psf.shape[-1] - 1)
        whole = whole - whole.mean()
        self._shape = (whole.shape[0], whole.shape[1])
        blur = Convolution(psf, self._shape)
        power = blur.power
        spectrum = torch.fft.rfft2(whole)
        share, rise = noise_share(spectrum, self._shape, power, sigma)
        self._filtered = power.sqrt() / (power + _CAUTION * share) * spectrum
        self._last = self._undone(reference, blur)
        self._worth = _WORTH * image.numel() ** 0.5 / DEVIATION
        # Which part of the gradients' energy each frequency has, the specimen's alone.
        otf = torch.fft.rfft2(psf, s=(WINDOW, WINDOW))
        power = otf.real**2 + otf.imag**2
        radius, _ = frequencies(image.device)
        share = (rise * radius**2).clamp(min=_LEAST_SHARE)
        gain = power / (power + _CAUTION * share) ** 2
        self._energy = (gain * power / (gain * (power + share)).sum()).flatten()

    def cost(self, gamma: torch.Tensor) -> torch.Tensor:
        """Return (S,) what the phases have against each of (S, P), in misfit.

        Only the differences mean anything.
        """
        looks = map(self._look, gamma, self._family.psf(gamma))
        return self._cost(torch.stack([sparsity(look.image) for look in looks]))

    def costs(self, gamma: torch.Tensor) -> torch.Tensor:
        """Return (2, S), `cost` of (S, P) and of the same blurs turned by 180°."""
        both = []
        for row, psf in zip(gamma, self._family.psf(gamma), strict=True):
            look = self._look(row, psf)
            # A PSF that is turned has the conjugate OTF.
            again = look.blur.otf.square().mul_(look.spectrum)
            turned = self._image(again.div_(look.blur.power + _TINY))
            both.append(torch.stack([sparsity(look.image), sparsity(turned)]))
        return self._cost(torch.stack(both, 1))

    def _cost(self, sparsities: torch.Tensor) -> torch.Tensor:
        cost: torch.Tensor = self._worth * sparsities.log()
        return cost

    def slope(self, gamma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the cost's slope (S, P), in misfit a wave, and curvature (S, P, P).

        The curvature is Gauss-Newton's: phases that are wrong by φ take a share
        ½ Σ w φ² out of the edges' energy, w being the share of each frequency. Phases
        that rise with the frequency only shift the image.
        """
        psf, by_mode = self._family.psf_and_jacobian(gamma)
        looks = [
            self._by_pixel(self._look(row, one), len(one))
            for row, one in zip(gamma, psf, strict=True)
        ]
        cost = torch.stack([one for one, _ in looks])
        by_pixel = torch.stack([one for _, one in looks])
        slope = (by_mode * by_pixel[:, None]).sum((-2, -1))
        otf = torch.fft.rfft2(psf, s=(WINDOW, WINDOW))
        otf_slopes = torch.fft.rfft2(by_mode, s=(WINDOW, WINDOW))
        power = (otf.real**2 + otf.imag**2 + _DARK)[:, None]
        phases = ((otf.conj()[:, None] * otf_slopes).imag / power).flatten(2)
        ramps = _ramps(gamma.device)
        weighted = ramps * self._energy
        shift = torch.linalg.solve(weighted @ ramps.T, weighted @ phases.mT)
        phases = phases - shift.mT @ ramps
        curvature = self._worth * (phases * self._energy) @ phases.mT
        return slope, self._edges(gamma, cost, slope, curvature) * curvature

    def _edges(
        self,
        gamma: torch.Tensor,
        cost: torch.Tensor,
        slope: torch.Tensor,
        curvature: torch.Tensor,
    ) -> torch.Tensor:
        """Return (S, 1, 1) what share of the gradients' energy is in edges."""
        bend = (slope * (curvature @ slope[..., None])[..., 0]).sum(1, keepdim=True)
        down = -slope * (2 * _LOOK / bend.clamp(min=_TINY)).sqrt()
        rise = self.cost(gamma + down) - cost - (slope * down).sum(1)
        edges = (rise / _LOOK).clamp(_LEAST_EDGES, _MOST_EDGES)
        return edges[:, None, None]

    def nearby(self, gamma: torch.Tensor) -> NearbyPhase:
        """Return the cost near γ (1, P), looked at once."""
        slope, curvature = self.slope(gamma)
        return NearbyPhase(gamma, slope, curvature)

    def _look(self, gamma: torch.Tensor, psf: torch.Tensor) -> _Look:
        """Return a look at γ (P,), whose PSF is given: the last one is at hand."""
        if not torch.equal(gamma, self._last.gamma):
            self._last = self._undone(gamma, Convolution(psf, self._shape))
        return self._last

    def _undone(self, gamma: torch.Tensor, blur: Convolution) -> _Look:
        """Return the frame without the phases of γ's blur."""
        undone = self._filtered * blur.otf.conj()
        undone.mul_((blur.power + _TINY).rsqrt_())
        # A fit goes on in the memory of its γ.
        return _Look(gamma.clone(), blur, undone, self._image(undone))

    def _image(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Return the frame (H, W) that has these frequencies."""
        rows, columns = self._frame
        image: torch.Tensor = torch.fft.irfft2(spectrum, s=self._shape)
        return image[:rows, :columns]

    def _by_pixel(self, look: _Look, side: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the cost, and its derivatives (K, K) in the pixels of a PSF of a side.

        With ∂cost/∂x = g, the phase of ĥ has the derivative Im(conj(Fg)·Fx), and the
        change of that phase is Im(conj(ĥ)·F∂h)/|ĥ|².
        """
        _, blur, spectrum, frame = look
        rows, columns = self._frame
        down, right = frame.diff(dim=0)[:, :-1], frame.diff(dim=1)[:-1]
        square = down**2 + right**2 + _TINY
        length = square.sqrt()
        total, energy = length.sum(), square.sum()
        cost = self._worth * (total / (energy * length.numel()).sqrt()).log()
        pull = length.mul_(total).reciprocal_().sub_(1 / energy)
        down.mul_(pull)
        right.mul_(pull)
        by_image = frame.new_zeros(self._shape)
        by_image[1:rows, : columns - 1] += down
        by_image[: rows - 1, 1:columns] += right
        by_image[: rows - 1, : columns - 1] -= down.add_(right)
        by_phase = torch.fft.rfft2(by_image).conj().mul(spectrum).imag
        by_phase.div_(blur.power + _TINY)
        # As `irfft2`, of which only the pixels under the PSF are wanted.
        half = side // 2
        lines = torch.fft.ifft(by_phase * blur.otf, dim=0).roll(half, 0)[:side]
        across = torch.fft.irfft(1j * lines, n=self._shape[1]).roll(half, 1)
        return cost, self._worth * across[:, :side]


@lru_cache(maxsize=8)
def _ramps(device: torch.device) -> torch.Tensor:
    """Return (2, N): the frequencies along either axis, cycles a pixel."""
    y = torch.fft.fftfreq(WINDOW, device=device)
    x = torch.fft.rfftfreq(WINDOW, device=device)
    return torch.stack(torch.meshgrid(y, x, indexing="ij")).flatten(1)
