"""Beads as objects: found in a frame and fitted one by one with a shared blur."""

from deepblur_live.identification.beads.alike import equal_spots
from deepblur_live.identification.beads.detect import (
    FEWEST_BEADS,
    Candidate,
    Detection,
    Refusal,
)
from deepblur_live.identification.beads.fit import BeadFit, BeadNoise, fit_beads
from deepblur_live.identification.beads.model import BeadModel, sphere_transfer
from deepblur_live.identification.beads.slide import BeadEstimator, SlideFit

__all__ = [
    "FEWEST_BEADS",
    "BeadEstimator",
    "BeadFit",
    "BeadModel",
    "BeadNoise",
    "Candidate",
    "Detection",
    "Refusal",
    "SlideFit",
    "equal_spots",
    "fit_beads",
    "sphere_transfer",
]
