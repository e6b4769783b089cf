"""The display levels follow the frames and ignore outliers."""

from __future__ import annotations

import numpy as np
import pytest

from deepblur_live.gui.contrast import AutoContrast


def ramp(low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, 100_000).reshape(250, 400)


def test_tails_are_ignored() -> None:
    image = ramp(100, 200)
    flat = image.reshape(-1)
    flat[:50] = 0
    flat[-50:] = 60_000
    low, high = AutoContrast(0.1).update(image)
    assert low == pytest.approx(100, abs=1)
    assert high == pytest.approx(200, abs=1)


def test_small_changes_are_smoothed() -> None:
    contrast = AutoContrast(0.1)
    contrast.update(ramp(0, 100))
    _, high = contrast.update(ramp(0, 110))
    assert 101 < high < 103


def test_small_changes_are_followed_eventually() -> None:
    contrast = AutoContrast(0.1)
    contrast.update(ramp(0, 100))
    for _ in range(40):
        _, high = contrast.update(ramp(0, 110))
    assert high == pytest.approx(110, abs=0.2)


@pytest.mark.parametrize("scene", [(1000, 9000), (0, 3), (-5, 0)])
def test_a_new_scene_is_followed_at_once(scene: tuple[float, float]) -> None:
    contrast = AutoContrast(0.1)
    contrast.update(ramp(0, 100))
    assert contrast.update(ramp(*scene)) == pytest.approx(
        AutoContrast(0.1).update(ramp(*scene))
    )


@pytest.mark.parametrize("value", [0, 7, -3, 65_535, 1e30])
def test_a_constant_image_has_two_levels(value: float) -> None:
    low, high = AutoContrast(0.1).update(np.full((20, 30), value))
    assert low < value < high


def test_what_is_not_finite_is_ignored() -> None:
    image = ramp(10, 20)
    image[::2] = np.nan
    image[1::4] = np.inf
    low, high = AutoContrast(0.1).update(image)
    assert 9.9 < low < high < 20.1


def test_nothing_finite_changes_nothing() -> None:
    contrast = AutoContrast(0.1)
    assert contrast.update(np.full((4, 4), np.nan)) == (0.0, 1.0)
    before = contrast.update(ramp(0, 100))
    assert contrast.update(np.full((4, 4), np.nan)) == before


def test_one_pixel_and_colour() -> None:
    low, high = AutoContrast(0.1).update(np.array([[5]], np.uint8))
    assert low < 5 < high
    low, high = AutoContrast(0.1).update(np.zeros((9, 9, 3), np.uint8))
    assert low < high
