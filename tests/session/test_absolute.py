"""Which changes end an accepted sweep, and the text before there is evidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deepblur_live.drift import DriftMonitor, DriftWatch, Gaussian, SpectralMonitor
from deepblur_live.profile import Profile
from deepblur_live.runtime.pack import load_manifest
from deepblur_live.session.absolute import AbsoluteEstimates
from deepblur_live.session.comparability import Comparability
from deepblur_live.session.notifier import Notifier
from deepblur_live.session.sweep_judge import KnownBlur
from deepblur_live.session.verification import (
    NOT_VERIFIED,
    NOT_VERIFIED_BEADS,
    NOT_VERIFIED_RECORDING,
    VerificationState,
)

pytestmark = pytest.mark.usefixtures("no_pictures")

PROFILE = Profile()
ERRORS = load_manifest(PROFILE.model.name)[1].error_model
REPORT = "the stage has moved"


class Rig:
    """Estimates, and what watches their specimen, as a session has them."""

    def __init__(self, family, results, now, start, **more) -> None:
        self._results, self._start = results, start
        notifier = Notifier("rig", (), now)
        self.watch = DriftWatch(
            DriftMonitor(family, PROFILE.drift, ERRORS),
            SpectralMonitor(family.cutoff, PROFILE.drift),
        )
        self.comparability = Comparability(self.watch, notifier, None)
        self.absolute = AbsoluteEstimates(
            family, ERRORS, self.watch, notifier, PROFILE.drift, **more
        )
        self.place = 0

    def __call__(self, n=1, source="live"):
        """Take n results, in which the specimen lies at `place`."""
        for _ in range(n):
            result = self._results(self._start)
            rng = np.random.default_rng(self.place)
            pixels = rng.integers(100, 1000, (64, 64)).astype(np.uint16)
            result = replace(
                result, raw=pixels, info=replace(result.info, source=source)
            )
            self.comparability.update(result.frame)
            self.absolute.update(result)

    def accept(self) -> None:
        blur = Gaussian(0.0, self._start, 1e-4 * np.eye(len(self._start)))
        self.absolute.start_from(KnownBlur(blur, 0.01, True, "12:03"))


@pytest.fixture
def make(family, results, now, start):
    return lambda **more: Rig(family, results, now, start, **more)


@pytest.mark.parametrize("pending", ["nothing", "report", "place", "spectra"])
def test_an_accepted_sweep_survives_changes_before_it(make, pending):
    rig = make()
    rig(12)
    if pending == "report":
        rig.comparability.acquisition.report(REPORT)
    elif pending == "place":
        rig.place = 1
    elif pending == "spectra":
        rig.watch.spectral.specimen_changed(REPORT)
    rig.accept()
    rig(4)
    assert rig.absolute.verification.text == "verified by a focus sweep at 12:03"
    assert rig.watch.known_to == 0.01


@pytest.mark.parametrize("frames", [0, 1, 4])
def test_a_change_after_it_ends_an_accepted_sweep(make, frames):
    rig = make()
    rig(2)
    rig.accept()
    rig(frames)
    rig.comparability.acquisition.report(REPORT)
    rig(4)
    assert rig.absolute.verification.text == NOT_VERIFIED.text
    assert np.isinf(rig.watch.known_to)


def test_a_new_baseline_by_hand_does_not_hide_a_change_of_specimen(make):
    rig = make()
    rig.accept()
    rig(4)
    rig.comparability.acquisition.report(REPORT)
    rig.watch.rebaseline()
    rig(1)
    assert rig.absolute.verification.text == NOT_VERIFIED.text


@pytest.mark.parametrize(
    ("beads", "source", "expected"),
    [
        (False, "live", NOT_VERIFIED),
        (False, "replay", NOT_VERIFIED_RECORDING),
        (True, "live", NOT_VERIFIED_BEADS),
        (True, "replay", NOT_VERIFIED_BEADS),
    ],
)
def test_the_text_before_any_evidence(make, beads, source, expected):
    rig = make(beads=beads)
    rig(1, source)
    assert rig.absolute.verification.text == expected.text
    # Again after a change of specimen.
    rig.absolute.set(VerificationState.CONTRADICTED, "frames say nothing")
    rig(1, source)
    assert rig.watch.unreliable
    rig.comparability.acquisition.report(REPORT)
    rig(1, source)
    assert rig.absolute.verification.text == expected.text
    assert rig.watch.unreliable == ""
