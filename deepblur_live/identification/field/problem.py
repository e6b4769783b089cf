"""One estimation problem of a field, posed by the frames so far, and its solution."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from deepblur_live.identification.search import LOCAL

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from deepblur_live.blur import Estimate
    from deepblur_live.identification.field.fit import CellCurvature, FieldFit
    from deepblur_live.identification.field.phase import FieldOrientation, KeptPhases
    from deepblur_live.identification.field.search import CellData, Found
    from deepblur_live.identification.otf import LinearOtf
    from deepblur_live.identification.problem import Problem, Solution

__all__ = ["FieldProblem", "FieldSolution", "Tracked"]


@dataclass(frozen=True)
class Tracked:
    """What a fit starts from that follows another.

    Parameters
    ----------
    used
        (P, A), the terms that are fitted.
    nuisance
        `FieldFit.nuisance` of the last fit.
    competing
        (P, P), scatter of the other minima of the last search.
    phases
        The last model of each cell's phase term.
    linear
        The last model of the cells' OTFs.
    next_cell
        The cell whose phase term is evaluated next.
    coefficients
        (P,) of the last fit, which the tracker may not have accepted.
    quality
        `FieldFit.quality` of the last fit.
    curvature, averages
        `FieldFit.curvature` of a fit nearby, and the number of averages of its data.
    """

    used: torch.Tensor
    nuisance: torch.Tensor
    competing: torch.Tensor
    phases: KeptPhases
    linear: LinearOtf | None = None
    next_cell: int = 0
    coefficients: torch.Tensor | None = None
    quality: float = math.inf
    curvature: CellCurvature | None = None
    averages: float = 0.0


@dataclass(frozen=True)
class FieldProblem:
    """The estimation problem that the frames so far pose, complete in itself.

    Parameters
    ----------
    one
        The problem of one PSF for the whole frame.
    orientation
        Resolves the field's 180° ambiguity.
    cells
        Spectra of the frame's cells; None where no field is identified.
    image
        The newest frame (H, W), on the CPU.
    start
        (P,) the tracker's prediction.
    tracked
        From the last field; None to search.
    stepped
        Whether the field has changed since by more than it drifts.
    first
        Whether it is the first problem of this specimen.
    provisional
        Whether one PSF is to be found, as a field takes ten times as long.
    """

    one: Problem
    orientation: FieldOrientation
    cells: CellData | None = None
    image: torch.Tensor | None = None
    start: torch.Tensor | None = None
    tracked: Tracked | None = None
    stepped: bool = False
    first: bool = False
    provisional: bool = False

    @property
    def simpler(self) -> FieldProblem:
        """The problem whose solution is shown first: one PSF, at the beginning."""
        if not self.first or self.cells is None:
            return self
        one = self.one
        search = None if one.search is None else LOCAL
        return replace(self, one=replace(one, search=search), provisional=True)


@dataclass(frozen=True)
class FieldSolution:
    """The solution of a problem, and what the next problem starts from.

    Parameters
    ----------
    problem
        The problem.
    estimate
        Its solution, coefficients of the field.
    one
        The solution of one PSF for the whole frame, if it was searched for.
    tracked
        Where the next fit starts; None where the estimate is of one PSF.
    note
        What the user should know; may be empty.
    found, fit, stated
        Of a search: the fields that fit the spectra, the best of them with the phases,
        and its covariance (P, P), whether or not it earned its place.
    """

    problem: FieldProblem
    estimate: Estimate
    one: Solution | None = None
    tracked: Tracked | None = None
    note: str = ""
    found: Found | None = None
    fit: FieldFit | None = None
    stated: NDArray[np.float64] | None = None

    @property
    def processed(self) -> bool:
        """Whether the frame is not as the camera made it, and was not fitted."""
        return self.one is not None and self.one.processed
