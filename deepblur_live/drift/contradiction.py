"""Whether the estimates contradict a change of the blur that the spectra measure.

The ratio of two spectra of one specimen is measured without a model of the optics, and
the two estimates predict it. Where both disagree by more than their errors allow, the
estimates are wrong on this specimen, however certain each of them is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from deepblur_live.blur.places import places
from deepblur_live.drift.recent import RecentMean
from deepblur_live.drift.size import change_size
from deepblur_live.optics.reduced_spectrum import BINS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur.family import BlurFamily
    from deepblur_live.drift.spectral_change import SpectralComparison
    from deepblur_live.drift.track import TrackState
    from deepblur_live.profile import Drift

__all__ = ["EstimateCheck", "Measured", "contradiction", "predicted_change"]

# Power at which the nulls of a real OTF end, relative to that at zero frequency.
_NULL = 3e-4
# The estimates follow if they account for this share of a change, and contradict it if
# the remainder also exceeds this many standard deviations (docs/decisions/0147).
_FOLLOWED, _DEVIATIONS = 0.4, 3.0
# Larger strengths, in nepers, are not compared: they are extrapolated into bins that
# have sunk below the noise.
_LARGEST = 1.0
# Strength of a change that counts, in warning levels: of smaller ones the errors of
# right estimates are too large a part.
_CLEAR = 2.0
# Estimates needed on either side; and points in a row that must contradict.
_ESTIMATES, _POINTS = 3, 3


class Measured(NamedTuple):
    """The change from one baseline of spectra, without what was carried over.

    Parameters
    ----------
    shapes, covariance
        (16,) and (16, 16), as in `Change`.
    comparison
        The comparison with the baseline.
    evident
        Whether the charts signal, and the change exceeds its scatter.
    seconds
        Time over which it is averaged.
    """

    shapes: NDArray[np.float64]
    covariance: NDArray[np.float64]
    comparison: SpectralComparison
    evident: bool
    seconds: float


def predicted_change(
    family: BlurFamily,
    comparison: SpectralComparison,
    before: NDArray[np.float64],
    now: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the shapes (16,) that coefficients predict, and their slopes (16, P).

    Parameters
    ----------
    family
        The blurs.
    comparison
        The comparison whose bins are used.
    before, now
        (P,) coefficients at the baseline and now; the slopes are those with respect to
        `now`.
    """
    start: float | NDArray[np.float64] = 0.0
    power: float | NDArray[np.float64] = 0.0
    turned: float | NDArray[np.float64] = 0.0
    # The spectrum of a frame whose blur varies is that of the mean power.
    averaged = places(family)
    for place in averaged:
        start = start + np.abs(_transform(family.psf(_tensor(before), place))) ** 2
        psf, slopes = family.psf_and_jacobian(_tensor(now), place)
        otf = _transform(psf)
        power = power + np.abs(otf) ** 2
        turned = turned + 2 * (np.conj(otf) * _transform(slopes)).real
    start, power = start / len(averaged) + _NULL, power / len(averaged) + _NULL
    logs = np.concatenate(
        [(np.log(power) - np.log(start))[None], turned / len(averaged) / power]
    )
    shapes = comparison.project(logs)
    return shapes[0], shapes[1:].T


