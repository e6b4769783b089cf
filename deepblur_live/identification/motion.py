"""Whether the specimen or the stage moved while a frame was exposed.

Steady motion by L pixels multiplies the OTF by sinc(f·L): a frame shows a line in place
of a point. The aberrations of a family imitate that, with coefficients that are not the
objective's. A spectrum is therefore fitted again, with a motion in addition to γ; if
that explains it clearly better, γ is not to be trusted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch

from deepblur_live.blur import Prior, Symmetry
from deepblur_live.identification.refine import SpectralRefiner
from deepblur_live.identification.spectrum import WINDOW

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily, ErrorModel
    from deepblur_live.identification.fit import Fit
    from deepblur_live.identification.observed import ObservedSpectrum
    from deepblur_live.identification.specimen import SpecimenSpectrum

__all__ = ["FoundMotion", "MotionCheck", "MovedFamily"]

# See docs/decisions/0136-motion-within-an-exposure.md; all lengths are in λ/NA.
# Lengths that are tried, in this many directions, and the deviation about each.
_LENGTHS, _DIRECTIONS, _SPREAD = (0.83, 1.25), 8, 0.18
# Steps from all starts, then from the best of them.
_FIRST_STEPS, _BEST, _LAST_STEPS = 4, 3, 12
# Least length, and gain over the square of the usual residual, of a motion. Residuals
# of simulated specimens may be smaller than any real one's.
_SHORTEST, _CLEAR, _LEAST_RESIDUAL = 0.7, 15.0, 0.4
# Below this argument sinc is a parabola.
_FLAT = 1e-3


@dataclass(frozen=True)
class MovedFamily:
    """The part of a `BlurFamily` that a fit needs, with a motion as two coefficients.

    Its coefficients are the family's, then the displacement in pixels, rows and
    columns, of a specimen that moved steadily during the exposure.

    Parameters
    ----------
    family
        The blurs without motion.
    spread
        Deviation of the displacement in pixels, along either axis.
    """

    family: BlurFamily
    spread: float

    @property
    def n_coefficients(self) -> int:
        """Number of coefficients, P + 2."""
        return self.family.n_coefficients + 2

    @property
    def cutoff(self) -> float:
        """Coherent cut-off frequency, cycles per pixel: motion adds none."""
        return self.family.cutoff

    @property
    def window(self) -> int:
        """Side K of the PSF without motion in pixels, odd."""
        return self.family.window

    @cached_property
    def prior(self) -> Prior:
        """The family's prior, and no motion as its mean."""
        prior, displacement = self.family.prior, np.full(2, self.spread)
        p = len(prior.mean)
        covariance = np.diag(np.concatenate([np.zeros(p), displacement**2]))
        covariance[:p, :p] = prior.covariance
        none, small = np.full(2, np.inf), prior.small
        return Prior(
            np.concatenate([prior.mean, np.zeros(2)]),
            covariance,
            np.concatenate([prior.scale, displacement]),
            prior.admissible,
            small=None if small is None else np.concatenate([small, none]),
        )

    @cached_property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """The family's symmetries: opposite motions give the same blur."""
        p, found = self.family.n_coefficients, []
        for symmetry in self.family.symmetries:
            matrix, offset = np.eye(p + 2), np.zeros(p + 2)
            matrix[:p, :p], offset[:p] = symmetry.matrix, symmetry.offset
            found.append(replace(symmetry, matrix=matrix, offset=offset))
        return tuple(found)

    def coarse(self) -> MovedFamily:
        """Return the coarse version, see `BlurFamily.coarse`."""
        return replace(self, family=self.family.coarse())

    def psf(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Return the PSF (S, 64, 64) of (S, P+2) coefficients, on a periodic window."""
        line, _ = _line(coefficients[:, -2:])
        return _image(_spectrum(self.family.psf(coefficients[:, :-2])) * line)

    def psf_and_jacobian(
        self, coefficients: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the PSF (S, 64, 64) and its derivatives (S, P+2, 64, 64)."""
        psf, slopes = self.family.psf_and_jacobian(coefficients[:, :-2])
        line, by_displacement = _line(coefficients[:, -2:])
        still = _spectrum(psf)
        parts = [_spectrum(slopes) * line[:, None], still[:, None] * by_displacement]
        return _image(still * line), _image(torch.cat(parts, 1))


def _spectrum(image: torch.Tensor) -> torch.Tensor:
    """Return the OTF (..., 64, 33) of a PSF (..., K, K) within a spectrum's window."""
    spectrum: torch.Tensor = torch.fft.rfft2(image, s=(WINDOW, WINDOW))
    return spectrum


def _image(spectrum: torch.Tensor) -> torch.Tensor:
    image: torch.Tensor = torch.fft.irfft2(spectrum, s=(WINDOW, WINDOW))
    return image


def _line(displacement: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sinc(f·L) (S, 64, 33) of displacements L (S, 2), and its two slopes."""
    fy = torch.fft.fftfreq(WINDOW).to(displacement)[:, None]
    fx = torch.fft.rfftfreq(WINDOW).to(displacement)[None]
    along = fy * displacement[:, 0, None, None] + fx * displacement[:, 1, None, None]
    line = torch.sinc(along)
    flat = along.abs() < _FLAT
    safe = torch.where(flat, torch.ones_like(along), along)
    change = torch.where(
        flat, -(math.pi**2) / 3 * along, (torch.cos(math.pi * along) - line) / safe
    )
    return line, torch.stack([change * fy, change * fx], 1)


class FoundMotion(NamedTuple):
    """The best motion of a spectrum.

    Parameters
    ----------
    pixels
        Its length, pixels.
    gain
        Misfit that it explains, over the square of the usual residual.
    clear
        Whether it is certain enough that γ is not to be trusted.
    """

    pixels: float
    gain: float
    clear: bool


class MotionCheck:
    """Tests fits of a spectrum for motion within the exposure.

    Parameters
    ----------
    still
        Fits spectra without motion.
    errors, specimen
        Those of `still`.
    """

    def __init__(
        self, still: SpectralRefiner, errors: ErrorModel, specimen: SpecimenSpectrum
    ) -> None:
        self._still = still
        self._resolution = 1 / still.family.cutoff
        spread = _SPREAD * self._resolution
        moved = MovedFamily(still.family, spread)
        # A fit of a spectrum asks for no other member of a family.
        self._moved = SpectralRefiner(cast("BlurFamily", moved), errors, specimen)
        self._deviation = torch.as_tensor(
            np.sqrt(np.diag(moved.prior.covariance)), dtype=torch.float32
        )
        angle = torch.arange(_DIRECTIONS) * (math.pi / _DIRECTIONS)
        direction = torch.stack([angle.sin(), angle.cos()], 1)
        self._displacements = torch.cat(
            [length * self._resolution * direction for length in _LENGTHS]
        )

    def find(
        self, data: ObservedSpectrum, coefficients: NDArray[np.float64]
    ) -> FoundMotion:
        """Return the best motion of a spectrum whose fit without motion is γ (P,).

        Takes about a third of a second of computing.
        """
        start = torch.as_tensor(coefficients, dtype=torch.float32)[None]
        still = self._still.fit(data, start)
        gamma = torch.as_tensor(still.coefficients, dtype=torch.float32)
        starts = torch.cat(
            [gamma.expand(len(self._displacements), -1), self._displacements], 1
        )
        first = self._fit(data, starts, self._displacements, _FIRST_STEPS)
        best = torch.as_tensor(
            first.coefficients[np.argsort(first.objective)[:_BEST]],
            dtype=torch.float32,
        )
        # Each keeps the length and direction that it is tied to, nearest its own.
        displacements = self._displacements[
            torch.cdist(best[:, -2:], self._displacements).argmin(1)
        ]
        last = self._fit(data, best, displacements, _LAST_STEPS)
        chosen = int(np.argmin(last.objective))
        pixels = float(np.hypot(*last.coefficients[chosen, -2:]))
        gain = float(still.objective[0] - last.objective[chosen])
        gain /= max(still.quality, _LEAST_RESIDUAL) ** 2
        clear = gain > _CLEAR and pixels > _SHORTEST * self._resolution
        return FoundMotion(pixels, gain, clear)

    def _fit(
        self,
        data: ObservedSpectrum,
        starts: torch.Tensor,
        displacements: torch.Tensor,
        steps: int,
    ) -> Fit:
        """Refine starts (S, P+2), each tied to its displacement (S, 2) as a prior."""
        usual = torch.as_tensor(self._still.family.prior.mean, dtype=torch.float32)
        mean = torch.cat([usual.expand(len(displacements), -1), displacements], 1)
        return self._moved.fit(data, starts, (mean, self._deviation), steps)
