"""A new baseline where estimates cannot be compared, with its reason."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from deepblur_live.acquisition.specimen import load_specimen
from deepblur_live.drift import DriftWatch
from deepblur_live.profile import Camera, Drift, Profile
from deepblur_live.runtime.frame import Frame
from deepblur_live.session import LiveSession
from deepblur_live.session.comparability import mean_light

SPECIMEN = load_specimen()

pytestmark = pytest.mark.usefixtures("quick_monitor", "no_pictures")


class Fed:
    """A session that is given frames of the specimen."""

    def __init__(self, session, listener, results) -> None:
        self.session, self._listener, self._results = session, listener, results
        self._rng = np.random.default_rng(0)

    def __call__(self, n, *, light=1.0, place=100, every=1.0, **more):
        for _ in range(n):
            result = self._results(**more)
            here = 100 + 500 * light * SPECIMEN[place : place + 128, :128]
            pixels = (here + self._rng.normal(0, 5, here.shape)).astype(np.uint16)
            info = replace(result.info, time=result.info.number * every)
            self._listener.emit(replace(result, info=info, raw=pixels))

    @property
    def events(self):
        assert self.session.flush()
        lines = (self.session.folder / "events.jsonl").read_text("utf-8").splitlines()
        events = [json.loads(line) for line in lines]
        kinds = ("specimenChanged", "brightnessChanged", "verificationChanged")
        return [(e["event"], e["reason"]) for e in events if e["event"] in kinds]


@pytest.fixture
def fed(family, listener, results, clock, now, tmp_path):
    profile = Profile(drift=Drift(baseline_points=12), camera=Camera(offset_adu=100.0))
    session = LiveSession(profile, family, listener, tmp_path, clock=clock, now=now)
    yield Fed(session, listener, results)
    session.close()


def test_a_specimen_that_bleaches(fed):
    fed(20)
    assert fed.session.status.baseline is not None
    fed(100, light=0.9)
    assert fed.events == []
    fed(200, light=0.5)
    assert fed.events == [("brightnessChanged", "the frames have become dimmer")]
    assert fed.session.alerts == ()


def test_estimates_that_the_spectra_contradict_are_recorded_once(fed, monkeypatch):
    fed(3)
    reason = "by the spectra the picture has become softer by 14 %"
    contradicted = replace(fed.session.monitor.status, contradiction=reason)
    with monkeypatch.context() as patch:
        patch.setattr(DriftWatch, "status", property(lambda watch: contradicted))
        fed(3)
        assert fed.session.status.contradiction == reason
    assert fed.events == [("verificationChanged", reason)]
    assert fed.session.verification.text.startswith("not reliable on this specimen")


def test_the_monitor_knows_how_much_light_has_gone(fed):
    fed(20)
    fed(300, light=0.75)
    assert fed.session.monitor.absolute.light == pytest.approx(np.log(0.75), abs=0.02)
    fed.session.specimen_changed("the stage has moved")
    fed(1, place=300, light=0.75)
    assert fed.session.monitor.absolute.light == 0


def test_a_move_that_is_not_reported(fed, start):
    fed(20)
    fed(20, place=300, coefficients=start + 0.1)
    assert fed.events == [("specimenChanged", "the frames show another place")]
    assert fed.session.alerts == ()


def test_dark_frames_are_not_another_place(fed):
    fed(20)
    for _ in range(5):
        fed(3, light=0.0, trusted=False, accepted=False)
        fed(10)
    assert fed.events == []
    assert fed.session.status.baseline is not None


def test_a_reported_move_is_recorded_once(fed):
    fed(20)
    fed.session.specimen_changed("the stage has moved")
    fed(20, place=300, light=0.3)
    assert fed.events == [("specimenChanged", "the stage has moved")]


def test_light_is_that_above_the_dark():
    pixels = np.full((64, 64), 150, np.uint16)
    pixels[:16] = 101
    pixels[16:32] = 199
    made = Frame(pixels, 0, 0.0, "made up")
    assert mean_light(made, 100.0) == pytest.approx(50)
    # The dim quarter, where the dark is not known.
    assert mean_light(made, None) == pytest.approx(49)


@pytest.mark.parametrize("background", [0.0, 300.0, 1000.0])
def test_light_is_proportional_to_the_lamp_whatever_offset_and_background(background):
    rng = np.random.default_rng(1)
    specimen = rng.gamma(0.5, 1000, (256, 256)) + background
    lights = []
    for lamp in (1.0, 0.4):
        pixels = (100 + rng.poisson(lamp * specimen)).astype(np.uint16)
        lights.append(mean_light(Frame(pixels, 0, 0.0, "made up"), None))
    assert lights[1] == pytest.approx(0.4 * lights[0], rel=0.05)


def test_small_and_large_frames_are_averaged_alike():
    rng = np.random.default_rng(2)
    for side in (8, 64, 2048):
        pixels = rng.integers(100, 1100, (side, side), dtype=np.uint16)
        light = mean_light(Frame(pixels, 0, 0.0, "made up"), 100.0)
        assert light == pytest.approx(500, abs=130)
