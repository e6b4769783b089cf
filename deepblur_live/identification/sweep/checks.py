"""Reasons to refuse a focus sweep, and when only its direction is known.

The limits and what they were measured on: docs/decisions/0117-focus-sweep-verdict.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.identification.frame_spectrum import bin_frequencies, coherence
from deepblur_live.identification.sweep.problem import plane_pairs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.identification.sweep.problem import SweepProblem

__all__ = [
    "SweepError",
    "check_detail",
    "check_motion",
    "check_stage",
    "check_steps",
    "plane_coherences",
    "spectral_changes",
    "thickness",
]

LEAST_PLANES, MOST_PLANES = 3, 7
# Smallest and largest difference of neighbouring planes, relative to the prior's scale:
# a smaller one does not exceed the noise, a larger one leaves no common frequencies.
_LEAST_STEP, _LARGEST_STEP = 0.25, 3.0
_LEAST_BINS = 60
# Mean square change of the spectra, over that of the noise, below which the planes are
# the same.
_SAME = 1.5
# Coherence of two planes, over that of one thin specimen: below the first the specimen
# is thick (or moves), below the second it is another. It is the median over a band
# (cycles per pixel) if this many bins in it exceed the noise by this factor.
_COHERENT, _ANOTHER, _BAND, _FEW, _CLEAR = 0.94, 0.5, (0.03, 0.15), 8, 5.0
# χ² per bin of a fit, above which the specimen is thick.
_LARGEST_CHI2 = 8.0
# Largest lateral shift, as a share of the frame's shorter side.
_LARGEST_SHIFT = 0.15


class SweepError(ValueError):
    """A focus sweep that cannot be evaluated; the text says why and what to do."""


def check_steps(
    z_um: NDArray[np.float64],
    direction: NDArray[np.float64],
    scale: NDArray[np.float64],
) -> None:
    """Check that positions (K,) make a sweep.

    Parameters
    ----------
    z_um
        Positions, µm.
    direction
        (P,) change of γ per µm.
    scale
        (P,) of the family's prior.

    Raises
    ------
    SweepError
        Too few or too many planes, not monotone, or too close or too far apart.
    """
    if len(z_um) == 1:
        raise SweepError(
            "one plane: it determines neither the sign of defocus nor the blur "
            "independently of the specimen; "
            f"give {LEAST_PLANES} to {MOST_PLANES} planes at known positions"
        )
    if not LEAST_PLANES <= len(z_um) <= MOST_PLANES:
        raise SweepError(f"{len(z_um)} planes: give {LEAST_PLANES} to {MOST_PLANES}")
    steps = np.diff(z_um)
    if not np.isfinite(steps).all() or not (np.all(steps > 0) or np.all(steps < 0)):
        listed = ", ".join(f"{1000 * z:.0f}" for z in z_um)
        raise SweepError(
            f"the positions are not monotone ({listed} nm): they must increase "
            "or decrease from plane to plane"
        )
    # In units of the prior's scale, along the focus.
    per_um = float(np.linalg.norm(direction / scale))
    least, largest = np.abs(steps).min() * per_um, np.abs(steps).max() * per_um
    if least < _LEAST_STEP or largest > _LARGEST_STEP:
        low, high = (1000 * v / per_um for v in (_LEAST_STEP, _LARGEST_STEP))
        raise SweepError(
            f"planes {1000 * np.abs(steps).min():.0f} to "
            f"{1000 * np.abs(steps).max():.0f} nm apart: with this objective steps "
            f"from {low:.0f} to {high:.0f} nm are suitable"
        )


def check_detail(problem: SweepProblem) -> None:
    """Check that the planes have enough frequencies above the noise.

    Raises
    ------
    SweepError
        There are too few.
    """
    if len(problem.keep) < _LEAST_BINS:
        raise SweepError(
            "too little detail above the noise: expose longer, or move to a part of "
            "the specimen with more structure"
        )


def check_stage(problem: SweepProblem) -> None:
    """Check that the planes' spectra differ: otherwise the focus has not moved.

    Raises
    ------
    SweepError
        They are the same.
    """
    if float(spectral_changes(problem, len(problem.power) // 2).max()) < _SAME:
        raise SweepError(
            "all planes are equally sharp: the focus has not moved; check that the "
            "stage moves (and that no autofocus holds it)"
        )


def spectral_changes(problem: SweepProblem, reference: int) -> torch.Tensor:
    """Return the mean square change (K,) of the planes' spectra from a reference's.

    Over that of the noise: 1 on average if nothing but the noise has changed.
    """
    power, share = problem.log_power, problem.share
    noise = (2 * share * (1 - share) + share**2) / problem.looks
    square = (power - power[reference]) ** 2 / (noise + noise[reference]).clamp(
        min=1e-6
    )
    return square.mean(1)


def plane_coherences(
    planes: torch.Tensor, cutoff: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the squared coherence (K, B, B) of the pairs of `plane_pairs`.

    Over what noise leaves of it, so that it is 1 for two equal planes; and (K, B, B)
    which bins are clear of the noise in both.

    Parameters
    ----------
    planes
        (K, H, W), registered.
    cutoff
        Coherent cut-off, cycles per pixel.
    """
    ratios, clear = [], []
    for first, second in plane_pairs(len(planes)):
        squared, signals = coherence(planes[first], planes[second], cutoff)
        ratios.append(squared / signals.prod(0).clamp(min=1e-6))
        clear.append((signals > 1 - 1 / _CLEAR).all(0))
    return torch.stack(ratios), torch.stack(clear)


