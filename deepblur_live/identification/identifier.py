"""Frame after frame → γ: running spectrum, start, fit, phases, orientation, verdict."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from deepblur_live.blur import Estimate, extra_blur, wide_prior
from deepblur_live.identification.minima import aligned, competing_scatter
from deepblur_live.identification.motion import MotionCheck
from deepblur_live.identification.network import network_input
from deepblur_live.identification.observed import with_leakage
from deepblur_live.identification.orientation import Orientation
from deepblur_live.identification.outside import OutsideCheck
from deepblur_live.identification.problem import Problem, Solution
from deepblur_live.identification.processed import processing
from deepblur_live.identification.refine import SpectralRefiner
from deepblur_live.identification.running import PowerSpectrum
from deepblur_live.identification.search import HYSTERESIS, LOCAL, WIDE, Search
from deepblur_live.identification.signal_bins import SignalBins
from deepblur_live.identification.spectrum import frequencies, noise_floor
from deepblur_live.identification.verdict import MIN_BINS, judge, no_signal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily, ErrorModel
    from deepblur_live.identification.fit import Fit
    from deepblur_live.identification.phase import LocalPhase
    from deepblur_live.identification.specimen import SpecimenSpectrum

__all__ = ["Identifier", "Network", "Noise"]

# Brightness of a scaled frame → variance of a camera's noise there, in its units.
Noise = Callable[[float], float]

# (1, 2, 64, 32) input → coefficients (P,) and their standard deviations (P,).
Network = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

# A tracked minimum may no longer be the right one. The network and a local search are
# used again after this many averaging times (at least after the seconds below), and
# when the number of averaged frames has grown by this factor, which may distinguish
# minima that were equal; a wide search follows each refusal.
_SEARCH_RENEWED, _SEARCH_LEAST_S, _SEARCH_GROWTH = 2.0, 2.0, 2.0
# Steps of a fit with phases after a search. A frame that follows another starts near
# its minimum: it takes one quadratic model of the phase term, which costs as much as
# all else, and the next frame uses that model again if it starts near and soon.
_PHASE_STEPS = 6
_NOT_ORIENTED = "the 180° orientation of the PSF is ambiguous"


class Identifier:
    """Identifies the blur of a stream of frames.

    Parameters
    ----------
    family
        The blurs to choose among.
    errors
        Calibration of stated uncertainties, from the model's manifest.
    network
        The identification network, or None to use the spectrum alone.
    average_s
        Time constant of the running average spectrum, seconds.
    specimen
        Prior of specimens' own spectra; when None, a smooth surface.
    phases
        Whether the newest frame's phases are used in addition to the spectrum.
    """

    def __init__(
        self,
        family: BlurFamily,
        errors: ErrorModel,
        network: Network | None = None,
        average_s: float = 5.0,
        specimen: SpecimenSpectrum | None = None,
        phases: bool = True,
    ) -> None:
        self.family, self.errors = family, errors
        self.network = network
        self.phases = phases
        self.spectrum = PowerSpectrum(average_s, family.cutoff)
        self.refiner = SpectralRefiner(family, errors, specimen)
        self.search = Search(self.refiner)
        # The limits of both hold for a prior that was learned from specimens.
        self.motion = (
            None if specimen is None else MotionCheck(self.refiner, errors, specimen)
        )
        wide = wide_prior(family)
        self.outside = (
            None
            if wide is None or specimen is None
            else OutsideCheck(self.refiner, wide, errors, specimen)
        )
        self.noise_sigma = 0.01
        self._now = 0.0
        self._refused = self._outside = False
        self._notes: list[str] = []
        self._restart()

    def take_notes(self) -> list[str]:
        """Return what the user should know since the last call."""
        notes, self._notes = self._notes, []
        return notes

    def reset(self) -> None:
        """Forget all frames (another specimen, another frame size)."""
        self.spectrum.reset()
        self._refused = False
        self._restart()

    def search_widely(self) -> None:
        """Have the next problem searched as if nothing were known."""
        self._refused = True

    def _restart(self) -> None:
        """Forget the evidence for the last blur: it does not apply to the next."""
        # A new object: a problem that is being solved may still hold the old one.
        self.orientation = Orientation(self.family, self.errors)
        self._prior: tuple[torch.Tensor, torch.Tensor] | None = None
        self._searched_at, self._searched_frames = -math.inf, 0.0
        self._competing: Fit | None = None
        self._nuisance: torch.Tensor | None = None
        self._local_phase: LocalPhase | None = None
        self._local_phase_time = -math.inf

    def observe(self, image: torch.Tensor, time: float) -> None:
        """Add a frame (H, W), scaled to about [0, 1], to the running spectrum."""
        self._now = time
        if self.spectrum.add(image, time):
            self._restart()

    def estimate(
        self,
        image: torch.Tensor,
        prediction: NDArray[np.float64] | None = None,
        noise: Noise | None = None,
    ) -> Estimate:
        """Identify the blur from the frames observed so far: prepare, solve, accept.

        The parameters are those of `prepare`.

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
    ) -> Problem:
        """Return the estimation problem that the frames so far pose; quick.

        Parameters
        ----------
        image
            The newest frame, scaled: its phases resolve the 180° ambiguity.
        prediction
            (P,) the tracker's prediction; the fit starts there, mostly without search.
        noise
            A calibrated camera's noise; measured from the spectrum if None.

        Raises
        ------
        RuntimeError
            Before the first `observe`.
        """
        average, frames = self.spectrum.average, self.spectrum.frames
        variance = None if noise is None else noise(average.level)
        data = self.refiner.prepare(average.power, average.averages, frames, variance)
        # With equal weights: windows with larger weights may be the brightest.
        floor = noise_floor(
            with_leakage(average.plain),
            average.plain_averages * frames,
            self.family.cutoff,
            None if noise is None else noise(float(image.mean())),
        )
        self.noise_sigma = float(floor) ** 0.5
        problem = Problem(data, self.noise_sigma, self.orientation, self._competing)
        if int(data.signal.bins) < MIN_BINS:
            return problem
        starts = []
        if prediction is not None:
            starts.append(torch.as_tensor(prediction, dtype=torch.float32)[None])
        lost = prediction is None or self._refused
        # After a pause the average starts with few frames again.
        self._searched_frames = min(self._searched_frames, frames)
        grown = frames >= _SEARCH_GROWTH * self._searched_frames
        interval = max(_SEARCH_LEAST_S, _SEARCH_RENEWED * self.spectrum.average_s)
        # A clock that has been set back must not postpone a search.
        due = lost or grown or not 0 <= self._now - self._searched_at < interval
        # Without an average the estimate of one frame does not carry over to the next.
        single = self.spectrum.average_s <= 0
        recent = 0 <= self._now - self._local_phase_time < self.spectrum.average_s
        if due or single:
            self._prior = self._network_prior(data.signal)
            if self._prior is not None:
                starts.append(self._prior[0][None])
        if due:
            self._searched_at = self._now
            if lost or grown:
                self._searched_frames = frames
        return replace(
            problem,
            crop=self.orientation.crop(image),
            starts=tuple(starts),
            prior=self._prior,
            search=WIDE if lost else LOCAL if due else None,
            hysteresis=0.0 if lost or grown or single else HYSTERESIS,
            nuisance=self._nuisance,
            local_phase=self._local_phase if recent else None,
            phases=self.phases,
            time=self._now,
        )

    def solve(self, problem: Problem) -> Solution:
        """Find the blur that fits a problem best; on any thread, one at a time.

        It takes up to two seconds, longer the first time, when the library is computed.
        Changes nothing but the problem's orientation and the random state of the basin
        hopping.
        """
        refused = self._processed(problem)
        return self._identify(problem) if refused is None else refused

    def _identify(self, problem: Problem) -> Solution:
        """Fit the spectrum, and the phases, of frames as the camera made them."""
        competing = problem.competing
        if problem.crop is None:
            return Solution(problem, no_signal(self.family), competing)
        if problem.search is not None or len(problem.starts) > 1:
            competing = self.search.minima(problem)
            begin = torch.as_tensor(competing.coefficients[:1], dtype=torch.float32)
        else:
            begin = problem.starts[0]
        fit, local_phase = self._refined(problem, begin)
        compared = None
        if self.outside is not None and problem.search is not None:
            compared = self.outside.compare(problem, fit.coefficients[0])
            if compared.missed is not None:
                again, phase = self._refined(problem, compared.missed)
                if again.objective[0] < fit.objective[0]:
                    fit, local_phase = again, phase
        fit = self._with_competing(fit, competing)
        found = judge(self.family, fit)
        if found.trusted:
            oriented = problem.orientation.decide(
                problem.crop, found.coefficients, problem.noise_sigma
            )
            if (oriented != found.coefficients).any():
                # The phases of this frame were fitted with the other orientation.
                begin = torch.as_tensor(oriented, dtype=torch.float32)[None]
                fit, local_phase = self._refined(problem, begin)
                fit = self._with_competing(fit, competing)
                oriented = fit.coefficients[0]
            found = Estimate(oriented, fit.covariance, found.quality)
            if not problem.orientation.resolved(oriented):
                found = replace(found, trusted=False, reason=_NOT_ORIENTED)
        moved = False
        if found.trusted and problem.search is not None:
            found = self._at_rest(problem, found)
            moved = not found.trusted
        # Motion is no blur of the calibrated set either, but that is not its fault.
        if self.outside is not None and compared is not None and not moved:
            found = self.outside.judge(compared, found)
        return Solution(problem, found, competing, fit, local_phase)

    def _at_rest(self, problem: Problem, found: Estimate) -> Estimate:
        """Return an estimate, refused if the spectrum shows motion within the exposure.

        Made with each search, as it takes longer than a warm estimate.
        """
        if self.motion is None:
            return found
        moved = self.motion.find(problem.data, found.coefficients)
        if not moved.clear:
            return found
        reason = (
            f"the specimen or the stage moved by about {moved.pixels:.0f} pixels "
            "during the exposure: shorten it"
        )
        return replace(found, trusted=False, reason=reason)

    def _processed(self, problem: Problem) -> Solution | None:
        """Return the refusal of a frame that is not as the camera made it, or None."""
        if problem.crop is None or problem.search is None:
            return None
        reason = processing(problem.crop, self.family.cutoff)
        if not reason:
            return None
        refused = replace(no_signal(self.family), reason=reason)
        return Solution(problem, refused, problem.competing, processed=True)

    def _refined(
        self, problem: Problem, start: torch.Tensor
    ) -> tuple[Fit, LocalPhase | None]:
        """Return the fit of spectrum and phases from a start (1, P).

        Also this frame's model of the phase term, if the next frame may use it.
        """
        fit, data, prior = self.refiner.fit, problem.data, problem.prior
        warm, last = problem.search is None, problem.local_phase
        if warm and last is not None and last.fresh and last.covers(start):
            again = fit(data, start, prior, phase=last, nuisance=problem.nuisance)
            return again, replace(last, fresh=False)
        phase = problem.phase(self.family, start[0])
        if phase is None:
            return fit(data, start, prior), None
        if warm:
            model = phase.local(start, None if last is None else last.edges)
            return (
                fit(data, start, prior, phase=model, nuisance=problem.nuisance),
                model,
            )
        return fit(data, start, prior, _PHASE_STEPS, phase=phase), None

    def accept(self, solution: Solution) -> Estimate | None:
        """Continue from a solution; return its estimate, or None if out of date."""
        problem, found = solution.problem, solution.estimate
        if problem.orientation is not self.orientation:
            return None
        self._competing = solution.competing
        self._nuisance = None if solution.fit is None else solution.fit.nuisance
        self._local_phase = solution.local_phase
        self._local_phase_time = problem.time
        if problem.crop is not None:
            self._refused = not found.trusted
            # Without a fit the frame was processed: another average does not help.
            misfit = (
                solution.fit is not None
                and found.quality > self.errors.verdict.poor_misfit
            )
            if self._refused and misfit and found.reason != _NOT_ORIENTED:
                # The average may contain two blurs, from before and after a step.
                self.spectrum.reset()
                self._restart()
        return self._admissible(found)

    def _admissible(self, found: Estimate) -> Estimate:
        """Return an estimate, or the nearest in the admissible set if that is binding.

        Noted when the estimates leave the set.
        """
        prior = self.family.prior
        if not (prior.binding and found.trusted):
            return found
        gauge = float(prior.admissible.gauge(found.coefficients))
        before, self._outside = self._outside, gauge > 1
        if not self._outside:
            return found
        if not before:
            self._notes.append(
                f"The blur differs from the calibration's mean by {gauge:.2f} times "
                "the calibrated range: the nearest blur within the range is used. If "
                "this persists, calibrate again."
            )
        nearest = prior.admissible.project(found.coefficients)
        return replace(found, coefficients=nearest)

    def _with_competing(self, fit: Fit, competing: Fit | None) -> Fit:
        """Return a warm fit with the minima of the last search as competing ones."""
        if competing is None:
            return fit
        now = torch.from_numpy(fit.coefficients[0])
        then = aligned(self.family, torch.from_numpy(competing.coefficients), now)
        # The fit has started from one of them, not always from the best.
        order = torch.argsort((then - now).square().sum(1))
        objective = torch.from_numpy(competing.objective)[order]
        temperature = self.errors.competing_temperature
        scatter = competing_scatter(
            self.family, then[order], objective, temperature, competing.centre
        )
        return replace(fit, competing=scatter)

    def _network_prior(
        self, signal: SignalBins
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return the network's estimate as a prior of the fit.

        None without a network, and where its output is not finite.
        """
        if self.network is None:
            return None
        coefficients, deviations = self.network_estimate(signal)
        if not (coefficients.isfinite().all() and deviations.isfinite().all()):
            return None
        # The network has read the same spectrum that the fit combines it with.
        return coefficients, self.errors.network * deviations

    def network_estimate(self, signal: SignalBins) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the network's coefficients (P,) and standard deviations (P,)."""
        assert self.network is not None
        batched = SignalBins(
            signal.log_signal[None], signal.weight[None], signal.floor[None]
        )
        # The network was trained without a fixed Gaussian: its effect is taken out.
        radius, _ = frequencies(signal.weight.device)
        gaussian = -((2 * math.pi * extra_blur(self.family) * radius) ** 2)
        mean = self.refiner.specimen.mean + gaussian.flatten()
        return self.network(network_input(batched, self.family.cutoff, mean))
