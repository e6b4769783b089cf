"""Frame after frame → the coefficients of a field, or one PSF for the whole frame."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from deepblur_live.identification.field.cells import Cells, CellSpectra, observed_cells
from deepblur_live.identification.field.change import ChangeOfField
from deepblur_live.identification.field.phase import FieldOrientation
from deepblur_live.identification.field.problem import (
    FieldProblem,
    FieldSolution,
    Tracked,
)
from deepblur_live.identification.field.search import (
    COARSE,
    CellData,
    model_of_cells,
    terms,
)
from deepblur_live.identification.field.solver import FieldSolver
from deepblur_live.identification.field.verdict import one_psf_estimate
from deepblur_live.identification.identifier import Identifier

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deepblur_live.blur import ErrorModel, Estimate
    from deepblur_live.blur.zernike_field import ZernikeField
    from deepblur_live.identification.identifier import Network, Noise
    from deepblur_live.identification.running import PowerSpectrum
    from deepblur_live.identification.specimen import SpecimenSpectrum

__all__ = ["LEAST_SIDE", "FieldIdentifier"]

LEAST_SIDE = 768
"""Frames with a shorter side than this, in pixels, get one PSF."""

# A cell's phases are used for so many averaging times: at one identification a second
# each cell's turn comes after nine.
_PHASE_AGE = 2.0


class FieldIdentifier:
    """Identifies the field of a stream of frames; used like an `Identifier`.

    Parameters
    ----------
    family
        The fields to choose among.
    errors, network, average_s, specimen, phases
        As for an `Identifier` of one PSF.
    least_side
        Frames with a shorter side than this, in pixels, get one PSF.
    """

    def __init__(
        self,
        family: ZernikeField,
        errors: ErrorModel,
        network: Network | None = None,
        average_s: float = 5.0,
        specimen: SpecimenSpectrum | None = None,
        phases: bool = True,
        least_side: int = LEAST_SIDE,
    ) -> None:
        self.family, self.errors = family, errors
        self.least_side = least_side
        self.one = Identifier(
            family.local, errors, network, average_s, specimen, phases
        )
        self._cells = CellSpectra(average_s, family.cutoff)
        self.one.spectrum = self._cells
        age = _PHASE_AGE * average_s
        self._solver = FieldSolver(family, errors, self.one.refiner, phases, age)
        self._notes: list[str] = []
        self._noted, self._begun = "", False
        self._restart()

    @property
    def spectrum(self) -> PowerSpectrum:
        """The running average spectrum of whole frames."""
        return self._cells

    @property
    def noise_sigma(self) -> float:
        """Standard deviation of the noise, averaged over a whole frame."""
        return self.one.noise_sigma

    def take_notes(self) -> list[str]:
        """Return what the user should know since the last call."""
        notes, self._notes = self._notes, []
        return [*self.one.take_notes(), *notes]

    def reset(self) -> None:
        """Forget all frames (another specimen, another frame size)."""
        self.one.reset()
        self._noted, self._begun = "", False
        self._restart()

    def _restart(self) -> None:
        """Forget the evidence for the last blur: it does not apply to the next."""
        self._of = self.one.orientation
        self._orientation = FieldOrientation(self.errors)
        self._tracked: Tracked | None = None
        # The last field before a step, until the one after it is known.
        self._before: Tracked | None = None
        self._stepped_at = -math.inf
        self._one: NDArray[np.float64] | None = None
        self._cells.watch = None

    def observe(self, image: torch.Tensor, time: float) -> None:
        """Add a frame (H, W), scaled to about [0, 1], to the running spectra."""
        self.one.observe(image, time)
        if self.one.orientation is not self._of:
            before = self._tracked or self._before
            self._restart()
            self._before, self._stepped_at = before, time

    def estimate(
        self,
        image: torch.Tensor,
        prediction: NDArray[np.float64] | None = None,
        noise: Noise | None = None,
    ) -> Estimate:
        """Identify the field from the frames so far: prepare, solve, accept.

        Raises
        ------
        RuntimeError
            Before the first `observe`.
        """
        solution = self.solve(self.prepare(image, prediction, noise))
        accepted = self.accept(solution)
        assert accepted is not None
        return accepted

    def prepare(
        self,
        image: torch.Tensor,
        prediction: NDArray[np.float64] | None = None,
        noise: Noise | None = None,
    ) -> FieldProblem:
        """Return the estimation problem that the frames so far pose; quick.

        The parameters are those of `Identifier.prepare`, `prediction` being of a field.

        Raises
        ------
        RuntimeError
            Before the first `observe`.
        """
        last = None if prediction is None else self._one
        one = self.one.prepare(image, last, noise)
        problem = FieldProblem(one, self._orientation, first=not self._begun)
        height, width = image.shape
        if one.crop is None or min(height, width) < self.least_side:
            return problem
        cells, average = Cells.of_frame(height, width), self._cells.cells
        common = (self._cells.frames, self.family.cutoff, self.one.refiner.specimen)
        data = observed_cells(average, *common, noise)
        # A search takes longer than it takes to follow a step: it has time.
        since = one.time - self._stepped_at
        settling = 0 <= since < self._cells.average_s
        warm = prediction is not None and (one.search is None or settling)
        stepped = warm and self._before is not None
        tracked = (self._before if stepped else self._tracked) if warm else None
        coarse = None
        if tracked is None or stepped:
            coarse = observed_cells(average, *common, noise, cells.together(COARSE))
        return replace(
            problem,
            cells=CellData(cells, data, coarse),
            image=image.detach().cpu(),
            start=None if prediction is None else torch.as_tensor(prediction).double(),
            tracked=tracked,
            stepped=stepped,
        )

    def solve(self, problem: FieldProblem) -> FieldSolution:
        """Find the field that fits a problem best; on any thread, one at a time.

        It takes some seconds when it searches. Changes nothing but the problem's
        orientations and the random state of the basin hopping.
        """
        if problem.tracked is not None:
            step = self._solver.stepped if problem.stepped else self._solver.followed
            followed = step(problem, problem.tracked)
            if followed is not None:
                return followed
        one = self.one.solve(problem.one)
        cells, provisional = problem.cells, problem.provisional
        if cells is None or provisional or one.processed or one.fit is None:
            constant = one_psf_estimate(self.family, one.estimate)
            constant = replace(constant, provisional=provisional)
            return FieldSolution(problem, constant, one, note=self._too_small(problem))
        return self._solver.searched(problem, one)

    def accept(self, solution: FieldSolution) -> Estimate | None:
        """Continue from a solution and return it; None if of another specimen."""
        if solution.problem.one.orientation is not self.one.orientation:
            return None
        self._begun = True
        found = solution.tracked if solution.estimate.trusted else None
        single = solution.one
        # One PSF that does not fit makes the average start again, unless a field does.
        if single is not None and (found is None or single.estimate.trusted):
            one = self.one.accept(single)
            assert one is not None
            self._one = one.coefficients if one.trusted else None
        if solution.problem.provisional:
            self.one.search_widely()
        if self.one.orientation is not self._of:
            self._restart()
        else:
            self._follow(solution.problem, found)
        if solution.note and solution.note != self._noted:
            self._noted = solution.note
            self._notes.append(solution.note)
        return solution.estimate

    def _follow(self, problem: FieldProblem, found: Tracked | None) -> None:
        """Continue from a field, and have new frames compared with it."""
        self._tracked, self._before = found, None
        linear = None if found is None else found.linear
        watch = self._cells.watch
        if linear is None or problem.cells is None:
            self._cells.watch = None
        elif watch is None or not watch.linear.covers(linear.at):
            cells, family = problem.cells, self.family
            nodal = model_of_cells(family, cells.cells).within(terms(family).nodal)
            self._cells.watch = ChangeOfField(linear, nodal, cells.data, family.cutoff)

    def _too_small(self, problem: FieldProblem) -> str:
        if problem.cells is not None or problem.one.crop is None:
            return ""
        return (
            f"one PSF for the whole frame: its shorter side is below {self.least_side} "
            "pixels, too small to identify how the blur varies over the field"
        )
