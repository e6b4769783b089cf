"""What an identifier asks of the frames so far, and the answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from deepblur_live.identification.phase import NearbyPhase, Phase

if TYPE_CHECKING:
    import torch

    from deepblur_live.identification.fit import Fit
    from deepblur_live.identification.observed import ObservedSpectrum
    from deepblur_live.identification.rotation import Rotation
    from deepblur_live.optics import Estimate, ZernikeFamily

__all__ = ["Answer", "Breadth", "Question"]


class Breadth(NamedTuple):
    """How widely a search looks around for other blurs that fit.

    Parameters
    ----------
    every
        Every so manieth of the library is looked at.
    tried
        So many of those are refined a little.
    kept
        So many of those are refined to the end.
    hops
        So many hops are made from the minima found.
    hops_kept
        So many of those are refined to the end.
    led
        From so many more blurs than the best do phases lead.
    """

    every: int
    tried: int
    kept: int
    hops: int
    hops_kept: int
    led: int


@dataclass(frozen=True)
class Question:
    """What the frames so far are asked, whole: more frames may come meanwhile.

    Parameters
    ----------
    data
        Their average spectrum.
    noise_sigma
        Standard deviation of the noise in the mean of a whole frame.
    rotation
        Decides the turn, and stands for the specimen that is asked.
    rivals
        The last search's.
    crop
        Of the newest frame, on the processor; None when nothing rises above the noise.
    starts
        (1, P) each: blurs to begin at.
    prior
        The network's mean and standard deviation (P,) of γ, if one was heard.
    breadth
        How widely other blurs are looked for; None to go on from the starts alone.
    credit
        Of the first start, see `SpectralRefiner.fit`.
    rest
        `Fit.rest` of the answer before.
    nearby
        What the frame before looked at of its phases, to be used once more.
    phases
        Whether the crop's phases are asked beside the spectrum.
    time
        When the newest frame was observed, seconds.
    """

    data: ObservedSpectrum
    noise_sigma: float
    rotation: Rotation
    rivals: Fit | None
    crop: torch.Tensor | None = None
    starts: tuple[torch.Tensor, ...] = ()
    prior: tuple[torch.Tensor, torch.Tensor] | None = None
    breadth: Breadth | None = None
    credit: float = 0.0
    rest: torch.Tensor | None = None
    nearby: NearbyPhase | None = None
    phases: bool = True
    time: float = -math.inf

    def phase(self, family: ZernikeFamily, reference: torch.Tensor) -> Phase | None:
        """Return the crop as its phases see it, None if it cannot be asked.

        The filter takes the |ĥ| of the coefficients `reference` (P,).
        """
        if not self.phases or self.crop is None or not self.crop.isfinite().all():
            return None
        return Phase(family, self.crop, self.noise_sigma, reference)


@dataclass(frozen=True)
class Answer:
    """An estimate, its question, and what the next question begins with.

    That are the rivals of the last search, the fit's rest, and a look at phases.
    """

    question: Question
    estimate: Estimate
    rivals: Fit | None
    rest: torch.Tensor | None = None
    nearby: NearbyPhase | None = None
