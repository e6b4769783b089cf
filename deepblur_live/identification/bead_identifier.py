"""Identification on a slide of beads: from its beads, else from the spectrum."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from deepblur_live.identification.beads import (
    FEWEST_BEADS,
    BeadEstimator,
    BeadModel,
    BeadNoise,
)
from deepblur_live.identification.identifier import Identifier
from deepblur_live.identification.problem import Problem, Solution
from deepblur_live.identification.specimen import SpecimenSpectrum

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily, ErrorModel, Estimate
    from deepblur_live.identification.identifier import Noise

__all__ = ["BeadIdentifier"]


@dataclass(frozen=True)
class _BeadProblem(Problem):
    """A problem with the newest frame, whose beads are fitted.

    Parameters
    ----------
    frame
        (H, W) the newest frame, scaled.
    noise
        Of a calibrated camera.
    prediction
        (P,) the tracker's.
    """

    frame: NDArray[np.float32] | None = None
    noise: BeadNoise | None = None
    prediction: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class _BeadSolution(Solution):
    """A solution that says where it comes from.

    Parameters
    ----------
    of_beads
        Whether beads were fitted, not the spectrum.
    note
        The same for the user, with the number of beads.
    """

    of_beads: bool = False
    note: str = ""


class BeadIdentifier(Identifier):
    """Identifies the blur of a stream of frames of a slide of equal beads.

    The isolated beads of the newest frame are fitted as objects. Where there are fewer
    than three, or where beads cannot be fitted at all (`BeadModel.unsuitable`), the
    running spectrum is fitted as for any other specimen, with the form factor of the
    beads as its prior, and a note says so.

    Parameters
    ----------
    family
        The blurs to choose among.
    errors
        Error model of the spectrum's estimates; its limits hold for beads too.
    diameter
        Of the beads, in camera pixels.
    average_s
        Time constant of the running average spectrum, seconds.
    """

    def __init__(
        self,
        family: BlurFamily,
        errors: ErrorModel,
        diameter: float,
        average_s: float = 5.0,
    ) -> None:
        specimen = SpecimenSpectrum.beads(diameter)
        super().__init__(family, errors, None, average_s, specimen)
        self.beads: BeadEstimator | None = None
        self._unsuitable = BeadModel.unsuitable(family, diameter)
        if not self._unsuitable:
            self.beads = BeadEstimator(family, diameter, errors.verdict)
        self._of_beads: bool | None = None

    def prepare(
        self,
        image: torch.Tensor,
        prediction: NDArray[np.float64] | None = None,
        noise: Noise | None = None,
    ) -> Problem:
        """Return the problem that the frames so far pose, with the newest frame."""
        problem = super().prepare(image, prediction, noise)
        of_camera = None
        if noise is not None:
            dark = float(image.median())
            floor = noise(dark)
            of_camera = BeadNoise(floor, noise(dark + 1) - floor, known=True)
        return _BeadProblem(
            **_fields(problem, Problem),
            frame=image.cpu().numpy(),
            noise=of_camera,
            prediction=prediction,
        )

    def solve(self, problem: Problem) -> Solution:
        """Fit the beads of the newest frame, or the spectrum if they are too few."""
        assert isinstance(problem, _BeadProblem)
        assert problem.frame is not None
        reason = self._unsuitable
        if self.beads is not None:
            found = self.beads.estimate(
                problem.frame, problem.noise, problem.prediction
            )
            if found.estimate is not None:
                note = f"the blur is fitted to beads: {found.describe()}"
                return _BeadSolution(
                    problem, found.estimate, problem.competing, of_beads=True, note=note
                )
            reason = f"fewer than {FEWEST_BEADS} stand alone: {found.describe()}"
        note = (
            f"the blur is fitted to the spectrum of the frames, not to beads: {reason}"
        )
        return _BeadSolution(**_fields(super().solve(problem), Solution), note=note)

    def accept(self, solution: Solution) -> Estimate | None:
        """Continue from a solution and return it; None if of another specimen."""
        assert isinstance(solution, _BeadSolution)
        if solution.of_beads is not self._of_beads:
            self._of_beads = solution.of_beads
            self._notes.append(solution.note)
        # A fit of one frame's beads neither uses the average nor contradicts it.
        return solution.estimate if solution.of_beads else super().accept(solution)


def _fields(value: object, kind: type) -> dict[str, Any]:
    return {part.name: getattr(value, part.name) for part in fields(kind)}
