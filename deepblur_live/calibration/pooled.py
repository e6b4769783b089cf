"""What all beads of a slide share: which are alike, the Gaussian blur, the NA."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from deepblur_live.calibration.detect import BeadState
from deepblur_live.calibration.fit import ToFit, fit_beads

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from deepblur_live.calibration.fit import StackFit
    from deepblur_live.calibration.least_squares import PixelNoise
    from deepblur_live.calibration.model import StackModel

__all__ = ["Aperture", "alike", "fit_aperture", "measured_gain", "shared_blur"]

# The residual of overlapping beads exceeds that of the others by this many deviations,
# and by this in its logarithm; fewest beads from which its dependence on the brightness
# is fitted.
_OUTLIER, _LEAST_MISFIT, _FOR_SLOPE = 3.5, 0.25, 8
# Two beads side by side: wider by this many deviations, brighter by this factor.
_WIDE, _DOUBLE = 2.5, 1.5
# Largest error of the wavefront, waves rms, that noise may leave a bead.
_DIM = 0.05
# Relative steps of the NA that are tried, and how near to the index it may come.
_STEP, _LARGEST_SINE = 0.02, 0.995


class Aperture(NamedTuple):
    """The NA that explains the beads best.

    Parameters
    ----------
    value, error
        The NA, and the standard error of the mean over the beads.
    n_beads
        Number of beads that were used.
    """

    value: float
    error: float
    n_beads: int


def deviation(values: NDArray[np.float64]) -> float:
    """Return the standard deviation of values, by the median absolute deviation."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def alike(fits: Sequence[StackFit]) -> list[BeadState]:
    """Return for each fit whether its bead is used, or why not.

    Two beads that overlap fit worse, or, where they are very close, are brighter and
    wider than the others. How much of a bead's light a fit leaves over is compared with
    that of beads of the same brightness: where noise limits the fit it falls with
    the brightness, where the model does it is constant. The others are those that stand
    alone, if there are enough: neighbours add to what a fit leaves over.
    """
    if not fits:
        return []
    usual = np.array([fit.beside is None for fit in fits])
    if usual.sum() < _FOR_SLOPE:
        usual[:] = True
    light = np.log([max(fit.bead.brightness, 1e-9) for fit in fits])
    share = np.log([fit.unexplained for fit in fits])
    middle = np.median(light[usual])
    if usual.sum() >= _FOR_SLOPE:
        # Imported here: every session imports the package, and scipy.stats takes 0.5 s.
        from scipy.stats import theilslopes

        slope = theilslopes(share[usual], light[usual])[0]
        share = share - slope * (light - middle)
    misfit = _beyond(share, usual, _OUTLIER)
    misfit &= share > np.median(share[usual]) + _LEAST_MISFIT
    blur = np.array([fit.bead.blur for fit in fits])
    double = _beyond(blur, usual, _WIDE) & (light > middle + math.log(_DOUBLE))
    states = []
    for fit, unlike in zip(fits, misfit | double, strict=True):
        error = math.sqrt(float(np.square(fit.sigma).sum()))
        if not np.isfinite(fit.bead.vector().numpy()).all() or not error > 0:
            states.append(BeadState.FAILED)
        elif error > _DIM:
            states.append(BeadState.DIM)
        elif unlike:
            states.append(BeadState.OVERLAP)
        else:
            states.append(BeadState.USED)
    return states


def _beyond(
    values: NDArray[np.float64], usual: NDArray[np.bool_], deviations: float
) -> NDArray[np.bool_]:
    limit = float(np.median(values[usual])) + deviations * deviation(values[usual])
    beyond: NDArray[np.bool_] = values > limit
    return beyond


def measured_gain(fits: Sequence[StackFit], noise: PixelNoise) -> float:
    """Return the variance per light that explains the residual of all beads.

    It also contains the errors of the model.
    """
    light = sum(float(fit.model.clip(0).sum()) for fit in fits)
    excess = sum(
        float(np.square(fit.residual).sum()) - noise.floor * fit.residual.size
        for fit in fits
    )
    return max(excess / max(light, 1e-12), 0.0)


def shared_blur(fits: Sequence[StackFit]) -> tuple[float, float]:
    """Return the Gaussian's variance that beads share, pixels², and its error."""
    values = np.array([fit.bead.blur for fit in fits])
    return float(np.median(values)), deviation(values) / math.sqrt(len(values))


def fit_aperture(
    model: StackModel,
    crops: Sequence[torch.Tensor],
    fits: Sequence[StackFit],
    noise: PixelNoise,
) -> Aperture | None:
    """Return the NA from beads that were fitted with the profile's.

    Each bead is fitted with three NAs, everything else free; a parabola through the
    misfits gives its own NA. None where most beads have no best NA in reach.
    """
    start = model.optics.numerical_aperture
    index = model.optics.refractive_index
    step = min(_STEP * start, _LARGEST_SINE * index - start)
    if step < 0.2 * _STEP * start:
        # As large as an NA can be in this medium: smaller ones alone are no test.
        return None
    starts = [
        ToFit(crop, fit.bead, beside=fit.beside)
        for crop, fit in zip(crops, fits, strict=True)
    ]
    below, above = (
        fit_beads(model.with_aperture(na), starts, noise)
        for na in (start - step, start + step)
    )
    found = []
    for low, fit, high in zip(below, fits, above, strict=True):
        if low is None or high is None:
            continue
        bend = low.objective - 2 * fit.objective + high.objective
        shift = 0.5 * (low.objective - high.objective) / bend if bend > 0 else math.inf
        if abs(shift) < 3:
            found.append(start + step * shift)
    if 2 * len(found) <= len(fits) or len(found) < 2:
        return None
    values = np.array(found)
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return Aperture(float(np.median(values)), error, len(values))
