"""A focus sweep from camera frames to γ: scaling, checks, identification."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deepblur_live.calibration.rig import rig_family
from deepblur_live.identification import SweepError, identify_sweep
from deepblur_live.runtime.calibration import BadFrame, scale
from deepblur_live.runtime.pack import load_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily
    from deepblur_live.identification import SweepResult
    from deepblur_live.profile import Profile

__all__ = ["best_planes", "scaled_planes", "sweep_frames"]

# Steps between planes chosen from a long stack: this share of the prior's scale, at
# which neighbouring planes differ clearly and still have much in common.
_STEP = 1.2
# A stack of up to this many planes is used as a whole.
_FEW = 7
# Share of clipped pixels above which a plane counts as saturated: less than for one
# frame, as clipping changes with the focus.
_MAX_SATURATED = 1e-3


def sweep_frames(
    profile: Profile,
    frames: Sequence[NDArray[Any]],
    z_um: NDArray[np.float64],
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[BlurFamily, SweepResult]:
    """Return the family and the result of a sweep.

    Parameters
    ----------
    profile
        The rig.
    frames
        K frames (H, W) of one specimen, in grey values, at one exposure.
    z_um
        (K,) positions of the stage, µm; the result is stated for position 0, and
        `SweepResult.refocus_um` is a move of the stage.
    progress
        Called with the share that is done, 0 to 1.

    Raises
    ------
    SweepError
        A frame is saturated or not usable, or the frames cannot be used as a sweep.
    ValueError
        The profile's family cannot be swept.
    """
    # The planes of one specimen determine one PSF.
    family = rig_family(profile.uniform)
    planes = scaled_planes(family, frames, z_um)
    errors = load_manifest(profile.model.name)[1].error_model
    # The family's focus moves deeper with z; the stage may count the other way.
    sign = 1 if profile.stage.deeper == "larger" else -1
    result = identify_sweep(family, planes, sign * z_um, errors, progress)
    return family, replace(result, refocus_um=sign * result.refocus_um)


def scaled_planes(
    family: BlurFamily, frames: Sequence[NDArray[Any]], z_um: NDArray[np.float64]
) -> torch.Tensor:
    """Return camera frames (K, H, W) in one linear unit, pixels and lines repaired.

    Parameters
    ----------
    family
        The blurs.
    frames, z_um
        As in `sweep_frames`.

    Raises
    ------
    SweepError
        A frame is saturated or not usable, or they differ in size.
    """
    scaled = []
    for number, pixels in enumerate(frames, 1):
        where = f"plane {number} of {len(frames)} ({1000 * z_um[number - 1]:+.0f} nm)"
        try:
            one = scale(pixels, cutoff=family.cutoff)
        except BadFrame as error:
            raise SweepError(f"{where}: {error}") from error
        clipped = (
            float(np.mean(pixels == np.iinfo(pixels.dtype).max))
            if (pixels.dtype.kind == "u")
            else 0.0
        )
        if clipped > _MAX_SATURATED:
            raise SweepError(
                f"{where}: saturated ({clipped:.1%} of the pixels): reduce the exposure"
            )
        scaled.append(one)
    if len({one.image.shape for one in scaled}) > 1:
        raise SweepError("the planes differ in size")
    # In one unit, so that the planes' brightness can be compared.
    span = max(one.span for one in scaled)
    return torch.stack([(one.image * one.span + one.low) / span for one in scaled])


def best_planes(
    contrast: Sequence[float], z_step_um: float, per_um: float
) -> tuple[list[int], int]:
    """Return which planes of a stack to use, and which of them is z = 0.

    All planes of up to seven; of more, the sharpest and one to each side of it.

    Parameters
    ----------
    contrast
        Standard deviation of each plane.
    z_step_um
        Distance between neighbouring planes.
    per_um
        Change of γ per µm, in units of the prior's scale.
    """
    count = len(contrast)
    if count <= _FEW:
        return list(range(count)), count // 2
    stride = max(1, round(_STEP / (per_um * abs(z_step_um))))
    stride = min(stride, (count - 1) // 2)
    sharpest = int(np.argmax(contrast))
    centre = min(max(sharpest, stride), count - 1 - stride)
    return [centre - stride, centre, centre + stride], centre
