"""Real stacks through focus: what is reported of each plane, against the stage.

The truth is the stage's: so many waves of defocus per micrometre, by the theory of the
objective. Its sign is not identifiable from single planes and is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tifffile
from training.pictures import DataError

from deepblur_live.profile import Drift, Model, Optics, Profile
from deepblur_live.runtime.build import build_pipeline
from deepblur_live.runtime.calibration import BadFrame, scale
from evaluation.true_optics import TrueOptics

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from evaluation.table import Row

__all__ = ["STACKS", "TOLERANCE", "Agreement", "Stack", "agreement", "control", "plane"]

# A trusted plane is confidently wrong if its defocus is further from the stage's, in
# waves rms: as large an error as a change that raises an alarm.
TOLERANCE = Drift().alarm
# Side of the windows of the control's spectra, and its frequencies: cycles per pixel,
# and share of the OTF's cut-off.
_WINDOW = 64
_LOWEST, _HIGHEST = 0.035, 0.9
# Power of a bin over the noise's from which it is used, and how many are needed; least
# |OTF|², where nulls end; size of a residual from which it counts less.
_LEAST_POWER, _LEAST_BINS, _NULL, _ROBUST = 2.0, 30, 3e-4, 0.15
_FURTHEST_UM, _GRID_UM = 2.0, 0.02


@dataclass(frozen=True)
class Stack:
    """A through-focus stack.

    Parameters
    ----------
    file
        In the ``real`` folder of the data.
    optics
        The objective and camera, as documented or assumed.
    spacing_um
        Between planes.
    focus
        Number of the plane at z = 0; z grows with the numbers, or against them if
        `downwards`.
    near_um
        The planes that the goals are about lie within this distance from focus.
    bead_diameter_nm
        Of a bead slide; it is also evaluated with that size given.
    """

    file: str
    optics: Optics
    spacing_um: float
    focus: int
    downwards: bool
    near_um: float
    bead_diameter_nm: float | None = None

    def read(self, data: Path) -> NDArray[np.generic]:
        """Return the planes (Z, H, W) from a data folder."""
        path = data / "real" / self.file
        if not path.is_file():
            raise DataError(f"{path}: not there; it is one of the real stacks")
        planes: NDArray[np.generic] = tifffile.imread(path)
        return planes

    def z_um(self, planes: int) -> NDArray[np.float64]:
        """Return each plane's distance (Z,) from the focus, by the stage."""
        steps = np.arange(planes) - self.focus
        z: NDArray[np.float64] = self.spacing_um * (-steps if self.downwards else steps)
        return z

    @cached_property
    def theory(self) -> TrueOptics:
        """The optics by which the stage's truth is computed."""
        given = self.optics
        return TrueOptics(
            given.numerical_aperture,
            given.wavelength_nm,
            given.refractive_index,
            given.pixel_size_nm,
        )

    def profile(self, model: str, bead_size: bool) -> Profile:
        """Return the rig, with the size of the beads given or not."""
        diameter = self.bead_diameter_nm if bead_size else None
        settings = Model(name=model, device="cpu", threads=1, bead_diameter_nm=diameter)
        return Profile(optics=self.optics, model=settings)


STACKS = {
    "beads": Stack(
        "beads_na095_z300nm.tif",
        Optics(
            numerical_aperture=0.95,
            wavelength_nm=520.0,
            refractive_index=1.0,
            pixel_size_nm=108.0,
        ),
        spacing_um=0.3,
        focus=17,
        downwards=False,
        near_um=0.6,
        bead_diameter_nm=200.0,
    ),
    "cells": Stack(
        "mitochondria_z50nm.tif",
        Optics(
            numerical_aperture=1.1,
            wavelength_nm=520.0,
            refractive_index=1.33,
            pixel_size_nm=108.0,
        ),
        spacing_um=0.05,
        focus=19,
        downwards=True,
        near_um=1.0,
    ),
}
"""The real stacks by the name of their table."""


def plane(pixels: NDArray[np.generic], z_um: float, stage: float, rig: Profile) -> Row:
    """Return what the program reports of one plane, as an independent frame.

    Parameters
    ----------
    pixels
        (H, W) grey values.
    z_um, stage
        The plane's distance from focus, in µm, and as defocus in waves rms.
    rig
        The program's profile.
    """
    row: Row = {"z_um": round(z_um, 3), "stage": stage}
    pipeline = build_pipeline(rig, asynchronous=False)
    try:
        image = scale(pixels, cutoff=pipeline.family.cutoff).image
        pipeline.identifier.observe(image, 0.0)
        estimate = pipeline.identifier.estimate(image)
    except BadFrame as error:
        return row | {"answered": False, "wrong": False, "reason": str(error)}
    finally:
        pipeline.close()
    defocus = list(pipeline.family.noll).index(4)
    found = abs(float(estimate.coefficients[defocus]))
    return row | {
        "found": found,
        "sigma": float(estimate.covariance[defocus, defocus]) ** 0.5,
        "answered": estimate.trusted,
        "wrong": estimate.trusted and abs(found - stage) > TOLERANCE,
        "misfit": estimate.quality,
        "reason": estimate.reason,
        "coefficients": [float(c) for c in estimate.coefficients],
    }


