"""Fading light is detected; flickering light is not."""

from __future__ import annotations

import numpy as np
import pytest

from deepblur_live.drift import Brightness


def restarts(lights, armed=True, every=1.0):
    """Return the times at which a new baseline was requested, and why."""
    brightness = Brightness()
    brightness.notice(0.0, lights[0], armed=False)
    found = []
    for k, light in enumerate(lights):
        if reason := brightness.notice(k * every, light, armed):
            found.append((k * every, reason))
    return found


def test_bleaching_is_detected_at_each_factor_of_1_5():
    times = np.arange(8 * 3600)
    found = restarts(100 * 0.25 ** (times / times[-1]))
    # A factor of 4 contains three of 1.5.
    assert [reason for _, reason in found] == ["the frames have become dimmer"] * 3
    expected = np.log(1.5) / np.log(4) * times[-1]
    assert np.diff([0, *(time for time, _ in found)]) == pytest.approx(
        expected, abs=120
    )


def test_a_brighter_lamp_is_detected_once():
    ((time, reason),) = restarts([100.0] * 300 + [200.0] * 300)
    assert 300 <= time < 360
    assert reason == "the frames have become brighter"


def test_flicker_is_ignored():
    rng = np.random.default_rng(0)
    lights = 100 * np.exp(rng.normal(0, 0.3, 3600))
    lights[1000] = lights[2000] = 10_000
    assert restarts(lights.tolist()) == []


def test_slow_frames_are_not_averaged():
    assert len(restarts([100, 100, 50, 50], every=600.0)) == 1


def test_light_may_change_until_there_is_a_baseline():
    assert restarts((100 * 0.5 ** (np.arange(1000) / 100)).tolist(), armed=False) == []


@pytest.mark.parametrize("nothing", [0.0, -3.0, np.nan, np.inf])
def test_frames_without_light_are_ignored(nothing):
    assert restarts([100.0] * 10 + [nothing] * 500 + [100.0] * 10) == []
