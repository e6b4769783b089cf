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

from deepblur_live.blur import relative_error
from deepblur_live.optics import contradiction
from deepblur_live.runtime.calibration import keeps_flux
from deepblur_live.runtime.check_graph import (
    BANDS,
    WINDOW,
    CheckGraph,
    band,
    band_means,
)
from deepblur_live.runtime.graph import wait

if TYPE_CHECKING:
    from deepblur_live.blur import BlurFamily
    from deepblur_live.optics import NoiseModel

__all__ = ["Evidence", "FrameGuard", "Verdict", "untreatable"]

# Excess over the noise, in the finer of the specimen's two bands, that is visible.
_VISIBLE = 0.1
# Bins of a Hann window that count as one, as neighbours are correlated; and the number
# of standard deviations that is not by chance.
_CORRELATED, _CERTAIN = 2.25, 3.0
# Limits of `Evidence`; two grow with the stated error of the coefficients over the
# family's range (docs/decisions/0158-guard.md).
_FINE, _FINE_PER_ERROR = 1.6, 3.0
_UNEXPLAINED, _UNEXPLAINED_PER_ERROR = 0.7, 1.5
_RISE = 0.7
# Stated error at which half of the result is shown, how steeply the share falls with
# it, and the error from which nothing is shown (docs/decisions/0175).
_HALF_ERROR, _STEEPNESS, _RAW_ERROR = 0.35, 2.0, 0.8
# From the first share on, all of the result is shown; below the second, a reason is.
_ALL, _MOST_OF_IT = 0.95, 0.75
# A frame is clipped if more than this share of its pixels have the highest value, and
# so many times as many as have the value below it.
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
    """How a deblurred frame, blurred again, differs from the raw frame.

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
    """A blur of the rig, and what it passes: |ĥ|² in the bands."""

    coefficients: torch.Tensor
    kernels: tuple[torch.Tensor, ...]
    passed: list[float]


class Measured(NamedTuple):
    """Measurements by which a deblurred frame is judged.

    Parameters
    ----------
    numbers
        `CheckGraph.run`'s, on the CPU; from a card they are downloaded asynchronously.
    side
        The shorter side of the frame.
    windows
        `CheckGraph.windows`.
    passed
        |ĥ|² of the blur in the bands.
    """

    numbers: torch.Tensor
    side: int
    windows: float
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
        # The last covariance and its stated error, which change only with the track.
        self._uncertainty: torch.Tensor | None = None
        self._error = math.nan
        self._check: CheckGraph | None = None
        self._checked: tuple[object, ...] = ()

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
        """Return the share of a result that may be shown if the checks pass.

        Parameters
        ----------
        covariance
            (P, P) of the blur's coefficients, on the CPU.
        """
        return _strength(self._relative_error(covariance))

    def measure(
        self,
        image: torch.Tensor,
        sharp: torch.Tensor,
        coefficients: torch.Tensor,
        noise: NoiseModel,
    ) -> Measured:
        """Start to compare a deblurred frame with the raw one, for `judge`.

        Parameters
        ----------
        image, sharp
            (H, W) the scaled frame and the deblurred one, on one device.
        coefficients
            γ (P,) of the blur it was deblurred with, on the CPU.
        noise
            Of the image.
        """
        rows, columns = image.shape
        if (rows, columns, image.device) != self._checked:
            # The last one's work may not have ended. It is all in this stream, which
            # its memory belongs to, and CUDA frees a graph once it has run.
            self._check = CheckGraph(self._family, (rows, columns), image.device)
            self._checked = rows, columns, image.device
        assert self._check is not None
        blur = self._blur_of(coefficients)
        numbers = self._check.run(image, sharp, blur.kernels, noise)
        return Measured(
            numbers.to("cpu", non_blocking=True, copy=True),
            min(rows, columns),
            self._check.windows,
            blur.passed,
        )

    def judge(self, measured: Measured, covariance: torch.Tensor) -> Verdict:
        """Return how much of a deblurred frame may be shown.

        Parameters
        ----------
        measured
            From `measure`, downloaded.
        covariance
            (P, P) of the coefficients, on the CPU.

        Returns
        -------
        Verdict
            With the strength 0, or `strength` of the covariance.
        """
        error = self._relative_error(covariance)
        before, after = measured.numbers[-2:].tolist()
        if not keeps_flux(before, after, measured.side):
            return Verdict(0.0, "the deblurred frame failed its check of total light")
        if not measured.windows:
            return Verdict(0.0, "the frame is too small to judge a deblurred one")
        found = self._evidence(measured)
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

    def verdict(
        self,
        image: torch.Tensor,
        sharp: torch.Tensor,
        coefficients: torch.Tensor,
        covariance: torch.Tensor,
        noise: NoiseModel,
    ) -> Verdict:
        """Judge a deblurred frame; arguments as `measure`, `judge` and `refusal`."""
        if reason := self.refusal(covariance):
            return Verdict(0.0, reason)
        measured = self.measure(image, sharp, coefficients, noise)
        wait(image.device)
        return self.judge(measured, covariance)

    def evidence(
        self,
        image: torch.Tensor,
        sharp: torch.Tensor,
        coefficients: torch.Tensor,
        noise: NoiseModel,
    ) -> Evidence:
        """Return what the result leaves unexplained; arguments as `measure`."""
        measured = self.measure(image, sharp, coefficients, noise)
        wait(image.device)
        return self._evidence(measured)

    def _evidence(self, measured: Measured) -> Evidence:
        residual, frame = measured.numbers[:-2].view(2, -1).tolist()
        left, had = max(0.0, residual[0] - 1), max(0.0, frame[0] - 1)
        noise, passed = frame[2], measured.passed
        chance = _CERTAIN * _scatter(self._family.cutoff) / math.sqrt(measured.windows)
        return Evidence(
            residual[1] / max(residual[2], _TINY),
            left / had if had > 0 else 0.0,
            _rise(frame[3:], noise, passed[3:], chance),
            chance,
        )

    def _blur_of(self, coefficients: torch.Tensor) -> _Blur:
        """Return the blur of γ; it takes milliseconds, and seldom changes."""
        last = self._blur
        if last is not None and torch.equal(last.coefficients, coefficients):
            return last
        gamma = coefficients.float()
        psfs = torch.stack(
            [
                self._family.psf(gamma, (row, column))
                for row in _PLACES
                for column in _PLACES
            ]
        )
        spectra = torch.fft.rfft2(psfs, s=(WINDOW, WINDOW))
        power = spectra.abs().square().mean(0, keepdim=True)
        passed = band_means(power, self._family.cutoff)[0].tolist()
        kernels = self._family.kernels(gamma[None])
        self._blur = _Blur(coefficients.clone(), kernels, passed)
        return self._blur

    def _relative_error(self, covariance: torch.Tensor) -> float:
        """Return the stated error of a coefficient relative to its range, rms."""
        if covariance is not self._uncertainty:
            error = relative_error(self._family, covariance.double().numpy())
            self._uncertainty, self._error = covariance, error
        return self._error

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


@lru_cache(maxsize=4)
def _scatter(cutoff: float) -> float:
    """Return the deviation of the ratio of white noise in the two finer bands.

    For one window.
    """
    counts = [max(1, int(band(*each, cutoff).sum())) for each in BANDS[1:3]]
    return math.sqrt(_CORRELATED * sum(1 / count for count in counts))
