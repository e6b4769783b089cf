"""How much a microscope's own prior gives: a simulated microscope, and scores.

The microscope drifts along three directions. Its states are identified by simulated
power spectra of specimens, with a prior that the caller learned from other states.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.calibration.learning import WIDE_MODES
from deepblur_live.identification.otf import log_otf
from deepblur_live.identification.spectrum import WINDOW
from deepblur_live.optics import psf_snr

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily
    from deepblur_live.blur.zernike import ZernikeFamily
    from deepblur_live.identification.refine import SpectralRefiner
    from deepblur_live.identification.specimen import SpecimenSpectrum

    Array = NDArray[np.float64]

__all__ = [
    "HEAD",
    "LIBRARY",
    "Microscope",
    "Score",
    "modes_of",
    "rows_of",
    "score",
    "spectrum_score",
]

HEAD = ["data", "σ", "prior", "error, nm", "PSF, dB", "sign right", "trusted"]
"""The columns of `rows_of`."""
LIBRARY = 3000
"""Blurs from which the starts of a fit are chosen."""
_STARTS = 12
# Drift along three directions, of 53 nm rms in all, about a mean of 30 nm rms; and what
# the measurement of a state leaves uncertain, nm.
_DRIFT_NM, _MEAN_NM, _ERROR_NM = (40.0, 29.0, 19.0), 30.0, 2.0
# Half-ranges of defocus and spherical where focus and specimen change them, waves rms.
_FOCUS, _SPHERICAL = 0.1, 0.05
# A spectrum's averages, and the standard deviation of the specimen.
_AVERAGES, _CONTRAST = 40.0, 0.2


@dataclass(frozen=True)
class Score:
    """How right one identification is.

    Parameters
    ----------
    nm
        Error of the wavefront, up to the sign and 180° ambiguities.
    snr
        PSF SNR up to a rotation by 180°, dB.
    signed
        Whether the sign of the even modes is right.
    trusted
        Whether the estimate is trusted; None if nothing judged it.
    """

    nm: float
    snr: float
    signed: bool
    trusted: bool | None = None


@dataclass(frozen=True)
class Microscope:
    """Simulated states: mean + three directions of drift, and focus if it is wide.

    `drift` is how large it is, relative to 53 nm rms.
    """

    local: ZernikeFamily
    wide: bool
    drift: float = 1.0

    def states(self, n: int, seed: int) -> Array:
        """Return (n, M) states, waves rms."""
        fixed = np.random.default_rng(5)
        rng = np.random.default_rng(seed)
        modes, nm = self.local.n_coefficients, self.local.wavelength_nm
        wide = [self.local.noll.index(noll) for noll in WIDE_MODES if self.wide]
        axes, mean = fixed.normal(size=(3, modes)), fixed.normal(size=modes)
        axes[:, wide] = mean[wide] = 0
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        mean *= _MEAN_NM / nm / np.linalg.norm(mean)
        size = self.drift * np.array(_DRIFT_NM) / nm
        drift = rng.normal(size=(n, 3)) * size @ axes
        states: Array = mean + drift
        for mode, half in zip(wide, (_FOCUS, _SPHERICAL), strict=False):
            states[:, mode] = rng.uniform(-half, half, n)
        return states

    def measured(self, n: int) -> Array:
        """Return (n, M) states as a calibration measures them, with errors."""
        states = self.states(n, seed=1)
        error = _ERROR_NM / self.local.wavelength_nm
        noise = np.random.default_rng(2).normal(size=states.shape)
        return states + error * noise


def modes_of(family: BlurFamily, coefficients: Array) -> Array:
    """Return the Zernike modes (M,) of a family's coefficients."""
    learned = getattr(family, "learned", None)
    return coefficients if learned is None else learned.modes(coefficients)


def score(
    local: ZernikeFamily, truth: Array, found: Array, trusted: bool | None = None
) -> Score:
    """Compare modes (M,) with the truth (M,), both in waves rms."""
    even = np.where(local.even, -1.0, 1.0)
    images = np.stack([found, found * even, -found * even, -found])
    distances = np.linalg.norm(images - truth, axis=1)
    psfs = local.psf(torch.from_numpy(np.stack([truth, images[0], images[2]])))
    snr = float(psf_snr(psfs[1:], psfs[:1]).max())
    # Unchanged, or rotated by 180°.
    signed = int(distances.argmin()) in (0, 2)
    nm = float(distances.min()) * local.wavelength_nm
    return Score(nm, snr, signed, trusted)


def spectrum_score(
    refiner: SpectralRefiner,
    local: ZernikeFamily,
    truth: Array,
    sigma: float,
    specimen: SpecimenSpectrum,
    rng: np.random.Generator,
) -> Score:
    """Identify one blur (M,) by a simulated spectrum, with the refiner's prior."""
    power = _spectrum(local, truth, sigma, specimen, rng)
    data = refiner.prepare(power, _AVERAGES, 1.0, sigma**2)
    fit = refiner.fit(data, refiner.starts(data, _STARTS))
    return score(local, truth, modes_of(refiner.family, fit.coefficients[0]))


def _spectrum(
    local: ZernikeFamily,
    gamma: Array,
    sigma: float,
    specimen: SpecimenSpectrum,
    rng: np.random.Generator,
) -> torch.Tensor:
    """Return an average power spectrum (W, W//2+1) of a random specimen, blurred."""
    own = specimen.mean.numpy().astype(np.float64)
    patterns = specimen.basis[:, 1:].numpy()
    own = own + patterns @ rng.normal(size=patterns.shape[1])
    own = np.exp(own + specimen.deviation.numpy() * rng.normal(size=own.shape))
    own *= _CONTRAST**2 / own.mean()
    blur = log_otf(local, torch.from_numpy(gamma[None]).float())[0].exp().numpy()
    power = own * blur + sigma**2
    power *= rng.gamma(_AVERAGES, 1 / _AVERAGES, power.shape)
    return torch.from_numpy(power).float().view(WINDOW, WINDOW // 2 + 1)


def rows_of(
    label: str, sigma: float, scores: dict[str, list[Score]]
) -> list[list[str]]:
    """Return table rows of medians and shares."""
    rows = []
    for name, found in scores.items():
        judged = [one.trusted for one in found if one.trusted is not None]
        rows.append(
            [
                label,
                f"{sigma:g}",
                name,
                f"{np.median([one.nm for one in found]):.0f}",
                f"{np.median([one.snr for one in found]):.0f}",
                f"{sum(one.signed for one in found)} of {len(found)}",
                f"{sum(judged)} of {len(judged)}" if judged else "–",
            ]
        )
        print(*rows[-1], flush=True)
    return rows