def check_motion(
    shifts: torch.Tensor, side: int, ratios: torch.Tensor, clear: torch.Tensor
) -> None:
    """Check that all planes show the same specimen as the middle one.

    Parameters
    ----------
    shifts
        (K, 2) by which they were registered, pixels.
    side
        Shorter side of the frames, pixels.
    ratios, clear
        From `plane_coherences`.

    Raises
    ------
    SweepError
        The specimen moved too far, or changed during the sweep.
    """
    furthest = float(shifts.double().norm(dim=1).max())
    if furthest > _LARGEST_SHIFT * side:
        raise SweepError(
            f"the specimen moved sideways by {furthest:.0f} pixels during the sweep: "
            "keep it still, and check the alignment of the stage"
        )
    # Without the outer pair, which the blur alone may make incoherent.
    agreement = _medians(ratios[:-1], clear[:-1])
    number = int(agreement.argmin())
    worst = float(agreement[number])
    if worst < _ANOTHER:
        first, second = plane_pairs(len(ratios))[number]
        raise SweepError(
            f"planes {first + 1} and {second + 1} do not show the same "
            f"structures (coherence {worst:.2f}): the specimen moved during the sweep, "
            "or it is too thick"
        )


def thickness(
    chi2: float, ratios: torch.Tensor, clear: torch.Tensor, expected: torch.Tensor
) -> str:
    """Return why a specimen counts as thick; empty if it does not.

    Parameters
    ----------
    chi2
        χ² per bin of the fit.
    ratios, clear
        From `plane_coherences`.
    expected
        (K, B, B) coherences of a thin specimen under the fitted blurs.
    """
    if chi2 > _LARGEST_CHI2:
        return f"no single plane explains the spectra (χ² {chi2:.1f} per bin)"
    least = float(_medians(ratios / expected, clear).min())
    if least < _COHERENT:
        return f"the planes show different structures (coherence {least:.2f})"
    return ""


def _medians(ratios: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
    """Return the median (K,) over the clear bins of the band; 1 if they are few."""
    y, x = bin_frequencies(ratios.shape[-1])
    radius = torch.hypot(y, x)
    usable = clear & (radius > _BAND[0]) & (radius <= _BAND[1]) & (x > 0) & (y != 0)
    return torch.stack(
        [
            ratio[bins].median() if int(bins.sum()) >= _FEW else ratio.new_tensor(1.0)
            for ratio, bins in zip(ratios, usable, strict=True)
        ]
    )
