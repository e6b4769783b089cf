"""A pipeline without networks, for worker processes of tests: it knows the truth."""

from __future__ import annotations

import numpy as np

from deepblur_live.acquisition.truth import read_truth
from deepblur_live.blur import Estimate, family_from_profile
from deepblur_live.drift import Tracker
from deepblur_live.identification.whole_frame import WholeFrameSpectrum
from deepblur_live.profile import Profile
from deepblur_live.runtime.calibration import scale
from deepblur_live.runtime.frame import FrameResult, FrameState, SynchronousPipeline
from deepblur_live.runtime.pack import load_manifest

SIGMA = 0.005


class TruthPipeline(SynchronousPipeline):
    """Estimates a share of the true coefficients, with noise; spectra are real.

    The truth is that of the frame's metadata, or in a list by the frame's time: snapped
    frames have none.
    """

    def __init__(self, share: float = 1.0, truths: list | None = None) -> None:
        profile = Profile()
        self.family = family_from_profile(profile)
        errors = load_manifest(profile.model.name)[1].error_model
        self.tracker = Tracker(self.family, errors)
        self.share, self.truths = share, truths
        self.known = None
        self.whole = WholeFrameSpectrum()
        self.rng = np.random.default_rng(0)

    def start_from(self, known):
        self.known = known

    def process(self, frame):
        scaled = scale(frame.pixels, cutoff=self.family.cutoff)
        spectrum = self.whole.reduce(scaled.image).times(scaled.span)
        if self.truths is None:
            truth = read_truth(frame.metadata).coefficients
        else:
            truth = self.truths[round(frame.time) - 1]
        found = self.share * truth + self.rng.normal(0, SIGMA / 2, truth.shape)
        estimate = Estimate(found, SIGMA**2 * np.eye(len(truth)), 0.5)
        if self.known is not None and frame.time >= self.known.time:
            self.tracker.start_from(self.known)
            self.known = None
        return FrameResult(
            frame.info,
            FrameState.DEBLURRED,
            raw=frame.pixels,
            deblurred=frame.pixels.astype(np.float32),
            estimate=estimate,
            track=self.tracker.update(frame.time, estimate),
            spectrum=spectrum,
        )
