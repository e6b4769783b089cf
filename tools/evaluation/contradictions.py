"""How many wrong estimates the spectra contradict, and how many right ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.signal import fftconvolve
from scipy.special import chdtri

from deepblur_live.blur import ResolvedBy, nearest, orbit
from deepblur_live.drift.contradiction import (
    Measured,
    contradiction,
    predicted_change,
)
from deepblur_live.drift.spectral_change import MeanSpectrum, SpectralComparison
from deepblur_live.identification.whole_frame import WholeFrameSpectrum
from deepblur_live.profile import Drift, Model, Optics, Profile
from deepblur_live.runtime.build import build_pipeline
from deepblur_live.runtime.calibration import BadFrame, scale
from evaluation.held_out import scene
from evaluation.stacks import TOLERANCE
from evaluation.true_optics import TrueOptics

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from deepblur_live.blur import Estimate
    from evaluation.stacks import Stack
    from evaluation.table import Row

    Image = NDArray[np.float64]

__all__ = ["simulated_contradictions", "stack_contradictions"]

_MODES, _HALF, _FRAMES, _SIGMA = range(4, 12), 31, 10, 0.01
_CHANGES = (0.0, 0.036, 0.072, 0.15)
# Sixteen shapes, one in a thousand.
_LIMIT = float(chdtri(16, 1e-3))


class _Rig:
    """Identifies frames, each on its own, and keeps a window on the specimen."""

    def __init__(self, profile: Profile) -> None:
        self.pipeline = build_pipeline(profile, asynchronous=False)
        self.family = self.pipeline.family
        self.window = WholeFrameSpectrum()

    def estimate(self, pixels: NDArray[Any]) -> Estimate | None:
        """Return the estimate of one frame; None if it is not trusted."""
        try:
            image = scale(pixels, cutoff=self.family.cutoff).image
        except BadFrame:
            return None
        self.pipeline.identifier.reset()
        self.pipeline.identifier.observe(image, 0.0)
        estimate = self.pipeline.identifier.estimate(image)
        return estimate if estimate.trusted else None

    def spectrum(self, frames: list[Image]) -> MeanSpectrum:
        """Return the mean spectrum of frames of one specimen."""
        seen = [self.window.reduce(torch.from_numpy(f).float()) for f in frames]
        power = np.mean([one.power for one in seen], axis=0, dtype=np.float64)
        return MeanSpectrum(power, len(frames), seen[0].fine)

    def verdict(
        self, comparison: SpectralComparison, now: MeanSpectrum, *pair: Estimate
    ) -> str:
        """Return how two estimates contradict the spectra."""
        change = comparison.compare(now)
        evident = change.chi_squared > _LIMIT
        measured = Measured(change.shapes, change.covariance, comparison, evident, 0.0)
        family = self.family.coarse()
        before, after = (np.asarray(one.coefficients, np.float64) for one in pair)
        predicted, slopes = predicted_change(family, comparison, before, after)
        uncertainty = slopes @ pair[1].covariance @ slopes.T
        least = 2 * Drift().warn_contrast
        return contradiction(measured, predicted, uncertainty, least)


def simulated_contradictions(path: Path, seed: int) -> list[Row]:
    """Return the verdict on pairs of estimates of one picture.

    A pair is wrong if the wavefront of either estimate is off by more than an alarm.
    """
    rng = np.random.default_rng(seed)
    picture = scene(path, 512 + 2 * _HALF).numpy().astype(float)
    optics = TrueOptics(pixel_integration=True, aplanatic=True)
    given = Optics(
        numerical_aperture=optics.numerical_aperture,
        wavelength_nm=optics.wavelength_nm,
        refractive_index=optics.refractive_index,
        pixel_size_nm=optics.pixel_size_nm,
    )
    rig = _Rig(Profile(optics=given, model=Model(device="cpu", threads=1)))
    start = rng.uniform(-0.06, 0.06, len(_MODES))
    along = rng.standard_normal(len(_MODES))
    along /= np.linalg.norm(along)
    comparison, first = None, None
    equivalents = orbit(rig.family, ResolvedBy.NEVER)
    rows: list[Row] = []
    for change in (0.0, *_CHANGES):
        truth = start + change * along
        psf = optics.psf(dict(zip(_MODES, truth.tolist(), strict=True)))
        image = fftconvolve(picture, psf, "valid")
        frames = [
            image + _SIGMA * rng.standard_normal(image.shape) for _ in range(_FRAMES)
        ]
        now, estimate = rig.spectrum(frames), rig.estimate(frames[0])
        if comparison is None:
            try:
                comparison = SpectralComparison(now, rig.family.cutoff)
            except ValueError:
                break
            first, before = estimate, truth
            continue
        if first is None or estimate is None:
            continue
        off = [
            float(
                np.linalg.norm(
                    nearest(true, one.coefficients, equivalents) - one.coefficients
                )
            )
            for true, one in ((before, first), (truth, estimate))
        ]
        found = rig.verdict(comparison, now, first, estimate)
        rows.append(
            {"change": change, "wrong": bool(max(off) > TOLERANCE), "found": found}
        )
    rig.pipeline.close()
    return rows


def stack_contradictions(
    stack: Stack, planes: NDArray[Any], every: int = 1
) -> list[Row]:
    """Return the verdict on every n-th plane near focus, against the plane in focus.

    A pair is wrong if the defocus of either is as far from the stage's.
    """
    rows: list[Row] = []
    z_um = stack.z_um(len(planes))
    near = np.flatnonzero(np.abs(z_um) <= 1.0 + 1e-9)
    near = near[(near - stack.focus) % every == 0]
    for side in (1, -1):
        rig, comparison, first = (
            _Rig(stack.profile(Model().name, bead_size=False)),
            None,
            None,
        )
        order = [stack.focus, *(near[near > stack.focus])]
        if side < 0:
            order = [stack.focus, *(near[near < stack.focus][::-1])]
        for k in order:
            pixels = planes[k]
            now, estimate = (
                rig.spectrum([pixels.astype(np.float64)]),
                rig.estimate(pixels),
            )
            if comparison is None:
                comparison = SpectralComparison(now, rig.family.cutoff)
                first = estimate
                continue
            if first is None or estimate is None:
                continue
            defocus = list(rig.pipeline.family.noll).index(4)
            before, after = (
                abs(float(one.coefficients[defocus])) for one in (first, estimate)
            )
            stage = abs(z_um[k]) * stack.theory.waves_per_um
            found = rig.verdict(comparison, now, first, estimate)
            wrong = bool(max(before, abs(after - stage)) > TOLERANCE)
            rows.append(
                {"z_um": float(z_um[k]), "stage": stage, "defocus": after}
                | {"wrong": wrong, "found": found}
            )
        rig.pipeline.close()
    return sorted(rows, key=lambda row: row["z_um"])
