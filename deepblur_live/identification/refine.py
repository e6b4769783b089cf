"""From an average spectrum to γ: library start, robust joint fit, covariance, verdict.

The model of a spectrum is ``S(f) = exp(Σ b_q B_q(f))·|ĥ_γ(f)|² + σ²``: the specimen's
own spectrum is smooth (`detrend.smooth_basis`), the OTF's notches are not, and the
noise is white. Its logarithm is fitted by robust least squares in (γ, b, log σ²)
together, over all frequencies: what drowns in noise then counts for as much as it says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.identification.detrend import detrend, smooth_basis
from deepblur_live.identification.spectrum import (
    WINDOW,
    Reliable,
    frequencies,
    has_corner,
    reliable,
)
from deepblur_live.optics import Estimate, ZernikeFamily

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Fit", "SpectralRefiner"]

# |ĥ|² is never trusted below this: notches are filled by leakage of the window.
_OTF_FLOOR = 3e-5
# Relative error of the model: how far real specimens stray from a smooth spectrum.
_MODEL_ERROR = 0.2
# Leakage of the window, relative to the strongest frequency.
_LEAKAGE = 1e-7
_HUBER = 1.5
# Neighbouring bins stray together: so many of them count as one.
_CORRELATED = 4.0
_MIN_BINS = 60


@dataclass(frozen=True)
class Fit:
    """Fits of one spectrum from several starts, best first.

    Parameters
    ----------
    coefficients
        (S, P), waves rms.
    objective
        (S,) penalised robust misfit.
    covariance
        (P, P), of the best.
    quality
        Root mean square of the best's weighted residuals: about 1 when the spectrum
        is that of a blur of the family.
    """

    coefficients: NDArray[np.float64]
    objective: NDArray[np.float64]
    covariance: NDArray[np.float64]
    quality: float


@dataclass(frozen=True)
class _Data:
    log_power: torch.Tensor  # (N,)
    weight: torch.Tensor  # (N,) one over the standard deviation of log_power
    basis: torch.Tensor  # (N, Q)
    keep: torch.Tensor  # mask over all bins
    log_floor: float
    floor_sigma: float  # relative
    reliable: Reliable


class SpectralRefiner:
    """Robust joint fit of γ, the specimen's spectrum and the noise.

    Parameters
    ----------
    family
        The blurs to choose among.
    library
        Number of random PSFs that a start without knowledge is chosen from.
    prior_sigma
        Prior standard deviation of a coefficient over its half-range.
    max_quality
        A misfit beyond this many times the expected one is out of the family.
    """

    def __init__(
        self,
        family: ZernikeFamily,
        *,
        library: int = 12_000,
        prior_sigma: float = 0.6,
        max_quality: float = 2.5,
    ) -> None:
        self.family = family
        self.max_quality = max_quality
        self._library_size = library
        self._prior = 1 / (prior_sigma * torch.tensor(family.half_ranges))

    def prepare(
        self,
        spectrum: torch.Tensor,
        looks: float,
        frames: float,
        noise_variance: float | None = None,
    ) -> _Data:
        """Take the logarithm and weigh the bins of an average spectrum."""
        # Below any camera's noise leakage and rounding rule, and they are not white.
        spectrum = spectrum + _LEAKAGE * spectrum.amax()
        found = reliable(spectrum, looks, frames, self.family.cutoff, noise_variance)
        radius, _ = frequencies(spectrum.device)
        keep = radius > 1.2 / WINDOW
        # The signal's share decides how much the model's error counts. Of the raw
        # spectrum it would be biased bin by bin: smoothed, it hardly is.
        wrapped = torch.cat([spectrum[-1:], spectrum, spectrum[:1]])
        smooth = torch.nn.functional.avg_pool2d(
            torch.nn.functional.pad(wrapped[None, None], (1, 1, 0, 0), mode="reflect"),
            3,
            1,
        )[0, 0]
        share = (1 - found.floor / smooth).clamp(0, 1)
        weight = 1 / torch.sqrt(1 / (looks * frames) + (_MODEL_ERROR * share) ** 2)
        flat = keep.flatten()
        if noise_variance is not None:
            floor_sigma = 0.05
        else:
            floor_sigma = 0.1 if has_corner(self.family.cutoff) else 1.0
        return _Data(
            torch.log(spectrum.clamp(min=1e-30)).flatten()[flat],
            weight.flatten()[flat],
            smooth_basis(spectrum.device)[flat],
            flat,
            math.log(float(found.floor)),
            floor_sigma,
            found,
        )

    def _model(self, gamma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log|ĥ|² (S, N) and its derivatives (S, P, N) over all bins."""
        psf, slope = self.family.psf_and_jacobian(gamma)
        otf = torch.fft.rfft2(psf, s=(WINDOW, WINDOW))
        slopes = torch.fft.rfft2(slope, s=(WINDOW, WINDOW))
        power = otf.real**2 + otf.imag**2 + _OTF_FLOOR
        change = 2 * (otf.conj()[:, None] * slopes).real / power[:, None]
        return torch.log(power).flatten(1), change.flatten(2)

    def starts(self, data: _Data, count: int) -> torch.Tensor:
        """Return the (count, P) library coefficients that fit a spectrum best."""
        gamma, logs = _library(self.family, self._library_size)
        weight = data.reliable.weight.flatten()
        keep = weight > 0
        rows = data.reliable.log_signal.flatten()[keep] - logs[:, keep]
        residual = detrend(rows[None], weight[keep][None], keep)[0]
        misfit = residual.abs().clamp(max=3).mean(1)
        return gamma[torch.topk(-misfit, count).indices]

    def _misfit(
        self,
        data: _Data,
        gamma: torch.Tensor,
        rest: torch.Tensor,
        anchor: torch.Tensor,
        penalty: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return objective (S,), residual (S, N), slopes (S, P+Q+1, N), weights (S, N).

        `rest` is (S, Q+1): b and log σ²; `anchor` (S, P+Q+1) and
        `penalty`, one over its standard deviation, are the prior of everything.
        """
        logs, slopes = self._model(gamma)
        logs, slopes = logs[:, data.keep], slopes[..., data.keep]
        log_signal = logs + rest[:, :-1] @ data.basis.T
        log_noise = rest[:, -1:].expand_as(log_signal)
        mean = torch.logaddexp(log_signal, log_noise)
        share = torch.exp(log_signal - mean)[:, None]
        residual = (data.log_power - mean) * data.weight
        slope = torch.cat(
            [
                slopes * share,
                data.basis.T[None] * share,
                torch.exp(log_noise - mean)[:, None],
            ],
            1,
        )
        slope = slope * data.weight
        size = residual.abs()
        cost = torch.where(size < _HUBER, 0.5 * size**2, _HUBER * (size - 0.5 * _HUBER))
        robust = (_HUBER / size.clamp(min=_HUBER)) / _CORRELATED
        offset = torch.cat([gamma, rest], 1) - anchor
        prior = 0.5 * (offset * penalty).square().sum(1)
        return cost.sum(1) / _CORRELATED + prior, residual, slope, robust

    def _aligned(self, mean: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        """Return (S, P) a mean with the signs, block by block, of each start.

        A spectrum is blind to the common sign of the even and of the odd modes.
        """
        aligned = mean.expand_as(starts).clone()
        even = torch.from_numpy(self.family.even)
        for block in (even, ~even):
            agree = (aligned[:, block] * starts[:, block]).sum(1, keepdim=True)
            aligned[:, block] *= torch.where(agree < 0, -1.0, 1.0)
        return aligned

    def _begin(self, data: _Data, gamma: torch.Tensor) -> torch.Tensor:
        """Return (S, Q+1): the specimen and noise that fit given γ best, roughly."""
        weight = data.reliable.weight.flatten()[data.keep]
        logs = self._model(gamma)[0][:, data.keep]
        rows = data.reliable.log_signal.flatten()[data.keep] - logs
        basis = data.basis * weight[:, None]
        q = basis.shape[1]
        gram = (
            basis.T @ basis + 1e-3 * torch.eye(q) * float(weight.square().sum() + 1) / q
        )
        b = torch.linalg.solve(gram, basis.T @ (rows * weight).T).T
        return torch.cat([b, torch.full((len(gamma), 1), data.log_floor)], 1)

    def fit(
        self,
        data: _Data,
        starts: torch.Tensor,
        prior: tuple[torch.Tensor, torch.Tensor] | None = None,
        iterations: int = 15,
    ) -> Fit:
        """Refine (S, P) starts by damped Gauss–Newton with Huber weights.

        `prior` is a mean and standard deviation (P,) of γ, up to the signs of the even
        and of the odd block; the family's range around zero when None.
        """
        p = starts.shape[1]
        gamma, rest = starts.clone(), self._begin(data, starts)
        centre, tight = torch.zeros_like(starts), self._prior
        if prior is not None:
            centre, tight = self._aligned(prior[0], starts), 1 / prior[1]
        anchor = torch.cat([centre, rest], 1)
        loose = torch.full((data.basis.shape[1],), 0.5)
        penalty = torch.cat([tight, loose, torch.tensor([1 / data.floor_sigma])])
        curvature = penalty**2
        damping = torch.full((len(gamma),), 1e-2)
        state = self._misfit(data, gamma, rest, anchor, penalty)
        for _ in range(iterations):
            objective, residual, slope, robust = state
            weighted = slope * robust[:, None]
            hessian = weighted @ slope.mT + torch.diag(curvature)
            offset = torch.cat([gamma, rest], 1) - anchor
            gradient = (weighted @ residual[..., None])[..., 0] - offset * curvature
            damped = hessian + damping[:, None, None] * torch.diag_embed(
                hessian.diagonal(dim1=-2, dim2=-1)
            )
            step = torch.linalg.solve(damped, gradient)
            # A step longer than the family's scale leaves the linear range.
            length = step[:, :p].norm(dim=1, keepdim=True)
            step = step * (0.15 / length.clamp(min=0.15))
            trial = self._misfit(
                data, gamma + step[:, :p], rest + step[:, p:], anchor, penalty
            )
            better = trial[0] < objective
            gain = (objective - trial[0]).clamp(min=0)
            gamma = torch.where(better[:, None], gamma + step[:, :p], gamma)
            rest = torch.where(better[:, None], rest + step[:, p:], rest)
            state = (
                torch.where(better, trial[0], objective),
                torch.where(better[:, None], trial[1], residual),
                torch.where(better[:, None, None], trial[2], slope),
                torch.where(better[:, None], trial[3], robust),
            )
            damping = torch.where(better, damping / 5, damping * 6).clamp(1e-6, 1e4)
            if bool((better | (damping >= 1e4)).all()) and float(gain.max()) < 1e-3:
                break
        objective, residual, slope, robust = state
        order = torch.argsort(objective)
        best = int(order[0])
        quality = float(
            (residual[best] ** 2 * robust[best] * _CORRELATED).mean().sqrt()
        )
        slope_best = slope[best].double()
        information = (slope_best * robust[best].double()) @ slope_best.T
        information = information / max(1.0, quality) ** 2 + torch.diag(
            curvature.double()
        )
        covariance = torch.linalg.inv(information)[:p, :p].numpy()
        return Fit(
            gamma[order].double().numpy(),
            objective[order].double().numpy(),
            covariance,
            quality,
        )

    def silent(self, data: _Data) -> Estimate | None:
        """Return an untrusted estimate when too little rises above the noise to fit."""
        if int(data.reliable.bins) >= _MIN_BINS:
            return None
        p = self.family.n_coefficients
        covariance = np.diag(1 / self._prior.double().numpy() ** 2)
        reason = "nothing in the frame rises above the noise"
        return Estimate(np.zeros(p), covariance, float("inf"), False, reason)

    def judge(self, data: _Data, fit: Fit) -> Estimate:
        """Return the best fit as an estimate, or say why it cannot be trusted."""
        gamma, covariance = fit.coefficients[0], fit.covariance
        half = np.array(self.family.half_ranges)
        reason = ""
        if fit.quality > self.max_quality:
            reason = "no blur of the family fits the frame"
        elif np.any(np.abs(gamma) > 2.5 * half):
            reason = "the blur is out of the family's range"
        elif math.sqrt(float(np.trace(covariance)) / len(gamma)) > 0.5 * half.mean():
            reason = "the blur is too uncertain"
        return Estimate(gamma, covariance, fit.quality, not reason, reason)


@lru_cache(maxsize=4)
def _library(family: ZernikeFamily, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random coefficients (size, P) and their log|ĥ|² (size, N)."""
    # Half the pupil samples are 55 dB true: enough for a start, in a quarter the time.
    family = replace(family, pupil_samples=63)
    generator = torch.Generator().manual_seed(0)
    half = size // 2
    gamma = torch.cat(
        [family.sample(half, generator), family.sample_rms(size - half, generator)]
    )
    logs = []
    for first in range(0, size, 256):
        part = gamma[first : first + 256]
        otf = torch.fft.rfft2(family.psf(part), s=(WINDOW, WINDOW))
        logs.append(torch.log(otf.real**2 + otf.imag**2 + _OTF_FLOOR).flatten(1))
    return gamma, torch.cat(logs)
