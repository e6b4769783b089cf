"""From modes and shape to a cause that an engineer would agree with."""

from __future__ import annotations

import numpy as np
import pytest

from deepblur_live.drift.cause import likely_cause, mode_groups
from deepblur_live.drift.shape import Shape, ShapeFit, change_shape
from deepblur_live.optics import ZernikeFamily

TIMES = np.arange(60) * 30.0
COURSES = {
    Shape.STEP: 0.06 * (TIMES > 900),
    Shape.RAMP: 0.06 * np.maximum(TIMES - 600, 0) / 1200,
    Shape.SETTLING: 0.06 * -np.expm1(-np.maximum(TIMES - 300, 0) / 250),
}


@pytest.mark.parametrize("shape", COURSES)
def test_shape_is_told(shape):
    rng = np.random.default_rng(1)
    for _ in range(10):
        noisy = COURSES[shape] + rng.normal(0, 0.003, len(TIMES))
        fit = change_shape(TIMES, noisy, 0.003)
        assert fit.shape is shape
    if shape is Shape.RAMP:
        assert fit.rate == pytest.approx(0.06 / 1200, rel=0.1)
    if shape is Shape.SETTLING:
        assert fit.time_constant == pytest.approx(250, rel=0.4)


@pytest.mark.parametrize("count", [5, 12])
def test_shape_is_unclear_from_few_or_noisy_points(count):
    rng = np.random.default_rng(2)
    amounts = np.linspace(0, 0.01, count) + rng.normal(0, 0.01, count)
    fit = change_shape(TIMES[:count], amounts, 0.01)
    assert fit.shape is Shape.UNCLEAR
    assert np.isnan(fit.rate) and np.isnan(fit.time_constant)


def cause(noll, shape, family=None):
    family = family or ZernikeFamily()
    shares = [1.0 if j in noll else 0.02 for j in family.noll]
    return likely_cause(family.names, shares, ShapeFit(shape))


def test_table():
    assert "focus has jumped" in cause({4}, Shape.STEP).cause
    assert "thermal settling" in cause({4}, Shape.SETTLING).cause
    assert "coverslip has tilted" in cause({7, 8}, Shape.STEP).cause
    assert "dichroic" in cause({5, 6}, Shape.RAMP).cause
    assert "three-point strain" in cause({9}, Shape.RAMP).cause
    spherical = ZernikeFamily(noll=tuple(range(4, 12)))
    drying = cause({11}, Shape.RAMP, spherical)
    assert "oil drying" in drying.cause
    assert "renew the immersion" in drying.remedy
    assert "correction collar" in cause({11}, Shape.STEP, spherical).remedy


def test_kinds_that_move_together_have_a_cause_of_their_own():
    spherical = ZernikeFamily(noll=tuple(range(4, 12)))
    assert "collar was turned" in cause({4, 11}, Shape.STEP, spherical).cause
    drying = cause({4, 11}, Shape.RAMP, spherical)
    assert "oil drying" in drying.cause
    assert "renew the immersion" in drying.remedy
    for shape in Shape:
        assert "coverslip" in cause({5, 7}, shape).cause


def test_mixture_is_unclear_and_says_so():
    for shape in (Shape.STEP, Shape.RAMP, Shape.UNCLEAR):
        assert cause({4, 5, 7}, shape).cause.startswith("unclear")
    higher = ZernikeFamily(noll=(4, 12, 13))
    assert cause({12, 13}, Shape.STEP, higher).cause.startswith("unclear")


def test_creeping_focus_hints_at_the_mode_that_is_not_followed():
    assert "not followed" in cause({4}, Shape.RAMP).remedy
    spherical = ZernikeFamily(noll=tuple(range(4, 12)))
    assert "not followed" not in cause({4}, Shape.RAMP, spherical).remedy
    assert "not followed" not in cause({4}, Shape.STEP).remedy


def test_every_remedy_ends_with_the_baseline():
    for j in ZernikeFamily().noll:
        for shape in Shape:
            assert cause({j}, shape).remedy.rstrip(")").find("re-baseline") > 0


def test_groups_add_up():
    family = ZernikeFamily()
    groups = mode_groups(family.names, [4.0, 1.0, 1.0, 2.0, 0.0, 0.0, 0.0])
    assert groups[0] == ("defocus", 0.5)
    assert dict(groups)["astigmatism"] == 0.25
    assert sum(share for _, share in groups) == pytest.approx(1.0)
