"""A profile's pipeline: its model loaded, the best executor found, all put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.drift import Tracker
from deepblur_live.identification import Identifier, SpecimenSpectrum
from deepblur_live.optics import ZernikeFamily
from deepblur_live.runtime.best import build_executor
from deepblur_live.runtime.device import tune_process
from deepblur_live.runtime.pack import load_pack
from deepblur_live.runtime.pipeline import DeblurPipeline

if TYPE_CHECKING:
    from deepblur_live.profile import Profile

__all__ = ["build_pipeline"]


def build_pipeline(profile: Profile, beside: bool | None = None) -> DeblurPipeline:
    """Load a profile's model and build its pipeline, in the process that will run it.

    `beside` is as in `DeblurPipeline`.

    Raises
    ------
    PackError
        When the model is missing or altered, or does not serve the profile's optics.
    """
    tune_process(profile.model.threads)
    family = ZernikeFamily.from_optics(profile.optics)
    pack = load_pack(profile.model.name)
    pack.check(family)
    executor = build_executor(pack, family, profile.model.device)
    # The spectrum identifies any list of modes in any specimen whose own spectrum is
    # known; the network only the modes and the kinds of specimen that it learned.
    known = tuple(pack.manifest.noll) == family.noll
    specimen = pack.specimen
    if (diameter := profile.model.bead_diameter_nm) is not None:
        known = False
        specimen = SpecimenSpectrum.beads(diameter / family.pixel_size_nm)
    identifier = Identifier(
        family,
        executor.identify if known else None,
        profile.model.average_s,
        specimen,
    )
    return DeblurPipeline(
        family,
        identifier,
        Tracker(family, averaging_s=profile.model.average_s),
        executor,
        profile.camera,
        profile.model.identify_every_s,
        beside,
    )
