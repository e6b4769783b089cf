"""How much of a deblurred frame may be shown: all of it, a part, or none, and why.

A result that is right, blurred again, is the frame to within its noise: at all
frequencies, and in particular where the blur passes almost nothing. What the frame has
there beyond its noise did not come through this blur.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from deepblur_live.blur import relative_error
from deepblur_live.optics import contradiction, frame_part, seven_smooth
from deepblur_live.runtime.calibration import conserves_flux, keeps_flux

if TYPE_CHECKING:
    from deepblur_live.blur import BlurFamily, LinearBlur
    from deepblur_live.optics import NoiseModel

__all__ = ["Evidence", "FrameGuard", "Verdict", "untreatable"]

# Side in pixels of the windows in which the residual's spectrum is measured; so many
# suffice.
_WINDOW, _MOST = 64, 32
# Reach in pixels of the mean that the noise at a pixel depends on (`local_light`).
_LIGHT = 2
# Bands of frequencies as shares of the OTF's cut-off: where the blur passes detail,
# where it passes almost none, and where there is noise alone.
_BANDS = ((0.1, 0.5), (0.5, 0.98), (1.04, 2.0))
# Bands in which the specimen that the frame implies is compared, fine with coarse; what
# counts as more than noise in the first.
_SPECIMEN, _VISIBLE = ((0.12, 0.3), (0.5, 0.85)), 0.1
# Neighbouring bins of a Hann window are correlated: so many count as one. Deviations
# that are no chance, and the least side in pixels of what is judged.
_CORRELATED, _CERTAIN, _LEAST_INNER = 2.25, 3.0, 16
# Limits; how they were found: docs/decisions/0158-guard.md. The residual may grow with
# the stated error of the coefficients, relative to the family's range: by how much.
_FINE, _FINE_PER_ERROR = 1.6, 3.0
_UNEXPLAINED, _UNEXPLAINED_PER_ERROR = 0.7, 1.5
_RISE = 0.7
# Such an error at which half of the result is shown, how steeply its share falls with
# the error, and the error from which nothing is shown (docs/decisions/0175).
_HALF_ERROR, _STEEPNESS, _RAW_ERROR = 0.4, 1.2, 0.8
# From this share on all is shown, and below this one the reason is shown.
_ALL, _MOST_OF_IT = 0.95, 0.75
# With more pixels of one highest value than this share, and so many times as many as of
# the value below it, a frame is clipped.
_CLIPPED, _PLATEAU = 0.01, 3.0
# Places of the frame, along each side, over which |ĥ|² is averaged.
_PLACES = (1 / 6, 1 / 2, 5 / 6)
_TINY = 1e-30


@dataclass(frozen=True)
class Verdict:
    """How much of a deblurred frame may be shown.

    Parameters
    ----------
    strength
        Share of the deblurred frame; the rest is the raw one.
    reason
        Why it is clearly less than 1, for the user; empty otherwise.
    """

    strength: float = 1.0
    reason: str = ""


@dataclass(frozen=True)
class Evidence:
    """What a deblurred frame, blurred again, leaves of the raw frame.

    Parameters
    ----------
    fine
        Power of the residual where the blur passes almost nothing, over that of the
        noise alone: 1 if the blur is right, more if the frame is sharper than that.
    unexplained
        Share of the frame's power, where the blur does pass detail, that is neither
        noise nor explained by the result.
    rise
        Power of the specimen that the frame implies, where the blur passes almost
        nothing over where it passes most: at most about 1, that of points, if the blur
        is right; 0 where there is only noise.
    chance
        What the first may exceed its expectation by, in a frame as small as this.
    """

    fine: float
    unexplained: float
    rise: float
    chance: float = 0.0


def untreatable(
    image: torch.Tensor,
    noise: NoiseModel,
    calibrated: NoiseModel | None = None,
) -> str:
    """Return why a frame cannot be deblurred however well its blur is known, or "".

    Parameters
    ----------
    image
        (H, W) the scaled frame.
    noise
        Its noise, of one frame.
    calibrated
        The noise by the camera's calibration, where `noise` was measured from the frame
        (`deepblur_live.optics.measure_noise`) and there is a calibration.
    """
    # A finite line above a positive least variance needs no look at the pixels.
    values = torch.cat([noise.slope, noise.intercept, noise.least])
    certain = bool(values.isfinite().all()) and bool((noise.least > 0).all())
    if not certain:
        sigma = noise.to(image.device).map(image[None])
        certain = bool((sigma.isfinite() & (sigma > 0)).all())
    if not certain:
        return (
            "the noise of the frame is zero or not a number: check the camera's gain, "
            "offset and read noise, and give raw frames"
        )
    highest = image == image.amax()
    share = float(highest.float().mean())
    if share > _CLIPPED:
        below = image.masked_fill(highest, -torch.inf)
        if share > _PLATEAU * float((below == below.amax()).float().mean()):
            return f"clipped: {share:.0%} of the pixels have the highest value"
    if calibrated is None:
        return ""
    return contradiction(calibrated.to(image.device), noise.to(image.device), image)


class _Blur(NamedTuple):
    """A blur A(γ) on images of one shape, and what it passes: |ĥ|² in the bands."""

    coefficients: torch.Tensor
    shape: tuple[int, int]
    frame: tuple[int, int]
    device: torch.device
    operator: LinearBlur
    passed: list[float]


class FrameGuard:
    """Judges every deblurred frame of a rig.

    Parameters
    ----------
    family
        The rig's blurs.
    """

    def __init__(self, family: BlurFamily) -> None:
        self._family = family
        self._blur: _Blur | None = None

    def refusal(self, covariance: torch.Tensor) -> str:
        """Return why no frame may be deblurred with this blur, or "".

        Parameters
        ----------
        covariance
            (P, P) of its coefficients, on the CPU.
        """
        # NaN fails the comparison too.
        if not self._relative_error(covariance) <= _RAW_ERROR:
            return f"the blur is too uncertain ({self._show(covariance)})"
        return ""

    def strength(self, covariance: torch.Tensor) -> float:
        """Return the share of a result that may be shown if nothing speaks against it.

        Parameters
        ----------
        covariance
            (P, P) of the blur's coefficients, on the CPU.
        """
        return _strength(self._relative_error(covariance))

    @torch.no_grad()
    def verdict(
        self,
        image: torch.Tensor,
        sharp: torch.Tensor,
        coefficients: torch.Tensor,
        covariance: torch.Tensor,
        noise: NoiseModel,
    ) -> Verdict:
        """Judge a deblurred frame.

        Parameters
        ----------
        image, sharp
            (H, W) the scaled frame and the deblurred one, on one device.
        coefficients, covariance
            γ (P,) and (P, P) of the blur it was deblurred with, on the CPU.
        noise
            Of the image.

        Returns
        -------
        Verdict
            With the strength 0, or `strength` of the covariance.
        """
        if reason := self.refusal(covariance):
            return Verdict(0.0, reason)
        side, error = min(image.shape), self._relative_error(covariance)
        large = side - 2 * (self._family.window // 2) >= _LEAST_INNER
        if large:
            found, before, after = self._measure(image, sharp, coefficients, noise)
            flux = keeps_flux(before, after, side)
        else:
            flux = conserves_flux(image, sharp)
        if not flux:
            return Verdict(0.0, "the deblurred frame failed its check of total light")
        if not large:
            return Verdict(0.0, "the frame is too small to judge a deblurred one")
        # NaN fails the comparisons too.
        if not found.unexplained <= _UNEXPLAINED + _UNEXPLAINED_PER_ERROR * error:
            return Verdict(
                0.0, "the deblurred frame, blurred again, does not match the raw frame"
            )
        fine = _FINE + _FINE_PER_ERROR * error + found.chance
        sharper = not found.fine <= fine
        if sharper or not found.rise <= _RISE:
            return Verdict(
                0.0,
                "the frame has finer detail than this blur passes: it may already be "
                "sharp or processed; use raw frames",
            )
        strength = _strength(error)
        if strength >= _MOST_OF_IT:
            return Verdict(strength)
        return Verdict(
            strength,
            f"{strength:.0%} strength: the blur is uncertain "
            f"({self._show(covariance)})",
        )

    @torch.no_grad()
    def evidence(
        self,
        image: torch.Tensor,
        sharp: torch.Tensor,
        coefficients: torch.Tensor,
        noise: NoiseModel,
    ) -> Evidence:
        """Return what the result leaves unexplained; arguments as `verdict`."""
        return self._measure(image, sharp, coefficients, noise)[0]

    def _measure(
        self,
        image: torch.Tensor,
        sharp: torch.Tensor,
        coefficients: torch.Tensor,
        noise: NoiseModel,
    ) -> tuple[Evidence, float, float]:
        """Return the evidence, and the means of the frame and of the result."""
        noise = noise.to(image.device)
        rows, columns = image.shape
        shape = (seven_smooth(rows), seven_smooth(columns))
        down, right = frame_part(shape, (rows, columns))
        padding = (
            *(right.start, shape[1] - right.stop),
            *(down.start, shape[0] - down.stop),
        )
        whole = F.pad(sharp.float()[None, None], padding, mode="replicate")[0]
        blur = self._blur_of(coefficients, shape, (rows, columns), image.device)
        again = blur.operator.forward(whole)
        # What crosses the border is not known.
        edge = self._family.window // 2
        frame, blurred = (
            _windows(part, edge) for part in (image, again[0, down, right])
        )
        sigma = noise.map(frame)
        both = torch.stack([blurred - frame, frame]) / sigma
        means = torch.stack([image.mean(), sharp.mean()])
        power, means, windows = _spectra(
            both[..., _LIGHT:-_LIGHT, _LIGHT:-_LIGHT], means
        )
        cutoff = self._family.cutoff
        bands = _means(power, cutoff).T.tolist()
        (left, had), fine, beyond = bands[:3]
        left, had = max(0.0, left - 1), max(0.0, had - 1)
        chance = _CERTAIN * _scatter(cutoff) / math.sqrt(windows)
        evidence = Evidence(
            fine[0] / max(beyond[0], _TINY),
            left / had if had > 0 else 0.0,
            _rise([of[1] for of in bands[3:]], beyond[1], blur.passed[3:], chance),
            chance,
        )
        before, after = means.tolist()
        return evidence, before, after

    def _blur_of(
        self,
        coefficients: torch.Tensor,
        shape: tuple[int, int],
        frame: tuple[int, int],
        device: torch.device,
    ) -> _Blur:
        """Return the blur of γ; it takes milliseconds, and seldom changes."""
        last = self._blur
        if (
            last is not None
            and (last.shape, last.frame, last.device) == (shape, frame, device)
            and torch.equal(last.coefficients, coefficients)
        ):
            return last
        gamma = coefficients.float()
        kernels = tuple(k.to(device) for k in self._family.kernels(gamma[None]))
        psfs = torch.stack(
            [
                self._family.psf(gamma, (row, column))
                for row in _PLACES
                for column in _PLACES
            ]
        )
        spectra = torch.fft.rfft2(psfs, s=(_WINDOW, _WINDOW))
        self._blur = _Blur(
            coefficients.clone(),
            shape,
            frame,
            device,
            self._family.operator_from(kernels, shape, frame),
            _means(spectra.abs().square().mean(0, keepdim=True), self._family.cutoff)[
                0
            ].tolist(),
        )
        return self._blur

    def _relative_error(self, covariance: torch.Tensor) -> float:
        """Return the stated error of a coefficient relative to its range, rms."""
        return relative_error(self._family, covariance.double().numpy())

    def _show(self, covariance: torch.Tensor) -> str:
        metric = self._family.metric
        values = covariance.double().numpy()
        if not np.isfinite(values).all():
            return "by an unknown amount"
        size = np.trace(metric.matrix @ values)
        return f"± {metric.show(float(np.sqrt(max(0.0, size))))}"


def _strength(error: float) -> float:
    """Return the share of the result to be shown at a stated error of γ.

    Relative to the family's range. The share with the least loss in decibels, on
    average over frames.
    """
    share = 1 / (1 + (error / _HALF_ERROR) ** _STEEPNESS)
    return 1.0 if share >= _ALL else share


def _rise(
    power: list[float], noise: float, passed: list[float], chance: float
) -> float:
    """Return `Evidence.rise` of a frame's power in the bands, which pass |ĥ|²."""
    coarse, fine = power
    if fine <= (1 + max(_VISIBLE, chance)) * noise or coarse <= noise:
        return 0.0
    implied = [
        (found - noise) / max(share, _TINY)
        for found, share in zip(power, passed, strict=True)
    ]
    return implied[1] / implied[0]


