"""What the program makes of one frame of the realism table, against the truth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.optimize import least_squares, minimize

from deepblur_live.blur import ResolvedBy, nearest, orbit
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.runtime.build import build_pipeline
from deepblur_live.runtime.calibration import BadFrame, scale
from evaluation.effects import MARGIN
from evaluation.held_out import SIDE, scene
from evaluation.realism import CONDITIONS, SIGMA, expose
from evaluation.scores import BANDS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from deepblur_live.profile import Profile
    from evaluation.table import Row

__all__ = [
    "LEAST_SNR",
    "REALISM",
    "RealSpec",
    "aligned_snr",
    "best_snr",
    "cropped",
    "score",
]

# An estimate that is trusted and explains less than this, in dB, is confidently wrong.
LEAST_SNR = 5.0
# Random starts of the search for the family's best PSF, besides the truth and zero.
_STARTS = 2


@dataclass(frozen=True)
class RealSpec:
    """One frame of the realism table: a picture, its number, and a condition.

    Parameters
    ----------
    path, number
        The picture, and the seed of its blur and noise.
    condition
        A key of ``CONDITIONS``.
    profile
        The rig as the program believes it to be.
    best
        Whether to find the best PSF that the paper's family has, too.
    """

    path: Path
    number: int
    condition: str
    profile: Profile
    best: bool = False


def _shifted(
    spectrum: NDArray[np.complex128], shift: NDArray[np.float64]
) -> NDArray[np.complex128]:
    """Return a spectrum (..., K, K) of an image shifted by (y, x) pixels."""
    f = np.fft.fftfreq(spectrum.shape[-1])
    ramp = np.exp(-2j * np.pi * (f[:, None] * shift[0] + f * shift[1]))
    moved: NDArray[np.complex128] = spectrum * ramp
    return moved


def aligned_snr(
    estimate: NDArray[np.float64], truth: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Return the PSF SNR in dB of the best aligned estimate, and its shift (y, x).

    A shift of a PSF moves the image and blurs nothing: it is the tilt that no family
    here has. The estimate (K, K) is moved by the phase ramp, to a fraction of a pixel,
    that makes the squared difference to the truth (K, K) least; it is not scaled.
    """
    ours, theirs = np.fft.fft2(estimate), np.fft.fft2(truth)

    def error(shift: NDArray[np.float64]) -> float:
        return float((np.abs(_shifted(ours, shift) - theirs) ** 2).sum())

    correlation = np.fft.ifft2(theirs * ours.conj()).real
    side = len(truth)
    peak = np.array(np.unravel_index(correlation.argmax(), correlation.shape))
    peak = (peak + side // 2) % side - side // 2
    options = {"initial_simplex": peak + np.array([[0, 0], [0.3, 0], [0, 0.3]])}
    found = minimize(error, peak, method="Nelder-Mead", options=options)
    total = float((np.abs(theirs) ** 2).sum())
    return float(-10 * np.log10(max(found.fun, 1e-12 * total) / total)), found.x


def best_snr(
    family: ZernikeFamily, truth: NDArray[np.float64], near: NDArray[np.float64]
) -> float:
    """Return the PSF SNR in dB of the γ that is best for a true PSF (K, K).

    The search starts at `near` (P,), at zero, and at random.
    """
    coarse = family.coarse()
    theirs = np.fft.fft2(truth)
    side = len(truth)
    f = np.fft.fftfreq(side)
    slopes = -2j * np.pi * np.stack([f[:, None] + 0 * f, f + 0 * f[:, None]])

    def parts(spectrum: NDArray[np.complex128]) -> NDArray[np.float64]:
        flat = spectrum.reshape(*spectrum.shape[:-2], -1) / side
        real: NDArray[np.float64] = np.concatenate([flat.real, flat.imag], -1)
        return real

    def residual(x: NDArray[np.float64]) -> NDArray[np.float64]:
        psf = coarse.psf(torch.from_numpy(x[2:])).numpy()
        return parts(_shifted(np.fft.fft2(psf), x[:2]) - theirs)

    def jacobian(x: NDArray[np.float64]) -> NDArray[np.float64]:
        psf, change = coarse.psf_and_jacobian(torch.from_numpy(x[2:]))
        moved = _shifted(np.fft.fft2(psf.numpy()), x[:2])
        by_gamma = _shifted(np.fft.fft2(change.numpy()), x[:2])
        return parts(np.concatenate([slopes * moved, by_gamma])).T

    drawn = family.sample(_STARTS, torch.Generator().manual_seed(0)).double().numpy()
    found = [
        least_squares(residual, np.r_[0, 0, start], jacobian, max_nfev=25)
        for start in (near, 0 * near, *drawn)
    ]
    gamma = torch.from_numpy(min(found, key=lambda fit: fit.cost).x[2:])
    return aligned_snr(family.psf(gamma).numpy(), truth)[0]


@lru_cache(maxsize=1)
def _mean_psf() -> NDArray[np.float64]:
    """Return the mean PSF of the paper's family: a trivial answer, always the same."""
    family = ZernikeFamily()
    drawn = family.sample(4000, torch.Generator().manual_seed(0))
    mean: NDArray[np.float64] = family.psf(drawn).mean(0).double().numpy()
    return mean


def cropped(psf: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Return the middle (side, side) of a PSF, with sum 1."""
    cut = (len(psf) - side) // 2
    inner = psf[cut : cut + side, cut : cut + side]
    cropped: NDArray[np.float64] = inner / inner.sum()
    return cropped


def score(spec: RealSpec) -> Row:
    """Return what was estimated from one frame alone, and how good it is."""
    sharp = scene(spec.path, SIDE + 2 * MARGIN).double().numpy()
    frame = expose(CONDITIONS[spec.condition], sharp, spec.number)
    row: Row = {"kind": spec.condition, "file": spec.path.name}
    row |= {"number": spec.number, "sigma": SIGMA}
    mean = _mean_psf()
    truth = cropped(frame.psf, len(mean))
    row["trivial"] = aligned_snr(mean, truth)[0]
    if spec.best:
        family = ZernikeFamily()
        near = np.array([frame.modes[noll] for noll in family.noll])
        row["best"] = best_snr(family, truth, near)
    # A pipeline of its own: nothing is left of another frame.
    pipeline = build_pipeline(spec.profile, asynchronous=False)
    try:
        image = scale(frame.pixels, cutoff=pipeline.family.cutoff).image
        pipeline.identifier.observe(image, 0.0)
        estimate = pipeline.identifier.estimate(image)
    except BadFrame as error:
        refused = {"answered": False, "wrong": False, "reason": str(error)}
        return row | refused | {"snr": row["trivial"]}
    finally:
        pipeline.close()
    family = pipeline.family
    gamma = torch.as_tensor(estimate.coefficients)
    found = family.psf(gamma).double().numpy()
    snr = aligned_snr(found, cropped(frame.psf, len(found)))[0]
    answered = estimate.trusted
    row |= {
        "snr": snr if answered else row["trivial"],
        "estimated": snr,
        "answered": answered,
        "wrong": answered and snr < LEAST_SNR,
        "misfit": estimate.quality,
        "reason": estimate.reason,
        "coefficients": [float(c) for c in estimate.coefficients],
    }
    return row | (_coverage(pipeline, estimate, frame.modes) if answered else {})


def _coverage(pipeline: Any, estimate: Any, modes: Mapping[int, float]) -> Row:
    """Return how many stated deviations each coefficient is off, and the share in."""
    family = pipeline.family
    truth = np.array([modes.get(noll, 0.0) for noll in family.noll])
    equivalents = orbit(family, ResolvedBy.NEVER)
    truth = nearest(truth, estimate.coefficients, equivalents)
    off = np.abs(estimate.coefficients - truth)
    deviations = off / np.sqrt(np.diag(estimate.covariance))
    errors = pipeline.identifier.errors
    row: Row = {"deviations": [float(d) for d in deviations]}
    for share in BANDS:
        inside = np.mean(deviations <= errors.coverage_factor(share))
        row[f"inside_{100 * share:.0f}"] = float(inside)
    return row


REALISM = {
    "condition": "{kind}",
    "frames": "{frames}",
    "PSF SNR, dB": "{snr:.1f}",
    "less the baseline's": "{difference:+.1f}",
    "whatever the verdict": "{estimated:.1f}",
    "constant mean PSF": "{trivial:.1f}",
    "best in the family": "{best:.1f}",
    "answered": "{answered:.0%}",
    "confidently wrong": "{wrong:.0%}",
    "inside 68 / 95 %": "{inside_68:.0%} / {inside_95:.0%}",
}
"""Columns of the realism table: heading → template of a condition's mean figures."""
