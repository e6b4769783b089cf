"""Frame after frame → γ: running spectrum, start, fit, phases, rotation, verdict."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from deepblur_live.identification.minima import aligned, rival_spread
from deepblur_live.identification.network import network_input
from deepblur_live.identification.observed import with_leakage
from deepblur_live.identification.question import Answer, Question
from deepblur_live.identification.refine import SpectralRefiner
from deepblur_live.identification.reliability import Reliable
from deepblur_live.identification.rotation import Rotation
from deepblur_live.identification.running import PowerSpectrum
from deepblur_live.identification.search import FEW, KEPT, MANY, Search
from deepblur_live.identification.spectrum import noise_floor
from deepblur_live.identification.verdict import (
    MIN_BINS,
    POOR_FIT,
    judge,
    silent,
)
from deepblur_live.optics import Estimate, ZernikeFamily

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deepblur_live.identification.fit import Fit
    from deepblur_live.identification.phase import NearbyPhase
    from deepblur_live.identification.specimen import SpecimenSpectrum

__all__ = ["Identifier", "Network", "Noise"]

# Brightness of a scaled frame → variance of a camera's noise there, in its units.
Noise = Callable[[float], float]

# (1, 2, 64, 32) input → coefficients (P,) and their standard deviations (P,).
Network = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

# A tracked minimum may have become the wrong one: when the average has been renewed so
# many times (at least after so many seconds), after a step, and when the average has so
# many times the frames, which tell apart what was one, the network is asked and a few
# of the library are tried beside it; many after each refusal.
_LIBRARY_RENEWED, _LIBRARY_LEAST_S, _LIBRARY_GROWTH = 2.0, 2.0, 2.0
# Steps from the minimum that is told, by its phases too, each as long as five without.
# A frame after another begins near its end, and looks at its phases once, which takes
# as long as all else: the next goes by that look, if it begins near and soon.
_PHASE_STEPS = 6
_NO_TURN = "it cannot be told which way round the blur is"
# The network has read the spectrum that it is a prior of: its errors are counted for so
# much. Taken at its word it costs 2 dB at σ = 0.03 on validation photographs.
_DOUBT = 2.0


class Identifier:
    """Identifies the blur of a stream of frames.

    Parameters
    ----------
    family
        The blurs to choose among.
    network
        The identification network, or None: the spectrum then works alone.
    average_s
        Time constant of the running average spectrum, seconds.
    specimen
        What is known of specimens' own spectra; when None, that they are smooth.
    phases
        Whether the newest frame's phases are asked beside the average spectrum.
    """

    def __init__(
        self,
        family: ZernikeFamily,
        network: Network | None = None,
        average_s: float = 5.0,
        specimen: SpecimenSpectrum | None = None,
        phases: bool = True,
    ) -> None:
        self.family = family
        self.network = network
        self.phases = phases
        self.spectrum = PowerSpectrum(average_s, family.cutoff)
        self.refiner = SpectralRefiner(family, specimen)
        self.search = Search(self.refiner)
        self.noise_sigma = 0.01
        self._now = 0.0
        self._refused = False
        self._begin_anew()

    def reset(self) -> None:
        """Forget all frames (another specimen, another frame size)."""
        self.spectrum.reset()
        self._refused = False
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Forget what spoke for the last blur: it says nothing of the next."""
        # A new one: a question that is being answered may still have the old.
        self.rotation = Rotation(self.family)
        self._prior: tuple[torch.Tensor, torch.Tensor] | None = None
        self._asked_at, self._asked_frames = -math.inf, 0.0
        self._rivals: Fit | None = None
        self._rest: torch.Tensor | None = None
        self._nearby: NearbyPhase | None = None
        self._looked_at = -math.inf

    def observe(self, image: torch.Tensor, time: float) -> None:
        """Add a frame (H, W), scaled to about [0, 1], to the running spectrum."""
        self._now = time
        if self.spectrum.add(image, time):
            self._begin_anew()

    def estimate(
        self,
        image: torch.Tensor,
        prediction: NDArray[np.float64] | None = None,
        noise: Noise | None = None,
    ) -> Estimate:
        """Identify the blur from the frames observed so far: ask, answer, accept.

        The parameters are those of `ask`.

        Raises
        ------
        RuntimeError
            Before the first `observe`.
        """
        answer = self.answer(self.ask(image, prediction, noise))
        accepted = self.accept(answer)
        assert accepted is not None
        return accepted

    def ask(
        self,
        image: torch.Tensor,
        prediction: NDArray[np.float64] | None = None,
        noise: Noise | None = None,
    ) -> Question:
        """Return what the frames observed so far are to be asked; quick.

        Parameters
        ----------
        image
            The newest frame, scaled: it decides the rotation.
        prediction
            (P,) the tracker's; the fit starts there too, and mostly leaves the
            library out.
        noise
            A calibrated camera's noise; read off the spectrum if None.

        Raises
        ------
        RuntimeError
            Before the first `observe`.
        """
        seen, frames = self.spectrum.average, self.spectrum.frames
        of_seen = None if noise is None else noise(seen.level)
        data = self.refiner.prepare(seen.power, seen.looks, frames, of_seen)
        # The windows that count for more may be the brightest.
        floor = noise_floor(
            with_leakage(seen.plain),
            seen.plain_looks * frames,
            self.family.cutoff,
            None if noise is None else noise(float(image.mean())),
        )
        self.noise_sigma = float(floor) ** 0.5
        question = Question(data, self.noise_sigma, self.rotation, self._rivals)
        if int(data.reliable.bins) < MIN_BINS:
            return question
        starts = []
        if prediction is not None:
            starts.append(torch.as_tensor(prediction, dtype=torch.float32)[None])
        lost = prediction is None or self._refused
        # After a pause the average is young again.
        self._asked_frames = min(self._asked_frames, frames)
        grown = frames >= _LIBRARY_GROWTH * self._asked_frames
        often = max(_LIBRARY_LEAST_S, _LIBRARY_RENEWED * self.spectrum.average_s)
        # A clock that has been set back must not put it off.
        widely = lost or grown or not 0 <= self._now - self._asked_at < often
        # Without an average one frame's answer says nothing of the next.
        alone = self.spectrum.average_s <= 0
        soon = 0 <= self._now - self._looked_at < self.spectrum.average_s
        if widely or alone:
            self._prior = self._asked_network(data.reliable)
            if self._prior is not None:
                starts.append(self._prior[0][None])
        if widely:
            self._asked_at = self._now
            if lost or grown:
                self._asked_frames = frames
        return replace(
            question,
            crop=self.rotation.crop(image),
            starts=tuple(starts),
            prior=self._prior,
            breadth=MANY if lost else FEW if widely else None,
            credit=0.0 if lost or grown or alone else KEPT,
            rest=self._rest,
            nearby=self._nearby if soon else None,
            phases=self.phases,
            time=self._now,
        )

    def answer(self, question: Question) -> Answer:
        """Find the blur that a question's spectrum has; on any thread, one at a time.

        It takes up to two seconds, longer the first time, when the library is made; and
        changes nothing but the question's rotation and how far the random hops are.
        """
        rivals = question.rivals
        if question.crop is None:
            return Answer(question, silent(self.family), rivals)
        if question.breadth is not None or len(question.starts) > 1:
            rivals = self.search.minima(question)
            begin = torch.as_tensor(rivals.coefficients[:1], dtype=torch.float32)
        else:
            begin = question.starts[0]
        fit, nearby = self._refined(question, begin)
        fit = self._beside_rivals(fit, rivals)
        found = judge(self.family, fit)
        if found.trusted:
            turned = question.rotation.decide(
                question.crop, found.coefficients, question.noise_sigma
            )
            if (turned != found.coefficients).any():
                # This frame's phases have led it to where they fit the other turn.
                begin = torch.as_tensor(turned, dtype=torch.float32)[None]
                fit, nearby = self._refined(question, begin)
                fit = self._beside_rivals(fit, rivals)
                turned = fit.coefficients[0]
            found = Estimate(turned, fit.covariance, found.quality)
            if not question.rotation.told(turned):
                found = replace(found, trusted=False, reason=_NO_TURN)
        return Answer(question, found, rivals, fit.rest, nearby)

    def _refined(
        self, question: Question, start: torch.Tensor
    ) -> tuple[Fit, NearbyPhase | None]:
        """Return the fit that spectrum and phases lead to from a start (1, P).

        And this frame's look at the phases, if the next may go by it too.
        """
        fit, data, prior = self.refiner.fit, question.data, question.prior
        warm, last = question.breadth is None, question.nearby
        if warm and last is not None and last.reaches(start):
            return fit(data, start, prior, phase=last, rest=question.rest), None
        phase = question.phase(self.family, start[0])
        if phase is None:
            return fit(data, start, prior), None
        if warm:
            look = phase.nearby(start)
            return fit(data, start, prior, phase=look, rest=question.rest), look
        return fit(data, start, prior, _PHASE_STEPS, phase=phase), None

    def accept(self, answer: Answer) -> Estimate | None:
        """Go on from an answer, and return it; None if it is of another specimen."""
        if answer.question.rotation is not self.rotation:
            return None
        found = answer.estimate
        self._rivals, self._rest = answer.rivals, answer.rest
        self._nearby, self._looked_at = answer.nearby, answer.question.time
        if answer.question.crop is not None:
            self._refused = not found.trusted
            poor = found.quality > POOR_FIT and found.reason != _NO_TURN
            if self._refused and poor:
                # The average may hold two blurs, from before and after a step.
                self.spectrum.reset()
                self._begin_anew()
        return found

    def _beside_rivals(self, fit: Fit, rivals: Fit | None) -> Fit:
        """Return a fit with the last search's rivals: a warm one looks for none."""
        if rivals is None:
            return fit
        now = torch.from_numpy(fit.coefficients[0])
        then = aligned(self.family, torch.from_numpy(rivals.coefficients), now)
        # The fit has gone on from one of them, not always from the best.
        order = torch.argsort((then - now).square().sum(1))
        objective = torch.from_numpy(rivals.objective)[order]
        return replace(fit, rivals=rival_spread(self.family, then[order], objective))

    def _asked_network(
        self, spectrum: Reliable
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return the network's answer as a prior of the fit.

        None without a network, and where it answers with numbers that are none.
        """
        if self.network is None:
            return None
        coefficients, deviations = self.ask_network(spectrum)
        if not (coefficients.isfinite().all() and deviations.isfinite().all()):
            return None
        return coefficients, _DOUBT * deviations

    def ask_network(self, spectrum: Reliable) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the network's coefficients (P,) and standard deviations (P,)."""
        assert self.network is not None
        batched = Reliable(
            spectrum.log_signal[None], spectrum.weight[None], spectrum.floor[None]
        )
        mean = self.refiner.specimen.mean
        return self.network(network_input(batched, self.family.cutoff, mean))
