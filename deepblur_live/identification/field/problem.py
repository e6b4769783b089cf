"""One estimation problem of a field, posed by the frames so far, and its solution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from deepblur_live.blur import Estimate
    from deepblur_live.identification.field.fit import FieldFit
    from deepblur_live.identification.field.phase import FieldOrientation
    from deepblur_live.identification.field.search import CellData, Found
    from deepblur_live.identification.otf import LinearOtf
    from deepblur_live.identification.phase import LocalPhase
    from deepblur_live.identification.problem import Problem, Solution

__all__ = ["CellPhase", "FieldProblem", "FieldSolution", "Tracked"]


class CellPhase(NamedTuple):
    """A cell's model of the phase term, and the time of its frame in seconds."""

    model: LocalPhase
    time: float


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
    """

    used: torch.Tensor
    nuisance: torch.Tensor
    competing: torch.Tensor
    phases: tuple[CellPhase | None, ...]
    linear: LinearOtf | None = None
    next_cell: int = 0


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
    """

    one: Problem
    orientation: FieldOrientation
    cells: CellData | None = None
    image: torch.Tensor | None = None
    start: torch.Tensor | None = None
    tracked: Tracked | None = None


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
