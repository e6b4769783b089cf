"""From modes and shape to a cause that an engineer would agree with."""

from __future__ import annotations

import numpy as np
import pytest

from deepblur_live.blur import ChangeShape
from deepblur_live.blur.zernike import PAPER_MODES, SPHERICAL_MODES, ZernikeFamily
from deepblur_live.blur.zernike_causes import group_shares


def cause(changed, shape, noll=PAPER_MODES):
    change = np.array([1.0 if j in changed else -0.14 for j in noll])
    return ZernikeFamily(noll=noll).diagnose(change, shape)


def test_table():
    assert "focus has jumped" in cause({4}, ChangeShape.STEP).cause
    assert "thermal settling" in cause({4}, ChangeShape.SETTLING).cause
    assert "coverslip has tilted" in cause({7, 8}, ChangeShape.STEP).cause
    assert "dichroic" in cause({5, 6}, ChangeShape.RAMP).cause
    assert "three-point strain" in cause({9}, ChangeShape.RAMP).cause
    drying = cause({11}, ChangeShape.RAMP, SPHERICAL_MODES)
    assert "oil drying" in drying.cause
    assert "renew the immersion" in drying.remedy
    assert "correction collar" in cause({11}, ChangeShape.STEP, SPHERICAL_MODES).remedy


def test_groups_that_change_together_have_a_cause_of_their_own():
    stepped = cause({4, 11}, ChangeShape.STEP, SPHERICAL_MODES)
    assert "collar was turned" in stepped.cause
    drying = cause({4, 11}, ChangeShape.RAMP, SPHERICAL_MODES)
    assert "oil drying" in drying.cause
    assert "renew the immersion" in drying.remedy
    for shape in ChangeShape:
        assert "coverslip" in cause({5, 7}, shape).cause


def test_mixture_is_unclear():
    for shape in (ChangeShape.STEP, ChangeShape.RAMP, ChangeShape.UNCLEAR):
        assert cause({4, 5, 7}, shape).cause.startswith("unclear")
    # Secondary astigmatism does not have the causes of astigmatism.
    secondary = cause({12, 13}, ChangeShape.STEP, (4, 12, 13))
    assert secondary.cause.startswith("unclear")


def test_focus_drift_hints_at_spherical_aberration_that_is_not_followed():
    assert "not followed" in cause({4}, ChangeShape.RAMP).remedy
    followed = cause({4}, ChangeShape.RAMP, SPHERICAL_MODES)
    assert "not followed" not in followed.remedy
    assert "not followed" not in cause({4}, ChangeShape.STEP).remedy


@pytest.mark.parametrize("shape", ChangeShape)
def test_every_remedy_ends_with_the_baseline(shape):
    for j in PAPER_MODES:
        assert "re-baseline." in cause({j}, shape).remedy


def test_groups_add_up():
    groups = group_shares(PAPER_MODES, np.sqrt([4.0, 1.0, 1.0, 2.0, 0.0, 0.0, 0.0]))
    assert groups[0][0] == "defocus"
    assert dict(groups)["defocus"] == pytest.approx(0.5)
    assert dict(groups)["astigmatism"] == pytest.approx(0.25)
    assert sum(share for _, share in groups) == pytest.approx(1.0)
