"""Identification from the beads of a frame, where it shows beads, else its spectrum."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from deepblur_live.blur import extra_blur
from deepblur_live.identification.beads import (
    FEWEST_BEADS,
    BeadEstimator,
    BeadModel,
    BeadNoise,
    equal_spots,
)
from deepblur_live.identification.identifier import Identifier
from deepblur_live.identification.problem import Problem, Solution
from deepblur_live.identification.specimen import SpecimenSpectrum

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily, ErrorModel, Estimate
    from deepblur_live.identification.identifier import Network, Noise

__all__ = ["BeadIdentifier"]

# Planes near focus agree on the Gaussian to about this.
_ROUNDED_NM = 5
# Diameter, in pixels, of spots whose size is not given: the fit's own Gaussian blur
# takes up what a small bead adds (docs/decisions/0134-equal-spots.md).
_POINT = 0.4


@dataclass(frozen=True)
class _BeadProblem(Problem):
    """A problem with the newest frame, whose beads are fitted.

    Parameters
    ----------
    frame
        (H, W) the newest frame, scaled; None if there is nothing to fit.
    noise
        Noise of a calibrated camera; None if it is not calibrated.
    prediction
        (P,) the tracker's prediction of γ.
    of_beads
        Whether the last solution was a fit of beads.
    """

    frame: NDArray[np.float32] | None = None
    noise: BeadNoise | None = None
    prediction: NDArray[np.float64] | None = None
    of_beads: bool = False


@dataclass(frozen=True)
class _BeadSolution(Solution):
    """A solution that states whether it is from beads or from the spectrum.

    Parameters
    ----------
    of_beads
        Whether beads were fitted, not the spectrum.
    note
        The same in words for the user, with the number of beads.
    extra_blur
        Gaussian of the beads in pixels, where the family should have it.
    """

    of_beads: bool = False
    note: str = ""
    extra_blur: float | None = None


class BeadIdentifier(Identifier):
    """Identifies the blur of a stream of frames, from its beads where it shows beads.

    With their diameter given, the isolated beads of the newest frame are fitted as
    objects. Where there are fewer than three, or where beads cannot be fitted at all
    (`BeadModel.unsuitable`), the running spectrum is fitted as for any other specimen,
    with the form factor of the beads as its prior.

    Without it, the spectrum is fitted, except where the frame shows isolated spots of
    one shape (`equal_spots`): these are fitted as points, with a Gaussian blur for
    their size.

    A note says which of the two is used, when it changes.

    Parameters
    ----------
    family
        The blurs to choose among.
    errors
        Error model of the spectrum's estimates; its limits hold for beads too.
    diameter
        Diameter of the beads, in camera pixels; None if the specimen is not a bead
        slide.
    network, average_s, specimen
        As for `Identifier`; with a diameter the last is that of the beads.
    pixel_size_nm
        Camera pixel in the specimen: with it a Gaussian blur of the beads that the
        profile lacks is reported, once.
    """

    def __init__(
        self,
        family: BlurFamily,
        errors: ErrorModel,
        diameter: float | None,
        network: Network | None = None,
        average_s: float = 5.0,
        specimen: SpecimenSpectrum | None = None,
        pixel_size_nm: float | None = None,
    ) -> None:
        self._known = diameter is not None
        if diameter is None:
            diameter = _POINT
        else:
            specimen = SpecimenSpectrum.beads(diameter)
        super().__init__(family, errors, network, average_s, specimen)
        if self._known:
            # Not measured with the prior of beads.
            self.motion = None
        self.beads: BeadEstimator | None = None
        self._unsuitable = BeadModel.unsuitable(family, diameter)
        if not self._unsuitable:
            self.beads = BeadEstimator(family, diameter, errors.verdict)
        self._of_beads: bool | None = None if self._known else False
        self._pixel_size_nm = pixel_size_nm

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
        # Spots of unknown size are looked for in the part that is on the CPU anyway.
        part = image if self._known else problem.crop
        return _BeadProblem(
            **_fields(problem, Problem),
            frame=None if part is None else part.cpu().numpy(),
            noise=of_camera,
            prediction=prediction,
            of_beads=bool(self._of_beads),
        )

    def solve(self, problem: Problem) -> Solution:
        """Fit the beads of the newest frame, or the spectrum if there are too few."""
        assert isinstance(problem, _BeadProblem)
        if (refused := self._processed(problem)) is not None:
            return _BeadSolution(**_fields(refused, Solution))
        reason, spots = self._unsuitable, 0
        if not self._known:
            spots = self._spots(problem)
            reason = reason or "it does not show isolated spots of one shape"
        if self.beads is not None and (self._known or spots):
            assert problem.frame is not None
            found = self.beads.estimate(
                problem.frame, problem.noise, problem.prediction
            )
            if found.estimate is not None:
                note = f"the blur is fitted to beads: {found.describe()}"
                if not self._known:
                    note = (
                        "the frame shows isolated spots of one shape, as a bead slide "
                        f"does; {note}. If they are beads, set model.bead_diameter_nm"
                    )
                return _BeadSolution(
                    problem,
                    found.estimate,
                    problem.competing,
                    of_beads=True,
                    note=note,
                    extra_blur=found.extra_blur,
                )
            reason = f"fewer than {FEWEST_BEADS} beads are isolated: {found.describe()}"
        note = (
            f"the blur is fitted to the spectrum of the frames, not to beads: {reason}"
        )
        return _BeadSolution(**_fields(self._identify(problem), Solution), note=note)

    def _spots(self, problem: _BeadProblem) -> int:
        """Return the number of equal spots; looked for when the blur is searched."""
        if self.beads is None or problem.frame is None:
            return 0
        if problem.search is None:
            return FEWEST_BEADS if problem.of_beads else 0
        return equal_spots(problem.frame, self.beads.model.fwhm)

    def accept(self, solution: Solution) -> Estimate | None:
        """Continue from a solution; return its estimate, or None if out of date."""
        assert isinstance(solution, _BeadSolution)
        # A refused frame is no evidence for either.
        if solution.note and solution.of_beads is not self._of_beads:
            self._of_beads = solution.of_beads
            self._notes.append(solution.note)
        if solution.extra_blur is not None and self._pixel_size_nm is not None:
            sigma = solution.extra_blur * self._pixel_size_nm
            stated = extra_blur(self.family) * self._pixel_size_nm
            self._notes.append(
                f"the beads show a Gaussian blur of {sigma:.0f} nm in addition to the "
                f"wavefront, but the profile states {stated:.0f} nm: set "
                f"optics.extra_blur_nm = {_ROUNDED_NM * round(sigma / _ROUNDED_NM)} in "
                "the profile"
            )
            # Once is enough.
            self._pixel_size_nm = None
        # A fit of one frame's beads neither uses the average nor contradicts it.
        return solution.estimate if solution.of_beads else super().accept(solution)


def _fields(value: object, kind: type) -> dict[str, Any]:
    return {part.name: getattr(value, part.name) for part in fields(kind)}
