"""Light that goes is noticed, light that flickers or is moved about is not."""

from __future__ import annotations

import numpy as np
import pytest

from deepblur_live.drift import Brightness


def told(lights, armed=True, every=1.0):
    """Return the seconds at which a baseline was put aside, and why."""
    brightness = Brightness()
    brightness.notice(0.0, lights[0], armed=False)
    found = []
    for k, light in enumerate(lights):
        if reason := brightness.notice(k * every, light, armed):
            found.append((k * every, reason))
    return found


def test_bleaching_is_noticed_each_time_it_is_half_as_much_again():
    times = np.arange(8 * 3600)
    found = told(100 * 0.25 ** (times / times[-1]))
    # Half as much again goes three times into four.
    assert [reason for _, reason in found] == ["the frames have become dimmer"] * 3
    expected = np.log(1.5) / np.log(4) * times[-1]
    assert np.diff([0, *(time for time, _ in found)]) == pytest.approx(
        expected, abs=120
    )


def test_a_brighter_lamp_is_noticed_once():
    ((time, reason),) = told([100.0] * 300 + [200.0] * 300)
    assert 300 <= time < 360
    assert reason == "the frames have become brighter"


def test_flicker_is_not():
    rng = np.random.default_rng(0)
    lights = 100 * np.exp(rng.normal(0, 0.3, 3600))
    lights[1000] = lights[2000] = 10_000
    assert told(lights.tolist()) == []


def test_slow_frames_are_compared_as_they_are():
    assert len(told([100, 100, 50, 50], every=600.0)) == 1


def test_until_there_is_a_baseline_the_light_may_go():
    assert told((100 * 0.5 ** (np.arange(1000) / 100)).tolist(), armed=False) == []


@pytest.mark.parametrize("nothing", [0.0, -3.0, np.nan, np.inf])
def test_frames_without_light_say_nothing(nothing):
    assert told([100.0] * 10 + [nothing] * 500 + [100.0] * 10) == []