# The control: the ratio of two planes' spectra, in which the specimen cancels.


def _spectrum(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the power spectrum (W, W) of a frame: Hann windows, half overlapping."""
    taper = np.hanning(_WINDOW + 1)[:_WINDOW]
    taper = taper[:, None] * taper
    side = (_WINDOW, _WINDOW)
    step = _WINDOW // 2
    cut = np.lib.stride_tricks.sliding_window_view(image, side)[::step, ::step]
    cut = cut - cut.mean((-2, -1), keepdims=True)
    power: NDArray[np.float64] = (np.abs(np.fft.fft2(cut * taper)) ** 2).mean((0, 1))
    return power


def control(
    planes: NDArray[np.generic], z_um: NDArray[np.float64], optics: TrueOptics
) -> list[Row]:
    """Return the defocus of each plane (Z, H, W), from its spectrum over another's.

    The other is the plane at z = 0. Fitted are the defocus and the brightness alone, so
    it is a control and no identification: it knows that plane to be in focus, and every
    change to be defocus. Planes further away than 2 µm are left out: their PSF exceeds
    the spectrum's windows.
    """
    f = np.fft.fftfreq(_WINDOW)
    radius = np.hypot(f[:, None], f)
    cutoff = 2 * optics.numerical_aperture * optics.pixel_size_nm / optics.wavelength_nm
    grid = np.arange(0, _FURTHEST_UM, _GRID_UM)
    transfer = []
    for z in grid:
        psf = optics.psf({}, z, _WINDOW // 2)[:_WINDOW, :_WINDOW]
        transfer.append(np.abs(np.fft.fft2(psf)) ** 2 + _NULL)
    spectra = [_spectrum(image.astype(np.float64)) for image in planes]
    floors = [float(np.median(s[radius > 1.04 * cutoff])) for s in spectra]
    focus = int(np.abs(z_um).argmin())
    signal = spectra[focus] - floors[focus]
    used = (radius > _LOWEST) & (radius < _HIGHEST * min(cutoff, 0.5))
    used &= spectra[focus] > _LEAST_POWER * floors[focus]
    rows = []
    for z, spectrum, floor in zip(z_um, spectra, floors, strict=True):
        stage = abs(float(z)) * optics.waves_per_um
        row: Row = {"z_um": round(float(z), 3), "stage": stage, "wrong": False}
        bright = used & (spectrum > _LEAST_POWER * floor)
        row["answered"] = bool(abs(z) <= _FURTHEST_UM and bright.sum() >= _LEAST_BINS)
        if row["answered"]:
            costs = []
            for there in transfer:
                ratio = there / transfer[0] * signal
                gain = np.median((spectrum - floor)[bright] / ratio[bright])
                off = np.log(spectrum[used] / (gain * ratio[used] + floor))
                # Robust: a few bins hold all the light of a periodic structure.
                costs.append(np.sqrt(1 + (off / _ROBUST) ** 2).mean())
            row["found"] = float(grid[int(np.argmin(costs))]) * optics.waves_per_um
            row["wrong"] = abs(row["found"] - stage) > TOLERANCE
        rows.append(row)
    return rows


class Agreement(NamedTuple):
    """How found defocus follows the stage's, over the planes that were answered.

    Parameters
    ----------
    planes, answered, wrong
        Numbers of planes; the last counts those beyond `TOLERANCE`.
    correlation, slope, scatter
        Of the line found = slope·stage + constant; the scatter about it in waves rms.
        NaN with fewer than three planes.
    """

    planes: int
    answered: int
    wrong: int
    correlation: float
    slope: float
    scatter: float


def agreement(rows: list[Row], within_um: float = np.inf) -> Agreement:
    """Compare the planes within a distance from focus with the stage."""
    near = [row for row in rows if abs(row["z_um"]) <= within_um + 1e-9]
    known = [row for row in near if row["answered"]]
    wrong = sum(bool(row["wrong"]) for row in known)
    stage = np.array([row["stage"] for row in known])
    found = np.array([row["found"] for row in known])
    if len(known) < 3 or not np.ptp(stage) > 0:
        return Agreement(len(near), len(known), wrong, *([np.nan] * 3))
    slope, constant = np.polyfit(stage, found, 1)
    scatter = float(np.std(found - slope * stage - constant))
    # A constant answer does not correlate with anything.
    varies = np.ptp(found) > 1e-12
    correlation = float(np.corrcoef(stage, found)[0, 1]) if varies else np.nan
    return Agreement(len(near), len(known), wrong, correlation, float(slope), scatter)
