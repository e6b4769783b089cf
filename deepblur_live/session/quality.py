"""How good the blur is, apart from whether it has changed: value, error and grade."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily, Quality

__all__ = ["BlurQuality", "Grade", "blur_quality"]

# A blur is good from its reference on, a Strehl ratio of 0.8 (Maréchal's criterion),
# and poor below this: more than half of the peak is lost.
_POOR = 0.5
# With more coefficients the error would need too many evaluations of the PSF.
_MOST = 16


class Grade(StrEnum):
    """How good a blur is, in a word."""

    GOOD = "good"
    FAIR = "fair"
    POOR = "poor"
    UNCERTAIN = "uncertain"
    """Not known accurately enough to tell good from poor."""


@dataclass(frozen=True)
class BlurQuality:
    """The quality of a blur.

    Parameters
    ----------
    grade
        Its grade; None for a family that has no Strehl ratio.
    measures
        The family's measures of quality.
    sigmas
        Standard deviations of the measures; NaN where they are not known.
    """

    grade: Grade | None
    measures: tuple[Quality, ...]
    sigmas: tuple[float, ...]

    @property
    def text(self) -> str:
        """The main measure with its error, such as ``"Strehl 0.82 ± 0.04"``."""
        k = _main(self.measures)
        value = self.measures[k]
        if math.isnan(self.sigmas[k]):
            return value.text
        if value.unit:
            scale, unit = value.display_scale, value.display_unit or value.unit
            size = f"{value.value * scale:.2g} ± {self.sigmas[k] * scale:.1g} {unit}"
            return f"{value.name} {size}"
        return f"{value.name} {value.value:.2f} ± {max(self.sigmas[k], 0.005):.2f}"

    @property
    def details(self) -> str:
        """All measures, one per line."""
        lines = []
        for value, sigma in zip(self.measures, self.sigmas, strict=True):
            text = value.text
            if math.isfinite(sigma):
                scale, unit = value.display_scale, value.display_unit or value.unit
                text += f" ± {sigma * scale:.2g} {unit}".rstrip()
            lines.append(text)
        return "\n".join(lines)


def blur_quality(
    family: BlurFamily,
    coefficients: NDArray[np.float64],
    covariance: NDArray[np.float64] | None = None,
) -> BlurQuality:
    """Return the quality of coefficients (P,) with their covariance (P, P).

    The errors are by the cubature rule: the rms deviation at γ ± √P times each column
    of a root of the covariance (I. Arasaratnam & S. Haykin, *Cubature Kalman filters*,
    IEEE Trans. Autom. Control 54 (2009)). A gradient would not do: that of the Strehl
    ratio vanishes at its maximum. They are NaN without a covariance, or for more than
    16 coefficients.
    """
    measures = family.quality(coefficients)
    unknown = (math.nan,) * len(measures)
    if covariance is None or not 0 < len(coefficients) <= _MOST:
        return BlurQuality(_grade(measures, unknown), measures, unknown)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0) * len(values))
    points = np.concatenate([coefficients + root.T, coefficients - root.T])
    found = [[one.value for one in family.quality(point)] for point in points]
    deviations = np.array(found) - [one.value for one in measures]
    sigmas = tuple(np.sqrt(np.mean(deviations**2, axis=0)).tolist())
    return BlurQuality(_grade(measures, sigmas), measures, sigmas)


def _main(measures: tuple[Quality, ...]) -> int:
    """Return which measure has a reference to be judged by, or the first."""
    judged = [k for k, one in enumerate(measures) if one.reference is not None]
    return judged[0] if judged else 0


def _grade(measures: tuple[Quality, ...], sigmas: tuple[float, ...]) -> Grade | None:
    k = _main(measures)
    good, value = measures[k].reference, measures[k].value
    if good is None or measures[k].unit:
        return None
    sigma = 0.0 if math.isnan(sigmas[k]) else sigmas[k]
    if value - sigma < _POOR and value + sigma >= good:
        return Grade.UNCERTAIN
    if value >= good:
        return Grade.GOOD
    return Grade.FAIR if value >= _POOR else Grade.POOR
