"""A profile's pipeline: model loaded, best executor chosen, all put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.blur import family_from_profile
from deepblur_live.drift import Tracker
from deepblur_live.identification import BeadIdentifier
from deepblur_live.runtime.best import build_executor
from deepblur_live.runtime.device import choose_device, tune_process
from deepblur_live.runtime.pack import load_pack, preferred_weights
from deepblur_live.runtime.pipeline import DeblurPipeline

if TYPE_CHECKING:
    from deepblur_live.profile import Profile

__all__ = ["build_pipeline"]


def build_pipeline(
    profile: Profile, asynchronous: bool | None = None
) -> DeblurPipeline:
    """Load a profile's model and build its pipeline, in the process that will run it.

    `asynchronous` is as in `DeblurPipeline`.

    Raises
    ------
    PackError
        When the model is missing or altered, or does not support the profile's optics.
    ValueError
        When there is no such family of blurs.
    """
    tune_process(profile.model.threads)
    family = family_from_profile(profile)
    device = choose_device(profile.model.device).device
    weights = preferred_weights(profile.model.deblurring, device)
    pack = load_pack(profile.model.name, weights)
    pack.check(profile.optics)
    errors = pack.manifest.error_model
    executor = build_executor(pack, family, profile.model.device)
    diameter = profile.model.bead_diameter_nm
    # The fit of the spectrum works for any family and any specimen whose own spectrum
    # is known; the network only for the family that it was trained on, and not for
    # beads.
    same = pack.manifest.family == profile.model.family
    trained = same and pack.family.names == family.names and diameter is None
    identifier = BeadIdentifier(
        family,
        errors,
        None if diameter is None else diameter / profile.optics.pixel_size_nm,
        executor.identify if trained else None,
        profile.model.average_s,
        pack.specimen,
        None if diameter is None else profile.optics.pixel_size_nm,
    )
    return DeblurPipeline(
        family,
        identifier,
        Tracker(family, errors, averaging_s=profile.model.average_s),
        executor,
        profile.camera,
        profile.model.identify_every_s,
        asynchronous,
        profile.model.average_frames,
    )
