"""The check of one-frame estimates by a step of the focus: from camera frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deepblur_live.blur import Estimate, focus_direction
from deepblur_live.calibration.rig import rig_family
from deepblur_live.identification import check_focus
from deepblur_live.identification.sweep.checks import (
    check_detail,
    check_stage,
    check_steps,
    spectral_changes,
)
from deepblur_live.identification.sweep.problem import sweep_problem
from deepblur_live.runtime.build import build_pipeline
from deepblur_live.runtime.focus_sweep import scaled_planes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily
    from deepblur_live.identification import FocusCheck
    from deepblur_live.profile import Profile

__all__ = ["check_frames"]

# Bins of the spectra by which the frames are compared.
_BINS = 64
# Ratio of the change of the spectra between two frames at one position to that of a
# step, above which something other than the focus has changed (as by half a step).
_DRIFT = 0.25


def check_frames(
    profile: Profile,
    frames: Sequence[NDArray[Any]],
    z_um: NDArray[np.float64],
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[BlurFamily, FocusCheck]:
    """Return the family, and whether estimates of single frames follow the focus.

    Each frame is identified separately, as in a session, on the CPU; this takes about
    two seconds per frame.

    Parameters
    ----------
    profile
        The rig.
    frames
        K frames (H, W) of one specimen, in grey values, at one exposure.
    z_um
        (K,) positions of the stage, µm, 3 to 7 different ones. If the last is equal
        to the first, these two frames show whether anything has drifted.
    progress
        Called with the share that is done, 0 to 1.

    Raises
    ------
    SweepError
        A frame is saturated or not usable, the positions do not suit a check, or all
        frames are equally sharp.
    PackError
        The model is missing or altered, or does not support the profile's optics.
    ValueError
        The profile's family cannot be swept, or the frames are too small.
    """
    family = rig_family(profile.uniform)
    z_um = np.asarray(z_um, dtype=np.float64)
    steady = _steady(family, scaled_planes(family, frames, z_um), z_um)
    estimates = []
    for share, estimate in _estimates(profile, frames):
        estimates.append(estimate)
        progress(share)
    deeper = 1 if profile.stage.deeper == "larger" else -1
    return family, check_focus(family, estimates, z_um, deeper=deeper, steady=steady)


def _steady(
    family: BlurFamily, planes: torch.Tensor, z_um: NDArray[np.float64]
) -> bool:
    """Return whether nothing but the focus has changed; refuse unsuitable positions."""
    per_um = focus_direction(family)
    # The same position may be reported a few nanometres off.
    same_place = abs(z_um[-1] - z_um[0]) < 0.1 * np.ptp(z_um)
    check_steps(np.sort(z_um[: len(z_um) - same_place]), per_um, family.prior.scale)
    problem = sweep_problem(
        family, planes, torch.from_numpy(z_um), torch.from_numpy(per_um), _BINS
    )
    check_detail(problem)
    check_stage(problem)
    changes = spectral_changes(problem, 0)
    return not same_place or bool(changes[-1] - 1 < _DRIFT * (changes.max() - 1))


def _estimates(
    profile: Profile, frames: Sequence[NDArray[Any]]
) -> Iterator[tuple[float, Estimate]]:
    """Yield the share that is done and the estimate of each frame."""
    # The card, if there is one, is the session's.
    model = profile.model.model_copy(update={"device": "cpu"})
    # A pipeline sets torch's number of threads: restore the caller's at the end.
    threads = torch.get_num_threads()
    pipeline = None
    try:
        pipeline = build_pipeline(profile.model_copy(update={"model": model}), False)
        for number, pixels in enumerate(frames, 1):
            yield number / len(frames), pipeline.identify_alone(pixels)
    finally:
        if pipeline is not None:
            pipeline.close()
        torch.set_num_threads(threads)