def _means(power: torch.Tensor, cutoff: float) -> torch.Tensor:
    """Return the mean power (B, 5) of spectra (B, W, W//2+1) in all bands; 1 if empty.

    In one product: selecting the frequencies of each band takes longer.
    """
    weights, empty = _weights(cutoff)
    means: torch.Tensor = power.flatten(1) @ weights + empty
    return means


@lru_cache(maxsize=4)
def _weights(cutoff: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights (W·(W//2+1), 5) of means over the bands, and (5,) 1 if empty."""
    bands = torch.stack(
        [_band(*band, cutoff).flatten().float() for band in (*_BANDS, *_SPECIMEN)], 1
    )
    count = bands.sum(0)
    return bands / count.clamp(min=1), (count == 0).float()


@lru_cache(maxsize=16)
def _band(low: float, high: float, cutoff: float) -> torch.Tensor:
    """Return the mask (W, W//2+1) of a band, in shares of the OTF's cut-off."""
    down = torch.fft.fftfreq(_WINDOW)[:, None]
    radius = torch.hypot(down, torch.fft.rfftfreq(_WINDOW)) / (2 * cutoff)
    return (radius >= low) & (radius < high)


@lru_cache(maxsize=4)
def _scatter(cutoff: float) -> float:
    """Return the deviation of the ratio of white noise in the two finer bands.

    For one window.
    """
    counts = [max(1, int(_band(*band, cutoff).sum())) for band in _BANDS[1:]]
    return math.sqrt(_CORRELATED * sum(1 / count for count in counts))


def _windows(image: torch.Tensor, edge: int) -> torch.Tensor:
    """Return windows (N, W + 2·2, W + 2·2) of the inside of an image (H, W).

    With the pixels around them that their noise depends on.

    Parameters
    ----------
    image
        (H, W).
    edge
        Width of the border that is left out of the windows themselves.
    """
    out = edge - _LIGHT
    inside = image[out : image.shape[0] - out, out : image.shape[1] - out]
    side = min(_WINDOW, *(size - 2 * _LIGHT for size in inside.shape))
    wide = side + 2 * _LIGHT
    windows = inside.unfold(0, wide, side).unfold(1, wide, side).flatten(0, 1)
    return windows[:: -(-len(windows) // _MOST)]


def _spectra(
    windows: torch.Tensor, means: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Return the mean power spectra (B, W, W//2+1) of windows (B, N, w, w), w ≤ W.

    And the means of the frames, both on the CPU; and the number of whole windows that
    the spectra are worth.
    """
    side = windows.shape[-1]
    taper = _taper(side, windows.dtype, windows.device)
    tapered = (windows - windows.mean((-2, -1), keepdim=True)) * taper
    size = (_WINDOW, _WINDOW)
    # Windows of small frames are filled up with zeros.
    spectra = torch.fft.rfft2(tapered, s=size) / side
    power = spectra.real.square().addcmul_(spectra.imag, spectra.imag).mean(1)
    # A card is waited for once.
    numbers = torch.cat([power.flatten(), means]).cpu()
    power, means = numbers[:-2].view(power.shape), numbers[-2:]
    return power, means, windows.shape[1] * (side / _WINDOW) ** 2


@lru_cache(maxsize=4)
def _taper(side: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return the Hann window (w, w), of mean square 1."""
    line = torch.hann_window(side, dtype=dtype, device=device)
    taper = line[:, None] * line
    return taper / taper.square().mean().sqrt()