def _transform(psf: torch.Tensor) -> NDArray[np.complex128]:
    """Return the OTF on the bins (..., 64, 33), except for a phase common to all."""
    step = -(-psf.shape[-1] // BINS)
    side = step * BINS
    otf = np.fft.rfft2(psf.detach().double().numpy(), s=(side, side))
    whole: NDArray[np.complex128] = otf[..., ::step, ::step]
    return whole


def _tensor(coefficients: NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy(coefficients)


def contradiction(
    measured: Measured,
    predicted: NDArray[np.float64],
    uncertainty: NDArray[np.float64],
    least: float,
) -> str:
    """Return how the estimates contradict the spectra; empty if they do not.

    With d the measured change, p the predicted one and M the metric: the estimates do
    not account for a change that the spectra show if dᵀMp < 0.4·dᵀMd; they report one
    that the spectra do not show if pᵀMd < 0.4·pᵀMp.

    Parameters
    ----------
    measured
        The change measured by the spectra.
    predicted, uncertainty
        (16,) change predicted by the estimates, and (16, 16) covariance of its error.
    least
        Strength of a change that counts, in nepers.
    """
    shapes, metric = measured.shapes, measured.comparison.metric
    covariance = measured.covariance + uncertainty
    strength, _ = change_size(shapes, measured.covariance, metric)
    claimed = math.sqrt(float(predicted @ metric @ predicted))

    def disagrees(
        along: NDArray[np.float64], size: float, other: NDArray[np.float64]
    ) -> bool:
        weighted = metric @ along / size
        missing = size - float(weighted @ other)
        sigma = math.sqrt(float(weighted @ covariance @ weighted))
        return missing > max((1 - _FOLLOWED) * size, _DEVIATIONS * sigma)

    size = math.sqrt(float(shapes @ metric @ shapes))
    clear = measured.evident and least <= strength <= _LARGEST
    unexplained = clear and disagrees(shapes, size, predicted)
    denied = claimed >= least and disagrees(predicted, claimed, shapes)
    if not (unexplained or denied):
        return ""
    along = measured.comparison.sharpening
    estimated = _in_words(float(along @ predicted), claimed)
    return (
        f"according to the spectra {_in_words(float(along @ shapes), strength)}, "
        f"according to the estimates {estimated}"
    )


def _in_words(sharpening: float, strength: float) -> str:
    """Return a change as the user reads it.

    >>> _in_words(-0.14, 0.15)
    'the picture has become softer by 14 %'
    >>> _in_words(0.001, 0.004)
    'it has hardly changed'
    """
    if 100 * strength < 1:
        return "it has hardly changed"
    # From nepers: details of contrast 1 keep exp(-strength) of it.
    if sharpening > strength / 2:
        return f"the picture has become sharper by {100 * math.expm1(strength):.0f} %"
    percent = f"{-100 * math.expm1(-strength):.0f} %"
    if sharpening < -strength / 2:
        return f"the picture has become softer by {percent}"
    return f"the contrast of details has changed by {percent}"


class EstimateCheck:
    """Compares the changes that estimates and spectra show since the baseline.

    A contradiction is a property of the specimen: once found it stays until the
    specimen changes.

    Parameters
    ----------
    family
        The blurs of the estimates.
    settings
        The warning level, in nepers, and the length of a baseline.
    """

    def __init__(self, family: BlurFamily, settings: Drift) -> None:
        self._family = family.coarse()
        self._least = _CLEAR * settings.warn_contrast
        self._baseline_s = settings.batch_s * settings.baseline_points
        self.reset()

    def reset(self) -> None:
        """Begin again: another specimen, or a new baseline."""
        self.reason = ""
        self._before = RecentMean(self._baseline_s)
        self._now = RecentMean()
        self._points = 0

    def add_estimate(self, track: TrackState, armed: bool) -> None:
        """Take an accepted estimate, at the baseline or after it."""
        if track.measured is not None:
            recent = self._now if armed else self._before
            recent.add(track.time, track.measured)
            self._covariance = track.covariance

    def compare(self, measured: Measured | None) -> None:
        """Compare the estimates with a point of the spectra; set `reason`."""
        if measured is None:
            return
        self._now.seconds = measured.seconds
        if self.reason or min(self._now.count, self._before.count) < _ESTIMATES:
            return
        predicted, slopes = predicted_change(
            self._family, measured.comparison, self._before.mean, self._now.mean
        )
        uncertainty = slopes @ self._covariance @ slopes.T
        found = contradiction(measured, predicted, uncertainty, self._least)
        self._points = self._points + 1 if found else 0
        if self._points >= _POINTS:
            self.reason = found
