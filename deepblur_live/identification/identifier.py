"""Frame after frame → γ: running spectrum, start, refinement, rotation, verdict."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.identification.minima import aligned, rival_spread
from deepblur_live.identification.network import network_input
from deepblur_live.identification.refine import Fit, SpectralRefiner
from deepblur_live.identification.rotation import Rotation
from deepblur_live.identification.spectrum import PowerSpectrum, Reliable
from deepblur_live.identification.verdict import MIN_BINS, POOR_FIT, judge, silent
from deepblur_live.optics import Estimate, ZernikeFamily

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.identification.specimen import SpecimenSpectrum

__all__ = ["Identifier", "Network"]

# (1, 2, 64, 32) input → coefficients (P,) and their standard deviations (P,).
Network = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

# The best of the library are refined a little, and the best of those to the end: so
# many where nothing is known, and so many of every so manieth beside a prediction.
_MANY, _FEW = (40, 10, 1), (4, 2, 3)
_LIBRARY_STEPS = 5
# A tracked minimum may have become the wrong one: when the average has been renewed so
# many times (at least after so many seconds), after a step, and when the average has so
# many times the frames, which tell apart what was one, the network is asked and a few
# of the library are tried beside it; many after each refusal.
_LIBRARY_RENEWED, _LIBRARY_LEAST_S, _LIBRARY_GROWTH = 2.0, 2.0, 2.0
# A blur is more likely what it was than another that fits as well, by this in misfit,
# unless the average has only just told them apart.
_KEPT = 4.0
# So many minima of the last search are tried in the next.
_REMEMBERED = 2
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
    """

    def __init__(
        self,
        family: ZernikeFamily,
        network: Network | None = None,
        average_s: float = 5.0,
        specimen: SpecimenSpectrum | None = None,
    ) -> None:
        self.family = family
        self.network = network
        self.spectrum = PowerSpectrum(average_s)
        self.refiner = SpectralRefiner(family, specimen)
        self.rotation = Rotation(family)
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
        self.rotation.reset()
        self._prior: tuple[torch.Tensor, torch.Tensor] | None = None
        self._asked_at, self._asked_frames = -math.inf, 0.0
        self._rivals: Fit | None = None

    def observe(self, image: torch.Tensor, time: float) -> None:
        """Add a frame (H, W), scaled to about [0, 1], to the running spectrum."""
        self._now = time
        if self.spectrum.add(image, time):
            self._begin_anew()

    def estimate(
        self,
        image: torch.Tensor,
        prediction: NDArray[np.float64] | None = None,
        noise_variance: float | None = None,
    ) -> Estimate:
        """Identify the blur from the frames observed so far.

        Parameters
        ----------
        image
            The newest frame, scaled: it decides the rotation.
        prediction
            (P,) the tracker's; the fit starts there too, and mostly leaves the
            library out.
        noise_variance
            Of a calibrated camera, in the image's units; read off the spectrum if None.

        Raises
        ------
        RuntimeError
            Before the first `observe`.
        """
        data = self.refiner.prepare(
            self.spectrum.value,
            self.spectrum.looks,
            self.spectrum.frames,
            noise_variance,
        )
        self.noise_sigma = float(data.reliable.floor) ** 0.5
        if int(data.reliable.bins) < MIN_BINS:
            return silent(self.family)
        starts = []
        if prediction is not None:
            starts.append(torch.as_tensor(prediction, dtype=torch.float32)[None])
        frames = self.spectrum.frames
        lost = prediction is None or self._refused
        # After a pause the average is young again.
        self._asked_frames = min(self._asked_frames, frames)
        grown = frames >= _LIBRARY_GROWTH * self._asked_frames
        often = max(_LIBRARY_LEAST_S, _LIBRARY_RENEWED * self.spectrum.average_s)
        # A clock that has been set back must not put it off.
        asked = lost or grown or not 0 <= self._now - self._asked_at < often
        # Without an average one frame's answer says nothing of the next.
        if asked or self.spectrum.average_s <= 0:
            self._prior = self._asked_network(data.reliable)
            if self._prior is not None:
                starts.append(self._prior[0][None])
        if asked:
            self._asked_at = self._now
            if lost or grown:
                self._asked_frames = frames
            count, kept, every = _MANY if lost else _FEW
            tried = self.refiner.starts(data, count, every)
            rough = self.refiner.fit(data, tried, self._prior, _LIBRARY_STEPS)
            best = rough.coefficients[:kept]
            starts.append(torch.as_tensor(best, dtype=torch.float32))
            if self._rivals is not None:
                known = self._rivals.coefficients[:_REMEMBERED]
                starts.append(torch.as_tensor(known, dtype=torch.float32))
        alone = self.spectrum.average_s <= 0
        credit = 0.0 if lost or grown or alone else _KEPT
        fit = self.refiner.fit(data, torch.cat(starts), self._prior, credit=credit)
        if asked:
            self._rivals = fit
        found = judge(self.family, self._beside_rivals(fit))
        self._refused = not found.trusted
        if self._refused:
            if found.quality > POOR_FIT:
                # The average may hold two blurs, from before and after a step.
                self.spectrum.reset()
                self._begin_anew()
            return found
        turned = self.rotation.decide(image, found.coefficients, self.noise_sigma)
        flipped = np.where(turned * found.coefficients < 0, -1.0, 1.0)
        covariance = found.covariance * flipped[:, None] * flipped[None]
        return Estimate(turned, covariance, found.quality)

    def _beside_rivals(self, fit: Fit) -> Fit:
        """Return a fit with the last search's rivals: a warm one looks for none."""
        if self._rivals is None or len(fit.objective) > 1:
            return fit
        now = torch.from_numpy(fit.coefficients[0])
        then = aligned(self.family, torch.from_numpy(self._rivals.coefficients), now)
        # The fit has gone on from one of them, not always from the best.
        order = torch.argsort((then - now).square().sum(1))
        objective = torch.from_numpy(self._rivals.objective)[order]
        return replace(fit, rivals=rival_spread(self.family, then[order], objective))

    def _asked_network(
        self, spectrum: Reliable
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return the network's answer as a prior of the fit, None without a network."""
        if self.network is None:
            return None
        coefficients, deviations = self.ask_network(spectrum)
        return coefficients, _DOUBT * deviations

    def ask_network(self, spectrum: Reliable) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the network's coefficients (P,) and standard deviations (P,)."""
        assert self.network is not None
        batched = Reliable(
            spectrum.log_signal[None], spectrum.weight[None], spectrum.floor[None]
        )
        mean = self.refiner.specimen.mean
        return self.network(network_input(batched, self.family.cutoff, mean))
