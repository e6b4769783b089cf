"""Whether frames show a blur outside the set that a family was learned from.

A learned prior is narrow: where the microscope has changed since, a fit ends at the
nearest blur that the prior allows, or in a wrong one, with an error that assumes that
the prior holds. The spectrum is therefore fitted again with the wide prior of the
optics. If that explains it clearly better, the microscope is not as it was calibrated.
If the learned blur nearest to it explains it as well, the search had only missed that.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from deepblur_live.blur.symmetry import orbit
from deepblur_live.identification.refine import SpectralRefiner
from deepblur_live.identification.search import HYSTERESIS, LOCAL, Search

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily, ErrorModel, Estimate
    from deepblur_live.identification.fit import Fit
    from deepblur_live.identification.problem import Problem
    from deepblur_live.identification.specimen import SpecimenSpectrum

__all__ = ["Comparison", "OutsideCheck"]

# Misfit that only blurs outside explain, from which they are certain; and the number of
# blurs that the wide fit starts from (docs/decisions/0214-outside-the-calibration.md).
_CLEAR, _LIBRARY = 5.0, 3000
_LEFT = (
    "the blur is outside the calibrated set: calibrate again, or remove "
    "model.calibration from the profile"
)


class Comparison(NamedTuple):
    """How much better blurs of the wide prior explain frames than learned ones.

    Parameters
    ----------
    gain
        Misfit that the best wide fit explains, and no blur of the learned set.
    quality
        Quality of the best wide fit, see `Fit`.
    missed
        (1, P) a learned blur that is better than the one compared, if the wide fit led
        to one.
    """

    gain: float
    quality: float
    missed: torch.Tensor | None = None


class OutsideCheck:
    """Tests estimates of a family with a learned prior against its wide prior.

    Parameters
    ----------
    learned
        Fits spectra with the learned prior.
    wide
        The family with the same coefficients and the prior of the optics.
    errors, specimen
        Those of `learned`.
    """

    def __init__(
        self,
        learned: SpectralRefiner,
        wide: BlurFamily,
        errors: ErrorModel,
        specimen: SpecimenSpectrum,
    ) -> None:
        self._learned = learned
        self._wide = SpectralRefiner(wide, errors, specimen, library=_LIBRARY)
        self._search = Search(self._wide)
        self._poor = errors.verdict.poor_misfit

    def compare(
        self, problem: Problem, coefficients: NDArray[np.float64]
    ) -> Comparison:
        """Compare the learned fit that ends at γ (P,) with the best wide one.

        By the spectrum alone, whose likelihood both share. Takes about a third of a
        second of computing.
        """
        data, fit = problem.data, self._learned.fit
        start = torch.as_tensor(coefficients, dtype=torch.float32)[None]
        alone = replace(
            problem,
            starts=(start,),
            competing=None,
            prior=None,
            search=LOCAL,
            hysteresis=0.0,
            phases=False,
        )
        wide = self._search.minima(alone)
        found = torch.as_tensor(wide.coefficients[:1], dtype=torch.float32)
        # An equivalent of the wide minimum may lie in the learned set.
        images = [s.apply_rows(found) for s in orbit(self._wide.family)]
        here, there = fit(data, start), fit(data, torch.cat(images))
        better = bool(there.objective[0] < here.objective[0] - HYSTERESIS)
        learned = min(here, there, key=lambda one: float(one.objective[0]))
        return Comparison(
            _unexplained(self._learned.family, learned)
            - _unexplained(self._wide.family, wide),
            wide.quality,
            torch.as_tensor(there.coefficients[:1]).float() if better else None,
        )

    def judge(self, compared: Comparison, found: Estimate) -> Estimate:
        """Return an estimate, refused if the blur is clearly outside the learned set.

        An estimate that is refused already keeps its reason, unless a blur outside
        explains the frames well.
        """
        unclear = not found.trusted and compared.quality > self._poor
        if compared.gain <= _CLEAR or unclear:
            return found
        return replace(found, trusted=False, reason=_LEFT)


def _unexplained(family: BlurFamily, fit: Fit) -> float:
    """Return the misfit of a fit that no blur of the admissible set explains.

    Without what the prior takes for distances within the set: all of it is admissible.
    """
    prior, coefficients = family.prior, fit.coefficients[0]
    inside = prior.admissible.project(coefficients) - prior.mean
    allowed = float(inside @ np.linalg.solve(prior.covariance, inside)) / 2
    return float(fit.objective[0]) - allowed
