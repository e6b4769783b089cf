"""One frame of a bead slide → γ: beads found, one blur fitted to them, and judged."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.blur.symmetry import ResolvedBy, nearest_rows, orbit
from deepblur_live.identification.beads.detect import (
    FEWEST_BEADS,
    Candidate,
    Detection,
    Refusal,
    background_noise,
    detect,
)
from deepblur_live.identification.beads.fit import (
    BeadFit,
    BeadNoise,
    fit_beads,
    restricted,
    start_of,
)
from deepblur_live.identification.beads.model import BeadModel
from deepblur_live.identification.beads.registration import displacements, mean_bead
from deepblur_live.identification.beads.starts import BeadLibrary
from deepblur_live.identification.beads.verdict import (
    evidence,
    judge_beads,
    refused,
)
from deepblur_live.identification.otf import coarse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily, Estimate, VerdictModel

__all__ = ["BeadEstimator", "SlideFit"]

# The brightest are fitted: more cost time and lower an error that is the model's.
_MOST_BEADS = 24
# Least half of the part of a frame that is fitted, in units of λ/NA.
_HALF_SIDE = 3.9
# Largest width of a blob over the side of what is fitted: a disc that does not fit
# in with its surroundings may be anything.
_WIDEST = 0.5
_SINGULAR = "the fit of the beads has no solution"
_TOO_WIDE = "the beads are too far out of focus: wider than the PSF's window"
# Library points that are refined on the mean bead, their steps and first blur, pixels².
_TRIED, _TRIED_STEPS, _START_BLUR = 8, 15, 0.5
# The Gaussian is a property of the instrument where the fit is trusted with a misfit
# below this share of the largest, and halves of the beads agree to this many pixels; it
# differs from the profile's by more than this many pixels.
_WELL_EXPLAINED, _AGREES, _DIFFERS = 0.5, 0.1, 0.15
# A bead that fits much worse than the others is something else: a cluster, a doublet.
_OUTLIER, _OUTLIER_RATIO = 6.0, 2.0


@dataclass(frozen=True)
class SlideFit:
    """The blur of a frame, from its beads.

    Parameters
    ----------
    detection
        All candidates; those that were not used have a reason.
    beads
        The n candidates of the fit.
    fit
        The joint fit; None if there was none: too few beads, or too wide ones.
    halves
        Fits of every other bead, and of those between.
    estimate
        γ with its verdict; None with fewer than `FEWEST_BEADS` beads.
    extra_blur
        Standard deviation in pixels of the Gaussian in addition to the wavefront, where
        it is well determined and not the family's; None elsewhere.
    """

    detection: Detection
    beads: tuple[Candidate, ...]
    fit: BeadFit | None = None
    halves: tuple[BeadFit, BeadFit] | None = None
    estimate: Estimate | None = None
    extra_blur: float | None = None

    def describe(self) -> str:
        """Return how many beads were found and used, and why others were not."""
        found = f"{len(self.beads)} of {len(self.detection.candidates)} beads are used"
        refused = self.detection.counts()
        reasons = ", ".join(f"{count} {why}" for why, count in refused.items())
        return f"{found} ({reasons})" if reasons else found


class BeadEstimator:
    """Identifies the blur of frames of a slide of equal beads.

    Parameters
    ----------
    family
        The blurs; its coarse version is used.
    diameter
        Diameter of a bead, in pixels.
    limits
        Limits within which an estimate is trusted.
    """

    def __init__(
        self, family: BlurFamily, diameter: float, limits: VerdictModel
    ) -> None:
        self.family, self.limits = family, limits
        self.model = BeadModel(coarse(family), diameter)
        half = math.ceil(_HALF_SIDE / family.cutoff) + math.floor(diameter / 2)
        self._least_side = min(2 * half + 1, self.model.side)
        self._library: BeadLibrary | None = None

    def estimate(
        self,
        frame: NDArray[np.floating],
        noise: BeadNoise | None = None,
        prediction: NDArray[np.float64] | None = None,
    ) -> SlideFit:
        """Find the beads of a frame, and fit one blur to those that stand alone.

        Parameters
        ----------
        frame
            (H, W) brightness, in any unit.
        noise
            A calibrated camera's; measured from the frame if None.
        prediction
            (P,) γ to start from. A library is searched if None, and if what it leads to
            is not trusted.
        """
        image = np.asarray(frame, dtype=np.float64)
        full = self.model
        found = detect(image, full.fwhm, self._least_side, full.side)
        beads = found.usable[:_MOST_BEADS]
        if found.candidates and found.width > _WIDEST * found.side:
            return SlideFit(found, (), estimate=refused(self.family, _TOO_WIDE))
        if len(beads) < FEWEST_BEADS:
            return SlideFit(found, beads)
        if noise is None:
            noise = BeadNoise(background_noise(image) ** 2)
        try:
            return self._searched(image, found, noise, prediction)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            return SlideFit(found, beads, estimate=refused(self.family, _SINGULAR))

    def _searched(
        self,
        image: NDArray[np.float64],
        found: Detection,
        noise: BeadNoise,
        prediction: NDArray[np.float64] | None,
    ) -> SlideFit:
        """Return the fit that the prediction leads to, or else the library."""
        model = BeadModel(self.model.family, self.model.diameter, found.side)
        crops = model.crops(image, found.usable[:_MOST_BEADS])
        mean, places = mean_bead(crops)
        if prediction is not None:
            start, competing = self._best(
                model, mean, torch.as_tensor(prediction)[None]
            )
            result = self._fitted(model, found, crops, noise, start, places, competing)
            if result.estimate is not None and result.estimate.trusted:
                return result
        if self._library is None:
            self._library = BeadLibrary(self.model)
        start, competing = self._best(model, mean, self._library.best(mean, _TRIED))
        return self._fitted(model, found, crops, noise, start, places, competing)

    def _best(
        self, model: BeadModel, mean: torch.Tensor, starts: torch.Tensor
    ) -> tuple[BeadFit, NDArray[np.float64]]:
        """Return the best fit of a mean bead (C, C) from starts (S, P).

        And the scatter (P, P) of all minima, weighted by their likelihood.
        """
        crop = mean[None]
        # Equal weights: the composition of the residual is not known yet.
        noise = BeadNoise(float(mean.square().mean()), known=True)
        blur = 0.0 if model.known_blur else _START_BLUR
        fits = []
        for gamma in starts:
            image = model.images(gamma, blur, mean.new_zeros(1, 2))
            place = displacements(image[0], crop)
            start = start_of(crop, gamma, blur, place)
            fits.append(fit_beads(model, crop, noise, start, _TRIED_STEPS))
        objective = self._tempered(fits)
        best = int(objective.argmin())
        likelihood = np.exp(objective[best] - objective)
        reference = torch.from_numpy(fits[best].coefficients)
        found = torch.from_numpy(np.stack([fit.coefficients for fit in fits]))
        similar = orbit(self.family, ResolvedBy.NEVER)
        off = (nearest_rows(found, reference, similar) - reference).numpy()
        competing = (off * likelihood[:, None]).T @ off / likelihood.sum()
        return fits[best], competing

    def _tempered(self, fits: list[BeadFit]) -> NDArray[np.float64]:
        """Return the negative log-posterior (S,) of fits of one mean bead.

        The residual is what the model lacks: of unknown size, smooth on the scale of
        the PSF, and in few places. How many independent values it has is therefore
        counted from the residual itself, by its fourth moment; the fewest of all fits
        count.
        """
        prior = self.family.prior
        square = np.stack([np.square(fit.residual) for fit in fits])
        energy = square.sum((1, 2, 3))
        places = 3 * energy**2 / np.square(square).sum((1, 2, 3))
        cells = max(1.0, float(places.min()) / self.model.fwhm**2)
        off = np.stack([fit.coefficients for fit in fits]) - prior.mean
        penalty = (off * np.linalg.solve(prior.covariance, off.T).T).sum(1)
        posterior: NDArray[np.float64] = 0.5 * (cells * np.log(energy) + penalty)
        return posterior

    def _fitted(
        self,
        model: BeadModel,
        found: Detection,
        crops: torch.Tensor,
        noise: BeadNoise,
        start: BeadFit,
        places: torch.Tensor,
        competing: NDArray[np.float64],
    ) -> SlideFit:
        """Return the joint fit of beads from that of their mean, with its verdict."""
        gamma = torch.from_numpy(start.coefficients)
        begin = start_of(
            crops, gamma, start.blur, places + torch.from_numpy(start.positions)
        )
        fit = fit_beads(model, crops, noise, begin)
        beads, keep = found.usable[: len(crops)], _alike(fit.chi2)
        if not keep.all() and keep.sum() >= FEWEST_BEADS:
            crops = crops[torch.from_numpy(keep)]
            others = {bead for bead, kept in zip(beads, keep, strict=True) if not kept}
            found = replace(
                found,
                candidates=tuple(
                    replace(c, refusal=Refusal.MISFIT) if c in others else c
                    for c in found.candidates
                ),
            )
            beads = tuple(bead for bead in beads if bead not in others)
            fit = fit_beads(model, crops, noise, restricted(fit, keep))
        first = np.arange(len(crops)) % 2 == 0
        halves = tuple(
            fit_beads(
                model,
                crops[torch.from_numpy(half)],
                fit.noise._replace(known=True),
                restricted(fit, half),
            )
            for half in (first, ~first)
        )
        assert len(halves) == 2
        estimate = judge_beads(
            self.family,
            fit,
            evidence(model, fit, halves),
            competing,
            self.limits,
        )
        return SlideFit(
            found,
            beads,
            fit,
            halves,
            estimate,
            _extra_blur(model, fit, halves, estimate),
        )


def _extra_blur(
    model: BeadModel,
    fit: BeadFit,
    halves: tuple[BeadFit, BeadFit],
    estimate: Estimate,
) -> float | None:
    """Return the Gaussian of an instrument, see `SlideFit`.

    Out of focus a Gaussian takes the place of defocus and reaches its limit.
    """
    blurs = [part.blur for part in (fit, *halves)]
    if not estimate.trusted or estimate.quality > _WELL_EXPLAINED:
        return None
    if max(blurs) >= model.largest_blur:
        return None
    total, first, second = (math.sqrt(max(0.0, b + model.known_blur)) for b in blurs)
    differs = abs(total - math.sqrt(model.known_blur)) > _DIFFERS
    return total if differs and abs(first - second) < _AGREES else None


def _alike(chi2: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which beads (n,) fit about as well as the others."""
    middle = float(np.median(chi2))
    deviation = 1.4826 * float(np.median(np.abs(chi2 - middle)))
    alike: NDArray[np.bool_] = chi2 <= max(
        middle + _OUTLIER * deviation, _OUTLIER_RATIO * middle
    )
    return alike
