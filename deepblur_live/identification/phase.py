"""The phase term of the fit: what a frame's phases add to its power spectrum.

Many blurs fit a power spectrum equally well: the same PSF rotated by 180° and, in
noise, others with nearly the same |ĥ|. They differ in the phase of ĥ, and wrong phases
smear sharp edges. The frame is filtered with the amplitudes of one Wiener filter, the
same for all blurs, and with the negative phases of each blur: the true ones give the
sparsest gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch

from deepblur_live.identification.otf import coarse
from deepblur_live.identification.spectrum import WINDOW, frequencies
from deepblur_live.optics import extend, frame_part, otf

if TYPE_CHECKING:
    from deepblur_live.blur import BlurFamily

__all__ = [
    "DEVIATION",
    "WEIGHT",
    "LocalPhase",
    "Phase",
    "noise_share",
    "sparsity",
]

DEVIATION = 0.23
"""Standard deviation of the logarithm of the sparsity due to noise, times √pixels.

Measured on training pictures, the same at all noise levels; this and the constants
below are in docs/decisions/0093-phase-term.md."""

WEIGHT = 2.0
"""Misfit that one standard deviation of the sparsity corresponds to."""

# The specimen's power is taken to fall with the square of the frequency (Field, JOSA A
# 4(12) 1987); its level is measured between these frequencies, cycles per pixel.
_BAND = (0.02, 0.1)
_LOWEST = 1 / 64
# Least ratio of noise to signal: even without noise a frame is rounded.
_LEAST_SHARE = 1e-4
# Factor of the noise in the filter, 1 for Wiener's.
_NOISE_FACTOR = 4.0
# The share of the gradients' energy in edges determines the curvature and depends on
# the specimen. It is measured by a step down the slope for which the cost would rise by
# this misfit if all energy were in edges.
_PROBE = 20.0
_LEAST_EDGES, _MOST_EDGES = 0.03, 1.5
# Radius of validity of the local model, relative to the prior scale.
_LOCAL = 0.2
_TINY = 1e-12
# |ĥ|² below which its phase is not used.
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
    """Return σ² over the specimen's power (H, W//2+1), and that ratio over f².

    Parameters
    ----------
    spectrum
        (H, W//2+1) of an image minus its mean.
    shape
        (H, W).
    power
        |ĥ|² of the image's shape.
    sigma
        Standard deviation of the noise.
    """
    rows, columns = shape
    square, band = _square_and_band(rows, columns, spectrum.device)
    signal = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
    signal.div_(rows * columns).sub_(sigma**2).clamp_(min=0)
    height = (signal * square).flatten() @ band / (power.flatten() @ band)
    rise = sigma**2 / height.clamp(min=1e-12)
    return (rise * square).clamp(min=_LEAST_SHARE), float(rise)


@lru_cache(maxsize=8)
def _square_and_band(
    rows: int, columns: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return f² (H, W//2+1), and 1 in the band (H·(W//2+1),), 0 elsewhere."""
    y = torch.fft.fftfreq(rows, device=device)[:, None]
    x = torch.fft.rfftfreq(columns, device=device)
    square = (x**2 + y**2).clamp(min=_LOWEST**2)
    inside = (square > _BAND[0] ** 2) & (square < _BAND[1] ** 2)
    return square, inside.flatten().to(square)


@dataclass(frozen=True)
class LocalPhase:
    """A quadratic model of the phase term near one γ: evaluating the term is costly.

    Or of the terms of C cells, with C in place of 1.

    Parameters
    ----------
    at, at_slope
        (1, P) γ, and the slope of the term there.
    curvature
        (1, P, P).
    scale
        (P,) the family's prior scale.
    edges
        (1, 1, 1) share of the gradients' energy that is in edges: a property of the
        specimen, which models of further frames may take over.
    fresh
        Whether no other frame has used the model yet.
    """

    at: torch.Tensor
    at_slope: torch.Tensor
    curvature: torch.Tensor
    scale: torch.Tensor
    edges: torch.Tensor
    fresh: bool = True

    def covers(self, gamma: torch.Tensor) -> bool:
        """Return whether the model is valid at γ (1, P)."""
        return bool(self.near(gamma).all())

    def near(self, gamma: torch.Tensor) -> torch.Tensor:
        """Return the mask (S,) of the terms whose model is valid at γ (S, P)."""
        away: torch.Tensor = ((gamma - self.at) / self.scale).norm(dim=1)
        return away < _LOCAL

    def cost(self, gamma: torch.Tensor) -> torch.Tensor:
        """Return (1,) the term at γ (1, P), minus its value at `at`."""
        slope, _ = self.slope(gamma)
        return 0.5 * ((gamma - self.at) * (slope + self.at_slope)).sum(1)

    def slope(self, gamma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the term's slope (1, P) and curvature (1, P, P)."""
        bent = (self.curvature @ (gamma - self.at)[..., None])[..., 0]
        return self.at_slope + bent, self.curvature


class _Evaluation(NamedTuple):
    """The frame with the phases of one blur, at γ (P,), removed."""

    gamma: torch.Tensor
    otf: torch.Tensor
    """(H, W//2+1), of the blur."""
    power: torch.Tensor
    """|ĥ|²."""
    spectrum: torch.Tensor
    """(H, W//2+1), of the frame without the blur's phases."""
    image: torch.Tensor
    """(H, W), of that spectrum."""


class Phase:
    """The phase term of one frame, as a function of γ.

    Parameters
    ----------
    family
        The blurs.
    image
        (H, W) scaled to about [0, 1].
    sigma
        Standard deviation of its noise.
    reference
        (P,) coefficients whose |ĥ| the filter takes.
    share
        Factor of the term, less than 1 where several are added up.
    psf
        PSF (K, K) of `reference` and its derivatives (P, K, K), of the coarse family;
        computed where they are needed if not given.
    """

    def __init__(
        self,
        family: BlurFamily,
        image: torch.Tensor,
        sigma: float,
        reference: torch.Tensor,
        share: float = 1.0,
        psf: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> None:
        self._family = coarse(family)
        # Cloned: a fit changes its γ in place.
        self._reference, self._known = reference.clone(), psf
        at_reference = self._family.psf(reference) if psf is None else psf[0]
        whole = extend(image, at_reference.shape[-1] - 1)
        whole = whole - whole.mean()
        self._shape = (whole.shape[0], whole.shape[1])
        self._part = frame_part(self._shape, (image.shape[0], image.shape[1]))
        transfer, power = self._transfer(at_reference)
        spectrum = torch.fft.rfft2(whole)
        balance, rise = noise_share(spectrum, self._shape, power, sigma)
        self._filtered = power.sqrt() / (power + _NOISE_FACTOR * balance) * spectrum
        self._last = self._evaluate_at(reference, transfer, power)
        self._weight = share * WEIGHT * image.numel() ** 0.5 / DEVIATION
        # Share of each frequency in the energy of the specimen's gradients.
        coarse_otf = torch.fft.rfft2(at_reference, s=(WINDOW, WINDOW))
        power = coarse_otf.real**2 + coarse_otf.imag**2
        radius, _ = frequencies(image.device)
        balance = (rise * radius**2).clamp(min=_LEAST_SHARE)
        gain = power / (power + _NOISE_FACTOR * balance) ** 2
        self._energy = (gain * power / (gain * (power + balance)).sum()).flatten()

    def cost(self, gamma: torch.Tensor) -> torch.Tensor:
        """Return (S,) the phase term at each of (S, P), as misfit up to a constant."""
        found = map(self._evaluation, gamma, self._family.psf(gamma))
        return self._cost(torch.stack([sparsity(one.image) for one in found]))

    def costs(self, gamma: torch.Tensor) -> torch.Tensor:
        """Return (2, S), `cost` of (S, P) and of the same PSFs rotated by 180°."""
        both = []
        for row, psf in zip(gamma, self._family.psf(gamma), strict=True):
            one = self._evaluation(row, psf)
            # A rotated PSF has the conjugate OTF.
            again = one.otf.square().mul_(one.spectrum)
            rotated = self._image(again.div_(one.power + _TINY))
            both.append(torch.stack([sparsity(one.image), sparsity(rotated)]))
        return self._cost(torch.stack(both, 1))

    def _cost(self, sparsities: torch.Tensor) -> torch.Tensor:
        cost: torch.Tensor = self._weight * sparsities.log()
        return cost

    def slope(self, gamma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the term's slope (S, P) in γ and its curvature (S, P, P).

        The curvature is Gauss-Newton's: phase errors φ remove a share ½ Σ w φ² of the
        edges' energy, w being the share of each frequency. Phases that are linear in
        the frequency only shift the image.
        """
        slope, curvature, cost = self._slope(gamma)
        return slope, self._edges(gamma, cost, slope, curvature) * curvature

    def _slope(
        self, gamma: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return slope, curvature if all energy were in edges, and cost (S,)."""
        psf, by_mode = self._psf_and_slopes(gamma)
        found = [
            self._by_pixel(self._evaluation(row, one), len(one))
            for row, one in zip(gamma, psf, strict=True)
        ]
        cost = torch.stack([one for one, _ in found])
        by_pixel = torch.stack([one for _, one in found])
        slope = (by_mode * by_pixel[:, None]).sum((-2, -1))
        coarse_otf = torch.fft.rfft2(psf, s=(WINDOW, WINDOW))
        otf_slopes = torch.fft.rfft2(by_mode, s=(WINDOW, WINDOW))
        power = (coarse_otf.real**2 + coarse_otf.imag**2 + _DARK)[:, None]
        phases = ((coarse_otf.conj()[:, None] * otf_slopes).imag / power).flatten(2)
        ramps = _ramps(gamma.device)
        weighted = ramps * self._energy
        shift = torch.linalg.solve(weighted @ ramps.T, weighted @ phases.mT)
        phases = phases - shift.mT @ ramps
        return slope, self._weight * (phases * self._energy) @ phases.mT, cost

    def _psf_and_slopes(self, gamma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return PSFs (S, K, K) and their derivatives (S, P, K, K) at (S, P)."""
        if self._known is not None and torch.equal(gamma, self._reference[None]):
            return self._known[0][None], self._known[1][None]
        return self._family.psf_and_jacobian(gamma)

    def _edges(
        self,
        gamma: torch.Tensor,
        cost: torch.Tensor,
        slope: torch.Tensor,
        curvature: torch.Tensor,
    ) -> torch.Tensor:
        """Return (S, 1, 1) the share of the gradients' energy that is in edges."""
        bend = (slope * (curvature @ slope[..., None])[..., 0]).sum(1, keepdim=True)
        down = -slope * (2 * _PROBE / bend.clamp(min=_TINY)).sqrt()
        rise = self.cost(gamma + down) - cost - (slope * down).sum(1)
        edges = (rise / _PROBE).clamp(_LEAST_EDGES, _MOST_EDGES)
        return edges[:, None, None]

    def local(
        self, gamma: torch.Tensor, edges: torch.Tensor | None = None
    ) -> LocalPhase:
        """Return a quadratic model near γ (1, P); `edges` are measured if not given."""
        slope, curvature, cost = self._slope(gamma)
        if edges is None:
            edges = self._edges(gamma, cost, slope, curvature)
        scale = torch.as_tensor(self._family.prior.scale).to(gamma)
        return LocalPhase(gamma, slope, edges * curvature, scale, edges)

    def _transfer(self, psf: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ĥ and |ĥ|² (H, W//2+1) of a PSF (K, K)."""
        transfer = otf(psf, self._shape)
        return transfer, transfer.real.square().addcmul_(transfer.imag, transfer.imag)

    def _evaluation(self, gamma: torch.Tensor, psf: torch.Tensor) -> _Evaluation:
        """Return the evaluation at γ (P,), whose PSF is given; the last one is kept."""
        if not torch.equal(gamma, self._last.gamma):
            self._last = self._evaluate_at(gamma, *self._transfer(psf))
        return self._last

    def _evaluate_at(
        self, gamma: torch.Tensor, transfer: torch.Tensor, power: torch.Tensor
    ) -> _Evaluation:
        spectrum = self._filtered * transfer.conj()
        spectrum.mul_((power + _TINY).rsqrt_())
        # Cloned: a fit changes its γ in place.
        image = self._image(spectrum)
        return _Evaluation(gamma.clone(), transfer, power, spectrum, image)

    def _image(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Return the frame (H, W) that has these frequencies."""
        image: torch.Tensor = torch.fft.irfft2(spectrum, s=self._shape)
        return image[self._part]

    def _by_pixel(
        self, evaluation: _Evaluation, side: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the cost, and its derivatives (K, K) in a PSF's pixels, K = `side`.

        With ∂cost/∂x = g, the phase of ĥ has the derivative Im(conj(Fg)·Fx), and the
        change of that phase is Im(conj(ĥ)·F∂h)/|ĥ|².
        """
        _, transfer, power, spectrum, frame = evaluation
        down, right = frame.diff(dim=0)[:, :-1], frame.diff(dim=1)[:-1]
        square = down**2 + right**2 + _TINY
        length = square.sqrt()
        total, energy = length.sum(), square.sum()
        cost = self._weight * (total / (energy * length.numel()).sqrt()).log()
        pull = length.mul_(total).reciprocal_().sub_(1 / energy)
        down.mul_(pull)
        right.mul_(pull)
        by_image = frame.new_zeros(self._shape)
        inside = by_image[self._part]
        inside[1:, :-1] += down
        inside[:-1, 1:] += right
        inside[:-1, :-1] -= down.add_(right)
        by_phase = torch.fft.rfft2(by_image).conj().mul(spectrum).imag
        by_phase.div_(power + _TINY)
        # Like `irfft2`, but only for the pixels of the PSF.
        half = side // 2
        lines = torch.fft.ifft(by_phase * transfer, dim=0).roll(half, 0)[:side]
        across = torch.fft.irfft(1j * lines, n=self._shape[1]).roll(half, 1)
        return cost, self._weight * across[:, :side]


@lru_cache(maxsize=8)
def _ramps(device: torch.device) -> torch.Tensor:
    """Return (2, N): the frequencies along either axis, cycles per pixel."""
    y = torch.fft.fftfreq(WINDOW, device=device)
    x = torch.fft.rfftfreq(WINDOW, device=device)
    return torch.stack(torch.meshgrid(y, x, indexing="ij")).flatten(1)
