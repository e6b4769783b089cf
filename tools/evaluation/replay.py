"""A real stack replayed as a drift in time, through pipeline, tracker and monitor.

The session begins at the focus, where the baseline is made, and then moves away from it
plane by plane, on a simulated clock. A plane is imaged many times, each time with new
noise as strong as its own, so that frames are not copies of one another.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.drift import (
    DriftMonitor,
    DriftState,
    DriftWatch,
    SpectralMonitor,
)
from deepblur_live.identification.whole_frame import WholeFrameSpectrum
from deepblur_live.profile import Drift
from deepblur_live.runtime.build import build_pipeline
from deepblur_live.runtime.calibration import scale
from deepblur_live.runtime.frame import Frame
from deepblur_live.runtime.pack import load_manifest
from deepblur_live.session.comparability import Comparability

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from deepblur_live.drift import TrackState
    from deepblur_live.profile import Profile
    from evaluation.table import Row

__all__ = ["NO_ESTIMATE", "UNCHANGED_UM", "is_monotone", "replay", "reported"]

# Beyond this distance from the focus no plane may be called unchanged.
UNCHANGED_UM = 0.3
NO_ESTIMATE = "no estimate"
# The session is as the default profile's, ten times as fast: memory and batches in
# seconds, points of the baseline, and the seconds it may take at most. A plane is
# imaged for five batches: the charts see a change after three.
_AVERAGE_S, _BATCH_S, _POINTS, _BASELINE_S = 0.5, 3.0, 8, 120
_PLANE_S = 15
# With fewer of its frames identified, a plane counts as not identified.
_LEAST_IDENTIFIED = 0.5


class _WithoutDeblurring:
    """An executor that leaves frames as they are: what takes longest, and is not asked.

    Parameters
    ----------
    executor
        Whose identification is used.
    """

    def __init__(self, executor: Any) -> None:
        self._executor = executor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)

    def deblur(self, image: torch.Tensor, *inputs: object) -> torch.Tensor:
        """Return the image (H, W) itself."""
        return image


@dataclass
class _Events:
    """Keeps the reasons why a baseline was started again."""

    reasons: list[str]

    def event(self, name: str, reason: str) -> None:
        """Record a reason."""
        self.reasons.append(reason)


def _noise(plane: NDArray[np.float64]) -> float:
    """Return the standard deviation of a plane's noise, from its finest differences."""
    fine = plane[:-1, :-1] - plane[1:, :-1] - plane[:-1, 1:] + plane[1:, 1:]
    return float(np.median(np.abs(fine)) / 0.6745 / 2)


class _Session:
    """One session: pipeline, tracker and monitor, on a clock of one frame a second.

    Parameters
    ----------
    profile
        The rig.
    identifies
        Whether the frames are identified; the spectra's monitor does not need it.
    """

    def __init__(self, profile: Profile, identifies: bool) -> None:
        settings = Drift(batch_s=_BATCH_S, baseline_points=_POINTS)
        model = profile.model.model_copy(update={"average_s": _AVERAGE_S})
        profile = profile.model_copy(update={"model": model, "drift": settings})
        self.pipeline = build_pipeline(profile, asynchronous=False)
        executor: Any = _WithoutDeblurring(self.pipeline.executor)
        self.pipeline.executor = executor
        errors = load_manifest(profile.model.name)[1].error_model
        family = self.pipeline.family
        self.monitor = DriftWatch(
            DriftMonitor(family, settings, errors),
            SpectralMonitor(family.cutoff, settings),
        )
        self.restarts: list[str] = []
        notifier: Any = _Events(self.restarts)
        dark = profile.camera.offset_adu
        self._comparability = Comparability(self.monitor, notifier, dark)
        self._noise = np.random.default_rng(0)
        self._frames = 0
        self._identifies, self._window = identifies, WholeFrameSpectrum()

    def expose(self, plane: NDArray[np.float64], sigma: float) -> TrackState | None:
        """Image a plane (H, W); return the track if an estimate was accepted."""
        pixels = plane + sigma * self._noise.standard_normal(plane.shape)
        number = self._frames
        frame = Frame(pixels.astype(np.float32), number, float(number), "replay")
        self._frames += 1
        if not self._identifies:
            scaled = scale(pixels, cutoff=self.pipeline.family.cutoff)
            spectrum = self._window.reduce(scaled.image).times(scaled.span)
            self.monitor.add_spectrum(float(number), spectrum)
            return None
        result = self.pipeline.submit(frame).result()
        if result.spectrum is not None:
            self.monitor.add_spectrum(float(number), result.spectrum)
        if result.estimate is None or result.track is None:
            return None
        self._comparability.update(frame)
        self.monitor.update(result.track)
        return result.track if result.track.accepted else None


def replay(
    planes: NDArray[np.generic],
    z_um: NDArray[np.float64],
    profile: Profile,
    *,
    identifies: bool = True,
) -> list[Row]:
    """Return what the monitor reports in each plane.

    Parameters
    ----------
    planes, z_um
        (Z, H, W) and (Z,), in the order of the session: the first is the baseline's.
    profile
        The rig.
    identifies
        Whether the frames are identified: refused ones are searched again each time.
    """
    session = _Session(profile, identifies)
    rows: list[Row] = []
    for z, plane in zip(z_um, planes.astype(np.float64), strict=True):
        sigma, restarts = _noise(plane), len(session.restarts)
        if not rows:
            for _ in range(_BASELINE_S):
                session.expose(plane, sigma)
                spectral = session.monitor.spectral
                ready = spectral.armed
                if identifies:
                    # A plane without a baseline of spectra by then will not have one.
                    ready = ready or spectral.status.n_baseline in (0, _POINTS)
                    ready = ready and session.monitor.status.baseline is not None
                if ready:
                    break
        tracks = [session.expose(plane, sigma) for _ in range(_PLANE_S)]
        accepted = [track for track in tracks if track is not None]
        status, share = session.monitor.status, len(accepted) / _PLANE_S
        # The spectra need no estimate.
        known = session.monitor.spectral.armed or share >= _LEAST_IDENTIFIED
        state = str(status.state) if known else NO_ESTIMATE
        unchanged = state == DriftState.OK and abs(z) > UNCHANGED_UM + 1e-9
        row: Row = {"z_um": round(float(z), 3), "state": state, "identified": share}
        row |= {"unchanged": bool(unchanged), "restarts": session.restarts[restarts:]}
        spectral = session.monitor.spectral.status
        if np.isfinite(spectral.strength):
            row |= {"strength": spectral.strength, "strength_sigma": spectral.sigma}
        if np.isfinite(status.change):
            row |= {"change": status.change, "sigma": status.change_sigma}
        if accepted:
            row["coefficients"] = [float(c) for c in accepted[-1].coefficients]
        rows.append(row)
    session.pipeline.close()
    return rows


def reported(row: Row) -> tuple[float, float, str] | None:
    """Return the change that the charts stand on, its deviation and its unit.

    The strength of the spectra's change, in nepers; without a baseline of spectra the
    change of the estimates, in waves. None where there is neither.
    """
    if row["state"] == NO_ESTIMATE:
        return None
    if "strength" in row:
        return row["strength"], row["strength_sigma"], "Np"
    if "change" in row:
        return row["change"], row["sigma"], "waves"
    return None


def is_monotone(rows: list[Row]) -> bool:
    """Return whether the change grows from plane to plane, to within its deviation."""
    known = [found for row in rows if (found := reported(row)) is not None]
    return len(known) > 2 and all(
        later >= before - np.hypot(deviation, last)
        for (before, last, _), (later, deviation, _) in itertools.pairwise(known)
    )
