"""What a focus sweep measured, and what a blur predicts of it.

The spectrum of plane k is S_k = S_x·M_k + n_k. The specimen's own spectrum S_x is the
same in all planes, and free in each bin; n_k is the noise; M_k = |ĥ(γ + z_k·d)|² + κ,
with d the change of γ per micrometre of defocus. Spectra and M_k are divided by their
values at the lowest frequencies, which no focus changes by much: brightness that is
free in each plane makes up for defocus (docs/decisions/0115-focus-sweep-method.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from deepblur_live.identification.frame_spectrum import (
    bin_frequencies,
    bin_looks,
    frame_spectrum,
    mixed,
    white_level,
)
from deepblur_live.identification.otf import coarse

if TYPE_CHECKING:
    from deepblur_live.blur import BlurFamily

__all__ = ["CORRELATED", "SweepProblem", "plane_pairs", "sweep_problem"]

CORRELATED = 2.25
"""Neighbouring bins overlap: this many of them count as one."""

# Bins that are used: from this frequency (cycles per pixel), below which haze and the
# taper dominate, up to this share of the OTF's cut-off; where the signal of at least
# one plane exceeds the noise by this many of its deviations. And those that give the
# brightness.
_LOWEST, _HIGHEST, _CLEAR, _LOW = 0.035, 0.92, 3.0, 0.025
# κ: where the nulls of |ĥ|² end in a real frame.
_NULL = 3e-4
# Relative error of the model of a plane's spectrum, and that of its logarithm in
# addition, which bounds the weight of a bin.
_MODEL, _LEAST = 0.05, 0.003
_TINY = 1e-30


@dataclass(frozen=True, eq=False)
class SweepProblem:
    """The spectra of K planes at N bins, and the model of them.

    Parameters
    ----------
    family
        The blurs.
    offsets
        (K, P) change of γ in each plane.
    power
        (K, N) spectra at the bins that are used.
    noise
        (K, 1) level of the noise in each plane.
    variance
        (K,) variance of the noise, in the frames' unit squared.
    share
        (K, N) the noise's share of the power, 0 to 1.
    looks
        Independent values of power in a bin.
    bins
        Bins along each axis.
    keep
        (N,) indices of the bins among all `bins`² of a spectrum.
    low
        Indices of the lowest frequencies, by whose power each plane is normalised.
    """

    family: BlurFamily
    offsets: torch.Tensor
    power: torch.Tensor
    noise: torch.Tensor
    variance: torch.Tensor
    share: torch.Tensor
    looks: float
    bins: int
    keep: torch.Tensor
    low: torch.Tensor

    @cached_property
    def log_power(self) -> torch.Tensor:
        """(K, N) logarithm of the power."""
        return torch.log(self.power)

    @cached_property
    def weight(self) -> torch.Tensor:
        """(K, N) one over the standard deviation of the logarithm of the power.

        The specimen is the same in all planes and does not scatter: only the noise
        does, and its product with the specimen.
        """
        noise = (2 * self.share * (1 - self.share) + self.share**2) / self.looks
        model = (_MODEL * (1 - self.share)) ** 2 + _LEAST**2
        weight: torch.Tensor = (noise + model).rsqrt()
        return weight

    def transfer(self, gamma: torch.Tensor) -> torch.Tensor:
        """Return M (S, K, N) of coefficients (S, P) at z = 0."""
        psf = coarse(self.family).psf(self._planes(gamma))
        otf = self._otf(psf)
        power = mixed(otf.real**2 + otf.imag**2).flatten(-2)
        light = power[..., self.low].log().mean(-1, keepdim=True).exp()
        return ((power[..., self.keep] + _NULL) / light).double()

    def transfer_and_slopes(
        self, gamma: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return M (S, K, N), and the derivatives (S, K, P, N) of log M in γ."""
        psf, slope = coarse(self.family).psf_and_jacobian(self._planes(gamma))
        otf, slopes = self._otf(psf), self._otf(slope)
        power = mixed(otf.real**2 + otf.imag**2).flatten(-2)
        change = mixed(2 * (otf.conj()[..., None, :, :] * slopes).real).flatten(-2)
        low = power[..., self.low]
        light = low.log().mean(-1, keepdim=True).exp()
        brighter = (change[..., self.low] / low[..., None, :]).mean(-1, keepdim=True)
        power = power[..., self.keep] + _NULL
        change = change[..., self.keep] / power[..., None, :] - brighter
        return (power / light).double(), change.double()

    def coherence(self, gamma: torch.Tensor) -> torch.Tensor:
        """Return the squared coherence (K, bins, bins) of the pairs of `plane_pairs`.

        Of a thin specimen without noise, under the blur (P,) at z = 0: where the OTFs
        turn within a bin, the average over it is incoherent.
        """
        otf = self._otf(coarse(self.family).psf(self._planes(gamma[None])[0].double()))
        power = mixed(otf.abs().square()).clamp(min=_NULL)
        first, second = torch.tensor(plane_pairs(len(otf))).T
        cross = mixed(otf[first] * otf[second].conj()).abs().square()
        return cross / (power[first] * power[second])

    def _planes(self, gamma: torch.Tensor) -> torch.Tensor:
        return (gamma[:, None] + self.offsets).float()

    def _otf(self, psf: torch.Tensor) -> torch.Tensor:
        """Return the OTF (..., bins, bins) of a PSF, but for a phase."""
        # A window wider than the bins needs a finer grid, of which every m-th is used.
        m = -(-psf.shape[-1] // self.bins)
        size = m * self.bins
        otf: torch.Tensor = torch.fft.fft2(psf, s=(size, size))[..., ::m, ::m]
        return otf


def plane_pairs(count: int) -> list[tuple[int, int]]:
    """Return the pairs of planes that are compared: with the middle, and the outer."""
    middle = count // 2
    pairs = [(plane, middle) for plane in range(count) if plane != middle]
    return [*pairs, (0, count - 1)]


def sweep_problem(
    family: BlurFamily,
    planes: torch.Tensor,
    z_um: torch.Tensor,
    direction: torch.Tensor,
    bins: int,
) -> SweepProblem:
    """Return the problem of a stack of planes.

    Parameters
    ----------
    family
        The blurs.
    planes
        (K, H, W), registered.
    z_um
        (K,) their positions, µm.
    direction
        (P,) change of γ per µm.
    bins
        Bins of the spectra along each axis.
    """
    spectra = torch.stack([frame_spectrum(plane, bins) for plane in planes])
    variance = white_level(spectra, family.cutoff)
    y, x = bin_frequencies(bins)
    radius = torch.hypot(y, x)
    low = ((radius > 0) & (radius < _LOW)).flatten().nonzero()[:, 0]
    light = spectra.flatten(1)[:, low].log().mean(1).exp()
    spectra = spectra / light[:, None, None]
    noise = (variance / light)[:, None]
    smooth = _smoothed(spectra)
    used = (radius > _LOWEST) & (radius < _HIGHEST * min(2 * family.cutoff, 0.5))
    # Half of the plane holds all; a camera's row and column noise lies on the axes.
    used &= (x > 0) & (y != 0)
    signal = (smooth / noise[:, :, None]).amax(0) - 1
    looks = bin_looks((planes.shape[-2], planes.shape[-1]), bins)
    # Of the mean over nine bins, which overlap.
    least = _CLEAR / (looks * 9 / CORRELATED) ** 0.5
    keep = (used & (signal > least)).flatten().nonzero()[:, 0]
    share = (noise / smooth.flatten(1)[:, keep].clamp(min=_TINY)).clamp(max=1)
    return SweepProblem(
        family,
        z_um[:, None] * direction,
        spectra.flatten(1)[:, keep].clamp(min=_TINY),
        noise,
        variance,
        share,
        looks,
        bins,
        keep,
        low,
    )


def _smoothed(spectra: torch.Tensor) -> torch.Tensor:
    """Return the mean over 3 × 3 bins of periodic spectra."""
    for axis in (-2, -1):
        spectra = (spectra + spectra.roll(1, axis) + spectra.roll(-1, axis)) / 3
    return spectra
