"""The model of an average spectrum, its priors, and how far a spectrum is from it.

``S(f) = exp(μ(f) + Σ b_q B_q(f))·|ĥ_γ(f)|² + σ²``: the specimen's own spectrum follows
a prior (`SpecimenSpectrum`), and the noise is white. Residuals are those of log S, with
Huber weights, over all frequencies: those dominated by noise count for as much as they
contain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.identification.minima import aligned
from deepblur_live.identification.normal_equations import Slopes
from deepblur_live.identification.otf import LinearOtf, log_otf, log_otf_and_slopes
from deepblur_live.identification.specimen import SpecimenSpectrum
from deepblur_live.identification.spectrum import WINDOW
from deepblur_live.identification.starts import fitted_specimen

if TYPE_CHECKING:
    from deepblur_live.blur import BlurFamily, ErrorModel
    from deepblur_live.identification.observed import ObservedSpectrum

__all__ = ["CORRELATED", "SpectralModel"]

_HUBER = 1.5
CORRELATED = 4.0
"""Residuals of neighbouring bins are correlated: this many of them count as one."""

# Misfit by which the prior prefers no blur to one that is far from small
# (docs/decisions/0251-prior-near-zero.md).
_PREFERENCE = 2.0


class SpectralModel:
    """The spectra of specimens under the blurs of a family, with white noise.

    Its parameters are γ (P,) and the nuisance parameters (Q+1,): the specimen's b and
    the noise's log σ².

    Parameters
    ----------
    family
        The blurs.
    errors
        Calibration of the stated uncertainty.
    specimen
        Prior of specimens' own spectra; when None, a smooth surface.

    Raises
    ------
    ValueError
        When the PSF does not fit into the spectrum's window.
    """

    def __init__(
        self,
        family: BlurFamily,
        errors: ErrorModel,
        specimen: SpecimenSpectrum | None = None,
    ) -> None:
        if family.window > WINDOW:
            raise ValueError(
                f"the PSF window of {family.window} pixels exceeds the spectrum's "
                f"{WINDOW}: λ/(NA·px) of {1 / family.cutoff:.1f} pixels is too fine"
            )
        self.family, self.errors = family, errors
        self.specimen = specimen or SpecimenSpectrum.smooth()
        prior = family.prior
        self._scale = torch.as_tensor(prior.scale, dtype=torch.float32)
        self._mean = torch.as_tensor(prior.mean, dtype=torch.float32)
        # The precision is rootᵀ·root.
        root = torch.linalg.cholesky(
            torch.linalg.inv(torch.as_tensor(prior.covariance))
        )
        self._root = root.T.float().contiguous()
        small = np.full(len(prior.mean), np.inf) if prior.small is None else prior.small
        self._per_small = torch.as_tensor(small**-2.0, dtype=torch.float32)

    def predict(
        self,
        data: ObservedSpectrum,
        gamma: torch.Tensor,
        nuisance: torch.Tensor,
        linear: LinearOtf | None = None,
    ) -> tuple[torch.Tensor, Slopes]:
        """Return the model's log-spectrum (S, N) and its derivatives.

        `nuisance` is (S, Q+1): the specimen's b and the noise's log σ².
        """
        if linear is None:
            found = log_otf_and_slopes(self.family, gamma)
            logs, slopes = (part[..., data.keep] for part in found)
        else:
            logs, slopes = linear(gamma)
        log_signal = logs + data.mean + nuisance[:, :-1] @ data.basis.T
        log_noise = nuisance[:, -1:].expand_as(log_signal)
        mean = torch.logaddexp(log_signal, log_noise)
        signal = torch.exp(log_signal - mean).mul_(data.weight)
        noise = torch.exp(log_noise - mean).mul_(data.weight)
        return mean, Slopes(slopes, signal, noise)

    def misfit(
        self,
        data: ObservedSpectrum,
        gamma: torch.Tensor,
        nuisance: torch.Tensor,
        anchor: torch.Tensor,
        root: torch.Tensor,
        linear: LinearOtf | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Slopes]:
        """Return objective (S,), residual (S, N), weights (S, N) and derivatives.

        `anchor` (S, P+Q+1) is the prior mean of γ, b and log σ², `root` (P+Q+1, P+Q+1)
        a root of its precision. Where `data` holds several spectra, the rows are those
        of one each. A `linear` model of the OTF replaces the exact one.
        """
        mean, slopes = self.predict(data, gamma, nuisance, linear)
        residual = (data.log_power - mean) * data.weight
        size = residual.abs()
        cost = torch.where(size < _HUBER, 0.5 * size**2, _HUBER * (size - 0.5 * _HUBER))
        robust = (_HUBER / size.clamp(min=_HUBER)) / CORRELATED
        offset = torch.cat([gamma, nuisance], 1) - anchor
        prior = 0.5 * (offset @ root.T).square().sum(1)
        return cost.sum(1) / CORRELATED + prior, residual, robust, slopes

    def smallness(self, gamma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a prior's preference for small blurs: cost (S,), precision (S, P).

        The cost is D·(1 - exp(-Σ (γ - mean)²/2s²)), its gradient the precision times
        (γ - mean).
        """
        distance = (gamma - self._mean).square() @ self._per_small
        near = _PREFERENCE * torch.exp(-distance / 2)
        return _PREFERENCE - near, near[:, None] * self._per_small

    def first_nuisance(
        self, data: ObservedSpectrum, gamma: torch.Tensor
    ) -> torch.Tensor:
        """Return (S, Q+1): specimen and noise that roughly fit given γ (S, P) best."""
        weight = data.signal.weight.flatten(-2)[..., data.keep]
        logs = log_otf(self.family, gamma)[:, data.keep]
        rows = data.signal.log_signal.flatten(-2)[..., data.keep] - data.mean - logs
        rows, basis = rows * weight, data.basis * weight[..., None]
        if basis.ndim == 3:
            b = fitted_specimen(rows[:, None], basis, CORRELATED)[:, 0]
        else:
            b = fitted_specimen(rows, basis, CORRELATED)
        floor = torch.as_tensor(data.log_floor).expand(len(gamma))
        return torch.cat([b, floor[:, None]], 1)

    def usual_nuisance(
        self, data: ObservedSpectrum, nuisance: torch.Tensor
    ) -> torch.Tensor:
        """Return the prior mean (S, Q+1) of the nuisance parameters."""
        usual = torch.zeros_like(nuisance)
        usual[:, -1] = data.log_floor
        return usual

    def full_root(self, data: ObservedSpectrum, root: torch.Tensor) -> torch.Tensor:
        """Return (P+Q+1, P+Q+1): `root` (P, P) with that of the nuisance parameters."""
        ones = torch.ones(data.basis.shape[1])
        floor = torch.tensor([1 / data.floor_sigma])
        p, rest = len(root), torch.cat([ones, floor])
        full = torch.zeros(p + len(rest), p + len(rest))
        full[:p, :p], full[p:, p:] = root, torch.diag(rest)
        return full

    def prior_of(
        self, prior: tuple[torch.Tensor, torch.Tensor] | None, gamma: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean (S, P) of a prior, or the family's, and its root (P, P)."""
        if prior is None:
            return self._mean.expand_as(gamma), self._root
        return aligned(self.family, prior[0], gamma), torch.diag(1 / prior[1])

    def residual_size(
        self,
        data: ObservedSpectrum,
        residual: torch.Tensor,
        robust: torch.Tensor,
        log_noise: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the quality of fits (...) and the factor (...) of their uncertainty.

        A poor fit is less certain than its curvature implies, a good one more.

        Parameters
        ----------
        residual, robust
            (..., N) as from `misfit`.
        log_noise
            (..., 1), log σ² of the fit.
        """
        errors = self.errors
        square = residual**2 * robust * CORRELATED
        # The specimen's share of the power, bin by bin.
        predicted = data.log_power - residual / data.weight
        signal = (1 - torch.exp(log_noise - predicted)).clamp(min=0)
        misfit = (square * signal).sum(-1) / signal.sum(-1).clamp(min=1e-6)
        # With few averages the scatter of the spectrum adds to the specimen's misfit.
        few = max(0.0, 1 / data.averages - 1 / errors.many_averages)
        excess = min(errors.few_averages * few, errors.largest_excess)
        quality = (misfit - excess).clamp(min=0).sqrt()
        scatter = square.mean(-1).sqrt() / errors.usual_scatter
        factor = scatter.clamp(min=errors.least_scatter)
        return quality, factor * (quality / errors.usual_misfit).clamp(min=1)
