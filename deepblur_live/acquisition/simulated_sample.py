"""The simulated microscope: a specimen, drifting optics, a stage and a camera.

A pure function of time: the same sample gives the same frame for the same time, noise
included, and the sharp image of any time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.acquisition.specimen import load_specimen, mosaic
from deepblur_live.acquisition.trajectory import (
    AberrationTrajectory,
    demonstration_trajectory,
)
from deepblur_live.blur import family_from_profile, focus_direction
from deepblur_live.blur.tiled import TiledBlur, grid_positions
from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.optics import CameraNoise, extend, frame_part
from deepblur_live.profile import Profile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily, LinearBlur

__all__ = ["SimulatedFrame", "SimulatedSample", "StageDrift"]

# γ is rounded to this share of its prior's scale, so that one operator serves many
# frames; the truth that is reported is the one used. For Zernike modes 0.0005 waves:
# such a step changes the PSF by -50 dB of its energy.
_QUANTUM = 1 / 300
# For a field: number of PSFs along each side, and side of the tiles in pixels, of which
# a multiple is used that holds a PSF.
_GRID, _TILE = 16, 64


@dataclass(frozen=True)
class StageDrift:
    """A stage that drifts on a closed curve, so that the field stays on the specimen.

    Parameters
    ----------
    amplitude_px
        Largest displacement along either axis, pixels.
    periods_s
        Periods along y and along x, seconds.
    """

    amplitude_px: float = 8.0
    periods_s: tuple[float, float] = (131.0, 97.0)

    def displacement(self, time: float) -> tuple[float, float]:
        """Return (dy, dx) in pixels at `time`; sub-pixel, zero at time zero."""
        dy, dx = (
            self.amplitude_px * math.sin(2 * math.pi * time / period)
            for period in self.periods_s
        )
        return dy, dx


@dataclass(frozen=True)
class SimulatedFrame:
    """One frame and its true coefficients.

    Parameters
    ----------
    pixels
        (H, W) uint16 grey values.
    coefficients
        (P,) true γ.
    time
        Seconds on the sample's clock.
    """

    pixels: NDArray[np.uint16]
    coefficients: NDArray[np.float64]
    time: float


class SimulatedSample:
    """A specimen seen through drifting aberrations by a camera.

    The specimen is larger than the camera's field: light from beyond its borders falls
    into it, as in a microscope.

    Parameters
    ----------
    specimen
        (H, W) fluorescence, 0 to 1; by default the shipped micrograph, or as many of
        it as the field and the PSF need.
    family
        The blurs; those of the default profile by default.
    trajectory
        γ over time; `demonstration_trajectory` by default.
    noise
        The camera: offset, gain, read noise.
    peak_electrons
        Mean electrons of a specimen value of 1 in one frame, before bleaching. With
        the default the noise of the shipped specimen is 0.01 of its brightest.
    shape
        (H, W) of the camera; powers of two suit pymmcore-plus' ring best.
    pixel_size_nm
        Camera pixel in the specimen, as the core reports it.
    stage
        The stage's drift.
    bleaching_s
        Time constant of the bleaching, seconds; ``inf`` for none.
    seed
        Seed of the noise.

    Raises
    ------
    ValueError
        When the given specimen is too small for the field, its drift and the PSF, or
        when the trajectory does not fit the family.
    """

    def __init__(
        self,
        specimen: NDArray[np.float32] | None = None,
        *,
        family: BlurFamily | None = None,
        trajectory: AberrationTrajectory | None = None,
        noise: CameraNoise | None = None,
        peak_electrons: float = 3000.0,
        shape: tuple[int, int] = (512, 512),
        pixel_size_nm: float | None = None,
        stage: StageDrift | None = None,
        bleaching_s: float = 900.0,
        seed: int = 0,
    ) -> None:
        default = Profile()
        self.family = family_from_profile(default) if family is None else family
        self.trajectory = trajectory or demonstration_trajectory(self.family)
        self.noise = CameraNoise() if noise is None else noise
        self.peak_electrons = peak_electrons
        self.shape = shape
        self.pixel_size_nm = pixel_size_nm or default.optics.pixel_size_nm
        self.stage = StageDrift() if stage is None else stage
        self.bleaching_s = bleaching_s
        self.seed = seed
        if len(self.trajectory.still) != self.family.n_coefficients:
            raise ValueError(
                f"the trajectory has {len(self.trajectory.still)} coefficients, the "
                f"family {self.family.n_coefficients} ({', '.join(self.family.names)})"
            )

        blur = self.family.window // 2
        margin = blur + math.ceil(self.stage.amplitude_px)
        needed = (shape[0] + 2 * margin, shape[1] + 2 * margin)
        picture = _shipped(max(needed)) if specimen is None else specimen
        if picture.shape[0] < needed[0] or picture.shape[1] < needed[1]:
            raise ValueError(
                f"a specimen of {picture.shape[0]} × {picture.shape[1]} is too small: "
                f"a field of {shape[0]} × {shape[1]}, a stage drift of "
                f"{self.stage.amplitude_px} px and a PSF of {self.family.window} px "
                f"need {needed[0]} × {needed[1]}"
            )
        if isinstance(self.family, ZernikeField):
            # Its polynomials are not valid far beyond the camera's field.
            part = frame_part((picture.shape[0], picture.shape[1]), needed)
            picture = picture[part]
        # Periodic with a margin of the PSF, so that a Fourier shift and blur put no
        # edge into the field.
        periodic = extend(torch.from_numpy(np.array(picture, np.float32)), blur)
        self._extent = (int(periodic.shape[0]), int(periodic.shape[1]))
        # An operator expects the field in the middle of its surroundings.
        self._field = frame_part(self._extent, shape)
        whole = frame_part(self._extent, (picture.shape[0], picture.shape[1]))
        middle = frame_part((picture.shape[0], picture.shape[1]), shape)
        self._shift = tuple(
            field.start - outer.start - inner.start
            for field, outer, inner in zip(self._field, whole, middle, strict=True)
        )
        self._spectrum = torch.fft.rfft2(periodic)
        self._frequencies = (
            torch.fft.fftfreq(self._extent[0], dtype=torch.float64),
            torch.fft.rfftfreq(self._extent[1], dtype=torch.float64),
        )
        self._blur: tuple[bytes, LinearBlur] | None = None

    def coefficients(self, time: float, z_um: float = 0.0) -> NDArray[np.float64]:
        """Return the true γ (P,) at `time` seconds of the trajectory.

        The focus drive is `z_um` away from its position at the beginning.
        """
        quantum = _QUANTUM * self.family.prior.scale
        gamma = self.trajectory.coefficients(time)
        if z_um:
            gamma = gamma + z_um * focus_direction(self.family)
        rounded: NDArray[np.float64] = np.round(gamma / quantum) * quantum
        return rounded

    def truth_image(self, time: float) -> NDArray[np.float32]:
        """Return the sharp frame (H, W) at `time`: grey values without blur or noise.

        In the frame's own units, offset included, so that raw and deblurred pictures
        can be compared with it.
        """
        electrons = self._electrons(time, None)
        sharp: NDArray[np.float32] = self.noise.mean(electrons).numpy()
        return sharp

    def expected_image(
        self, time: float, trajectory_time: float | None = None
    ) -> NDArray[np.float32]:
        """Return the blurred frame (H, W) at `time`, without noise, in grey values."""
        electrons = self._blurred(time, trajectory_time)[0]
        expected: NDArray[np.float32] = self.noise.mean(electrons).numpy()
        return expected

    def frame(
        self,
        time: float,
        trajectory_time: float | None = None,
        *,
        noisy: bool = True,
        z_um: float = 0.0,
    ) -> SimulatedFrame:
        """Return the camera's frame at `time`.

        Parameters
        ----------
        time
            Seconds; sets stage drift, bleaching and the seed of the noise.
        trajectory_time
            Seconds on the aberrations' trajectory, if different (a drift on hold).
        noisy
            Whether the camera adds its noise.
        z_um
            Position of the focus drive.
        """
        electrons, gamma = self._blurred(time, trajectory_time, z_um)
        if noisy:
            # One seed per microsecond: a frame is reproducible from its time alone.
            generator = torch.Generator()
            generator.manual_seed(self.seed * 1_000_003 + round(time * 1e6))
            grey = self.noise.sample(electrons, generator)
        else:
            grey = self.noise.mean(electrons)
        pixels = grey.round_().clamp_(0, 65535).numpy().astype(np.uint16)
        return SimulatedFrame(pixels, gamma, time)

    def _blurred(
        self, time: float, trajectory_time: float | None, z_um: float = 0.0
    ) -> tuple[torch.Tensor, NDArray[np.float64]]:
        moment = time if trajectory_time is None else trajectory_time
        gamma = self.coefficients(moment, z_um)
        key = gamma.tobytes()
        if self._blur is None or self._blur[0] != key:
            coefficients = torch.from_numpy(gamma.astype(np.float32))
            self._blur = key, self._operator(coefficients)
        # A blurred non-negative specimen is non-negative, except for rounding.
        return self._electrons(time, self._blur[1]).clamp_(min=0), gamma

    def _operator(self, coefficients: torch.Tensor) -> LinearBlur:
        """Return the blur on the specimen and its surroundings."""
        family = self.family
        if not isinstance(family, ZernikeField):
            return family.operator(coefficients, self._extent, self.shape)
        # With more PSFs and smaller tiles than frames are deblurred with; beyond the
        # camera's field with the PSFs that belong there.
        starts = np.array([part.start for part in self._field])
        positions = grid_positions(_GRID) * self._extent - starts
        local = family.at(coefficients, positions / self.shape)
        psfs = family.local.psf(local)
        psfs = psfs.reshape(_GRID, _GRID, *psfs.shape[-2:])
        tile = _TILE * math.ceil(family.window / _TILE)
        return TiledBlur(psfs, self._extent, tile=tile)

    def _electrons(self, time: float, blur: LinearBlur | None) -> torch.Tensor:
        """Return mean electrons (H, W) of the field at `time`, blurred or sharp."""
        dy, dx = self.stage.displacement(time)
        (down, right), (along_y, along_x) = self._shift, self._frequencies
        spectrum = (
            self._spectrum
            * _ramp(along_y, dy + down)[:, None]
            * _ramp(along_x, dx + right)
        )
        whole = torch.fft.irfft2(spectrum, s=self._extent)
        if blur is not None:
            whole = blur.forward(whole)
        field = whole[self._field]
        brightness = self.peak_electrons * math.exp(-time / self.bleaching_s)
        electrons: torch.Tensor = field * brightness
        return electrons


def _ramp(frequencies: torch.Tensor, shift: float) -> torch.Tensor:
    """Return exp(-2πi f·shift): the Fourier factor of a shift in pixels."""
    phase = -2 * torch.pi * shift * frequencies
    return torch.polar(torch.ones_like(phase), phase).to(torch.complex64)


def _shipped(side: int) -> NDArray[np.float32]:
    """Return the shipped specimen, or a mosaic of it, of at least that side."""
    picture = load_specimen()
    while picture.shape[0] < side:
        picture = mosaic(picture)
    return picture
