"""Any array becomes an 8-bit image, or is refused."""

from __future__ import annotations

import numpy as np
import pytest

from deepblur_live.gui.rendering import displayable, reduce_to, to_uint8


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ((5, 7), (5, 7)),
        ((5, 7, 3), (5, 7, 3)),
        ((5, 7, 4), (5, 7, 3)),
        ((2, 5, 7), (5, 7)),
        ((2, 2, 5, 7), (5, 7)),
        ((1, 1), (1, 1)),
    ],
)
def test_images_of_any_shape(shape: tuple[int, ...], shown: tuple[int, ...]) -> None:
    image = displayable(np.zeros(shape, np.uint16))
    assert image is not None
    assert image.shape == shown


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros(5),
        np.float64(3) * np.ones(()),
        np.zeros((0, 4)),
        np.array([["a", "b"]]),
        np.array([[object()]]),
    ],
)
def test_arrays_that_cannot_be_shown(pixels: np.ndarray) -> None:
    assert displayable(pixels) is None


def test_booleans_and_complex_numbers_are_shown() -> None:
    assert displayable(np.ones((2, 2), bool)).dtype == np.uint8
    assert displayable(np.full((2, 2), 3 + 4j))[0, 0] == 5


def test_nothing_is_reduced_if_the_screen_resolves_all_pixels() -> None:
    image = np.arange(12.0).reshape(3, 4)
    reduced, rectangle = reduce_to(image, (0, 0, 4, 3), (400, 300))
    assert rectangle == (0, 0, 4, 3)
    np.testing.assert_array_equal(reduced, image)


def test_reduction_averages_blocks() -> None:
    image = np.arange(64.0).reshape(8, 8)
    reduced, rectangle = reduce_to(image, (0, 0, 8, 8), (4, 4))
    assert rectangle == (0, 0, 8, 8)
    np.testing.assert_allclose(
        reduced, image.reshape(4, 2, 4, 2).mean(axis=(1, 3)), rtol=1e-6
    )


def test_the_visible_region_is_cropped() -> None:
    image = np.zeros((2048, 2048), np.uint16)
    reduced, (x, y, w, h) = reduce_to(image, (1000, 500, 100, 80), (600, 480))
    assert reduced.shape == (h, w)
    assert x <= 1000 and x + w >= 1100 and y <= 500 and y + h >= 580
    assert reduced.size < 4 * 100 * 80


@pytest.mark.parametrize("shape", [(1, 1), (1, 999), (999, 1), (7, 13), (501, 333, 3)])
@pytest.mark.parametrize("size", [(0, 0), (1, 1), (50, 40), (2000, 2000)])
@pytest.mark.parametrize(
    "region",
    [(0, 0, 1, 1), (-50, -50, 2000, 2000), (5000, 5000, 10, 10), (3.7, 2.2, 5.5, 4.1)],
)
def test_the_rectangle_matches_the_reduced_image(
    shape: tuple[int, ...],
    size: tuple[int, int],
    region: tuple[float, float, float, float],
) -> None:
    image = np.ones(shape, np.float32)
    reduced, (x, y, w, h) = reduce_to(image, region, size)
    assert reduced.size > 0
    np.testing.assert_allclose(reduced, 1.0)
    assert 0 <= x < x + w <= shape[1]
    assert 0 <= y < y + h <= shape[0]
    # Whole blocks only.
    assert w % reduced.shape[1] == 0 and h % reduced.shape[0] == 0


def test_the_last_column_is_included() -> None:
    image = np.zeros((100, 100))
    _, (x, _, w, _) = reduce_to(image, (0, 0, 100, 100), (50, 50))
    assert x + w == 100


def test_levels_become_black_and_white() -> None:
    image = np.array([[0, 100, 150, 200, 60_000]], np.uint16)
    np.testing.assert_array_equal(to_uint8(image, (100, 200)), [[0, 0, 127, 255, 255]])


def test_nan_is_black() -> None:
    image = np.array([[np.nan, np.inf, -np.inf, 1e38]], np.float32)
    np.testing.assert_array_equal(to_uint8(image, (0, 1)), [[0, 255, 0, 255]])


def test_equal_levels_do_not_divide_by_zero() -> None:
    assert to_uint8(np.full((2, 2), 5), (5, 5)).dtype == np.uint8
