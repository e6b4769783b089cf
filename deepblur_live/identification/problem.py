"""One estimation problem, posed by the frames so far, and its solution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from deepblur_live.identification.phase import LocalPhase, Phase

if TYPE_CHECKING:
    import torch

    from deepblur_live.blur import BlurFamily, Estimate
    from deepblur_live.identification.fit import Fit
    from deepblur_live.identification.observed import ObservedSpectrum
    from deepblur_live.identification.orientation import Orientation

__all__ = ["Problem", "SearchConfig", "Solution"]


class SearchConfig(NamedTuple):
    """How widely a search looks for other local minima.

    Parameters
    ----------
    stride
        Every `stride`-th point of the library is evaluated.
    tried
        Number of library points that are refined by a few steps.
    kept
        Number of those that are refined to convergence.
    hops
        Number of basin-hopping steps from the minima found.
    hops_kept
        Number of those that are refined to convergence.
    phase_starts
        Number of starts, in addition to the best, that are refined with the phases.
    """

    stride: int
    tried: int
    kept: int
    hops: int
    hops_kept: int
    phase_starts: int


@dataclass(frozen=True)
class Problem:
    """The estimation problem that the frames so far pose, complete in itself.

    Further frames may be observed while it is solved.

    Parameters
    ----------
    data
        Average spectrum of the frames.
    noise_sigma
        Standard deviation of the noise, averaged over a whole frame.
    orientation
        Resolves the 180° ambiguity; its identity also identifies the specimen.
    competing
        Local minima that the last search found.
    crop
        Part of the newest frame, on the CPU; None when no signal exceeds the noise.
    starts
        (1, P) each: coefficients to start from.
    prior
        The network's mean and standard deviation (P,) of γ, if it was used.
    search
        How widely other minima are searched for; None to start from `starts` alone.
    hysteresis
        Misfit by which the first start is favoured, see `SpectralRefiner.fit`.
    nuisance
        `Fit.nuisance` of the last solution.
    local_phase
        Quadratic model of the phase term from the last frame, to be used once more.
    phases
        Whether the phases of the crop are used in addition to the spectrum.
    time
        When the newest frame was observed, seconds.
    """

    data: ObservedSpectrum
    noise_sigma: float
    orientation: Orientation
    competing: Fit | None
    crop: torch.Tensor | None = None
    starts: tuple[torch.Tensor, ...] = ()
    prior: tuple[torch.Tensor, torch.Tensor] | None = None
    search: SearchConfig | None = None
    hysteresis: float = 0.0
    nuisance: torch.Tensor | None = None
    local_phase: LocalPhase | None = None
    phases: bool = True
    time: float = -math.inf

    @property
    def simpler(self) -> Problem:
        """The problem whose solution is shown first: itself."""
        return self

    def phase(self, family: BlurFamily, reference: torch.Tensor) -> Phase | None:
        """Return the phase term of the crop, None if it cannot be used.

        Its filter takes the |ĥ| of the coefficients `reference` (P,).
        """
        if not self.phases or self.crop is None or not self.crop.isfinite().all():
            return None
        return Phase(family, self.crop, self.noise_sigma, reference)


@dataclass(frozen=True)
class Solution:
    """The solution of a problem, and what the next problem starts from.

    Parameters
    ----------
    problem
        The problem.
    estimate
        Its solution.
    competing, local_phase
        As in `Problem`, of this solution.
    fit
        The fit that the estimate was judged from; None without any signal.
    processed
        Whether the frame is not as the camera made it, and was not fitted for that.
    """

    problem: Problem
    estimate: Estimate
    competing: Fit | None
    fit: Fit | None = None
    local_phase: LocalPhase | None = None
    processed: bool = False
