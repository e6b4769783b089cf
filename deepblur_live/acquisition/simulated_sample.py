"""The simulated microscope: a specimen, moving optics, a stage and a camera.

A pure function of time: the same scene gives the same frame for the same time, noise
included, and its sharp truth whenever it is asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.acquisition.course import AberrationCourse, demonstration_course
from deepblur_live.acquisition.specimen import load_specimen
from deepblur_live.optics import CameraNoise, ZernikeFamily, extend

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SimulatedFrame", "SimulatedScene", "StageDrift"]

# γ moves in steps this fine, so that a PSF serves many frames; the truth reported is
# the one used. The step itself lies 50 dB below the PSF's energy.
_QUANTUM_WAVES = 0.0005


@dataclass(frozen=True)
class StageDrift:
    """A stage that wanders on a closed curve, so that the field stays on the specimen.

    Parameters
    ----------
    reach_px
        Largest displacement along either axis, pixels.
    periods_s
        Seconds a turn takes along y and along x.
    """

    reach_px: float = 8.0
    periods_s: tuple[float, float] = (131.0, 97.0)

    def displacement(self, time: float) -> tuple[float, float]:
        """Return (dy, dx) in pixels at `time`; sub-pixel, zero at time zero."""
        dy, dx = (
            self.reach_px * math.sin(2 * math.pi * time / period)
            for period in self.periods_s
        )
        return dy, dx


@dataclass(frozen=True)
class SimulatedFrame:
    """One frame and what is true of it.

    Parameters
    ----------
    pixels
        (H, W) uint16 grey values.
    coefficients
        (P,) true γ, waves rms.
    time
        Seconds on the scene's clock.
    """

    pixels: NDArray[np.uint16]
    coefficients: NDArray[np.float64]
    time: float


class SimulatedScene:
    """A specimen seen through drifting aberrations by a camera.

    The larger specimen is blurred and the camera's field cut out of it, so that light
    from beyond the borders falls in, as it does in a microscope.

    Parameters
    ----------
    specimen
        (H, W) fluorescence, 0 to 1; the shipped micrograph by default.
    family
        The optics; the paper's by default.
    course
        γ over time; `demonstration_course` by default.
    noise
        The camera: offset, gain, read noise.
    peak_electrons
        Mean electrons of a specimen value of 1 in one frame, before bleaching. The
        default gives the shipped specimen a noise of about 0.01 of its brightest.
    shape
        (H, W) of the camera; powers of two suit pymmcore-plus' ring best.
    stage
        The stage's drift.
    bleaching_s
        Time constant of the bleaching, seconds; ``inf`` for none.
    seed
        Of the noise.

    Raises
    ------
    ValueError
        When the specimen is too small for the field, its drift and the PSF, or when
        the course does not fit the family.
    """

    def __init__(
        self,
        specimen: NDArray[np.float32] | None = None,
        *,
        family: ZernikeFamily | None = None,
        course: AberrationCourse | None = None,
        noise: CameraNoise | None = None,
        peak_electrons: float = 3000.0,
        shape: tuple[int, int] = (512, 512),
        stage: StageDrift | None = None,
        bleaching_s: float = 900.0,
        seed: int = 0,
    ) -> None:
        self.family = ZernikeFamily() if family is None else family
        self.course = demonstration_course(self.family) if course is None else course
        self.noise = CameraNoise() if noise is None else noise
        self.peak_electrons = peak_electrons
        self.shape = shape
        self.stage = StageDrift() if stage is None else stage
        self.bleaching_s = bleaching_s
        self.seed = seed
        if len(self.course.still) != self.family.n_coefficients:
            raise ValueError(
                f"the course has {len(self.course.still)} coefficients, the family "
                f"{self.family.n_coefficients} modes {self.family.noll}"
            )

        picture = load_specimen() if specimen is None else specimen
        blur = self.family.window // 2
        margin = blur + math.ceil(self.stage.reach_px)
        needed = (shape[0] + 2 * margin, shape[1] + 2 * margin)
        if picture.shape[0] < needed[0] or picture.shape[1] < needed[1]:
            raise ValueError(
                f"a specimen of {picture.shape[0]} × {picture.shape[1]} is too small: "
                f"a field of {shape[0]} × {shape[1]}, a stage drift of "
                f"{self.stage.reach_px} px and a PSF of {self.family.window} px need "
                f"{needed[0]} × {needed[1]}"
            )
        self._origin = (
            (picture.shape[0] - shape[0]) // 2,
            (picture.shape[1] - shape[1]) // 2,
        )
        # Periodic with a margin of the PSF, so that a Fourier shift and blur put no
        # edge into the field.
        periodic = extend(torch.from_numpy(np.array(picture, np.float32)), blur)
        self._extent = (int(periodic.shape[0]), int(periodic.shape[1]))
        self._spectrum = torch.fft.rfft2(periodic)
        self._frequencies = (
            torch.fft.fftfreq(self._extent[0], dtype=torch.float64),
            torch.fft.rfftfreq(self._extent[1], dtype=torch.float64),
        )
        self._otf: tuple[bytes, torch.Tensor] = (b"", torch.empty(0))

    def coefficients(self, time: float) -> NDArray[np.float64]:
        """Return the true γ (P,), waves rms, at `time` seconds of the course."""
        gamma = np.round(self.course.coefficients(time) / _QUANTUM_WAVES)
        return gamma * _QUANTUM_WAVES

    def psf(self, coefficients: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the true PSF (K, K), sum 1, of γ."""
        psf: NDArray[np.float32] = self.family.psf(
            torch.from_numpy(np.asarray(coefficients, np.float32))
        ).numpy()
        return psf

    def truth_image(self, time: float) -> NDArray[np.float32]:
        """Return the sharp frame (H, W) at `time`: grey values without blur or noise.

        In the frame's own units, offset included, so that raw and deblurred pictures
        can be scored against it.
        """
        electrons = self._electrons(time, None)
        sharp: NDArray[np.float32] = self.noise.mean(electrons).numpy()
        return sharp

    def expected_image(
        self, time: float, course_time: float | None = None
    ) -> NDArray[np.float32]:
        """Return the blurred frame (H, W) at `time`, without noise, in grey values."""
        electrons = self._blurred(time, course_time)[0]
        expected: NDArray[np.float32] = self.noise.mean(electrons).numpy()
        return expected

    def frame(
        self, time: float, course_time: float | None = None, *, noisy: bool = True
    ) -> SimulatedFrame:
        """Return the camera's frame at `time`.

        Parameters
        ----------
        time
            Seconds: of the stage, the bleaching and the noise's seed.
        course_time
            Seconds of the aberrations' course, where it differs (a drift on hold).
        noisy
            Whether the camera adds its noise.
        """
        electrons, gamma = self._blurred(time, course_time)
        if noisy:
            # One seed a microsecond: a frame can be made again from its time alone.
            generator = torch.Generator()
            generator.manual_seed(self.seed * 1_000_003 + round(time * 1e6))
            grey = self.noise.sample(electrons, generator)
        else:
            grey = self.noise.mean(electrons)
        pixels = grey.round_().clamp_(0, 65535).numpy().astype(np.uint16)
        return SimulatedFrame(pixels, gamma, time)

    def _blurred(
        self, time: float, course_time: float | None
    ) -> tuple[torch.Tensor, NDArray[np.float64]]:
        gamma = self.coefficients(time if course_time is None else course_time)
        key = gamma.tobytes()
        cached_key, otf = self._otf
        if key != cached_key:
            coefficients = torch.from_numpy(gamma.astype(np.float32))
            otf = self.family.operator(coefficients, self._extent).otf
            self._otf = (key, otf)
        # Blur of a non-negative specimen is non-negative; rounding may say otherwise.
        return self._electrons(time, otf).clamp_(min=0), gamma

    def _electrons(self, time: float, otf: torch.Tensor | None) -> torch.Tensor:
        """Return mean electrons (H, W) of the field at `time`, blurred or sharp."""
        dy, dx = self.stage.displacement(time)
        along_y, along_x = self._frequencies
        spectrum = self._spectrum * _ramp(along_y, dy)[:, None] * _ramp(along_x, dx)
        if otf is not None:
            spectrum = spectrum * otf
        whole = torch.fft.irfft2(spectrum, s=self._extent)
        top, left = self._origin
        field = whole[top : top + self.shape[0], left : left + self.shape[1]]
        brightness = self.peak_electrons * math.exp(-time / self.bleaching_s)
        electrons: torch.Tensor = field * brightness
        return electrons


def _ramp(frequencies: torch.Tensor, shift: float) -> torch.Tensor:
    """Return exp(-2πi f·shift): the Fourier factor of a shift in pixels."""
    phase = -2 * torch.pi * shift * frequencies
    return torch.polar(torch.ones_like(phase), phase).to(torch.complex64)
