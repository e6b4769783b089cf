"""Deblur a single frame in this process."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.blur.estimate import Estimate
from deepblur_live.profile import Profile, load_profile
from deepblur_live.runtime.build import (
    build_field_pipeline,
    build_pipeline,
    build_series_pipeline,
)
from deepblur_live.runtime.frame import Frame, FrameState

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from deepblur_live.runtime.frame import FramePipeline

__all__ = ["deblur"]


def deblur(
    frame: ArrayLike, profile: Profile | Path | str
) -> tuple[NDArray[np.float32], Estimate]:
    """Identify the blur of one frame and remove it.

    Each call loads the model and identifies the blur from this frame alone. For a
    series, a `LiveSession` is faster and, because it averages over time, more accurate.

    Parameters
    ----------
    frame
        (H, W), any real dtype: one raw frame of the camera. It is not modified.
    profile
        The microscope, or the TOML file that describes it.

    Returns
    -------
    sharp
        (H, W) float32 in the units of `frame`. If ``estimate.trusted`` is False, the
        unchanged frame: without a reliable estimate it is not deblurred.
    estimate
        The coefficients of the blur, their covariance, and the reason when they cannot
        be trusted.

    Raises
    ------
    ProfileError
        The file does not hold a valid profile.
    PackError
        The model is missing or altered, or does not cover the profile's optics.
    ValueError
        `frame` is not one frame, or is unusable (constant, saturated, not finite ...);
        the text says why.

    Examples
    --------
    >>> sharp, estimate = deblur(frame, "rig.toml")  # doctest: +SKIP
    >>> if not estimate.trusted:  # doctest: +SKIP
    ...     print(estimate.reason)
    """
    pixels = np.asarray(frame)
    if pixels.ndim != 2:
        raise ValueError(
            f"deblur takes one frame of shape (H, W), not an array of shape "
            f"{pixels.shape}: give one frame of a stack, or use a LiveSession"
        )
    if not isinstance(profile, Profile):
        profile = load_profile(profile)
    # A pipeline sets torch's number of threads: restore the caller's at the end.
    threads = torch.get_num_threads()
    try:
        model = profile.model
        pipeline: FramePipeline
        if model.calibration is not None:
            # This pipeline locates the frame within the calibrated field.
            pipeline = build_series_pipeline(profile, asynchronous=False)
        elif model.blur == "field":
            pipeline = build_field_pipeline(profile, asynchronous=False)
        else:
            pipeline = build_pipeline(profile, asynchronous=False)
        try:
            result = pipeline.submit(Frame(pixels, 0, 0.0, "deblur")).result()
        finally:
            pipeline.close()
    finally:
        torch.set_num_threads(threads)
    estimate = result.estimate
    if estimate is None and result.track is not None:
        # A fixed PSF: nothing is identified.
        track = result.track
        estimate = Estimate(track.coefficients, track.covariance, math.nan)
    if estimate is None:
        raise ValueError(f"the frame cannot be deblurred: {result.reason}")
    if result.state is FrameState.DEBLURRED and result.deblurred is not None:
        return result.deblurred, estimate
    # Identified, but the deblurred frame failed its checks.
    if estimate.trusted:
        estimate = replace(estimate, trusted=False, reason=result.reason)
    with np.errstate(over="ignore"):
        raw = pixels.astype(np.float32)
    if not np.isfinite(raw).all():
        raise ValueError("the frame cannot be deblurred: its values exceed float32")
    return raw, estimate
