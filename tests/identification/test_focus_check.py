"""Estimates of single frames against a known step of the focus."""

import itertools

import numpy as np
import pytest

from deepblur_live.blur import Estimate, focus_direction, orbit
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.identification import CheckVerdict, check_focus
from deepblur_live.identification.sweep.focus_check import _lines
from deepblur_live.profile import Optics

FAMILY = ZernikeFamily.from_optics(Optics())
PER_UM = focus_direction(FAMILY)
EVEN = FAMILY.even
STEPS = np.array([0.0, 0.3, -0.3, 0.0])
SIGMA = 0.015
HERE = np.array([0.06, -0.05, 0.04, 0.05, -0.03, 0.02, 0.03, -0.04])


def estimates(here, slope=1.0, z_um=STEPS, sigma=SIGMA, seed=0):
    """What frames give: any of the equivalents, with an error."""
    chance = np.random.default_rng(seed)
    elements = orbit(FAMILY)
    found = []
    for z in z_um:
        gamma = here + slope * z * PER_UM + sigma * chance.standard_normal(len(here))
        gamma = elements[chance.integers(len(elements))].apply(gamma)
        found.append(Estimate(gamma, sigma**2 * np.eye(len(here)), 0.5))
    return found


def refused(estimate):
    return Estimate(estimate.coefficients, estimate.covariance, 2.0, False, "no signal")


@pytest.mark.parametrize("defocus", [-0.3, -0.1, 0.0, 0.07, 0.15])
@pytest.mark.parametrize("seed", range(5))
def test_right_estimates_follow_wherever_the_focus_lies(defocus, seed):
    here = np.where(np.arange(8) == 0, defocus, HERE)
    check = check_focus(FAMILY, estimates(here, seed=seed), STEPS)
    assert check.verdict is CheckVerdict.FOLLOWS
    assert check.slope == pytest.approx(1.0, abs=4 * check.slope_sigma)
    assert "the stage moved by 300 nm, the estimates by" in check.reason
    # The step tells on which side of the focus the frame lies; not the turn by 180°.
    found = np.where(EVEN, check.coefficients, np.abs(check.coefficients))
    truth = np.where(EVEN, here, np.abs(here))
    assert found == pytest.approx(truth, abs=4 * SIGMA)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("slope", [0.0, 0.3, 1.8])
@pytest.mark.parametrize("defocus", [0.0, 0.25])
def test_estimates_that_do_not_follow_are_not_reliable(slope, defocus, seed):
    here = np.where(np.arange(8) == 0, defocus, HERE)
    check = check_focus(FAMILY, estimates(here, slope, seed=seed), STEPS)
    assert check.verdict is CheckVerdict.NOT_RELIABLE
    assert check.slope == pytest.approx(slope, abs=0.2)


def test_the_same_frame_again_and_again_is_not_reliable():
    one = estimates(HERE)[0]
    check = check_focus(FAMILY, [one] * 4, STEPS)
    assert check.verdict is CheckVerdict.NOT_RELIABLE
    assert check.slope == pytest.approx(0.0, abs=1e-6)


def test_in_focus_a_fold_is_no_slope_of_zero():
    """Of defocus alone frames give 1, 0, 1: the sign is missing, not the response."""
    here = np.zeros(8)
    check = check_focus(FAMILY, estimates(here, sigma=0.01), STEPS)
    assert check.verdict is CheckVerdict.FOLLOWS


def test_one_side_alone_does_not_tell_a_fold():
    """From -0.3 to 0.9 steps |defocus| changes by 0.6: the fold, or an error."""
    here = -0.3 * 0.3 * PER_UM
    z = np.array([0.0, 0.36])
    check = check_focus(FAMILY, estimates(here, z_um=z), z)
    assert check.verdict is CheckVerdict.UNDECIDED


def test_uncertain_estimates_leave_it_undecided():
    check = check_focus(FAMILY, estimates(HERE, sigma=0.1), STEPS)
    assert check.verdict is CheckVerdict.UNDECIDED
    assert "too uncertain" in check.reason


def test_planes_without_an_estimate_are_named_not_blamed():
    good = estimates(HERE)
    away = [good[0], refused(good[1]), refused(good[2]), good[3]]
    here = [refused(good[0]), good[1], good[2], refused(good[3])]
    for given, place in ((away, "+300 nm"), (here, "+0 nm")):
        check = check_focus(FAMILY, given, STEPS)
        assert check.verdict is CheckVerdict.UNDECIDED
        assert f"no estimate at {place}: no signal" in check.reason
        assert np.isnan(check.slope)
    one = check_focus(FAMILY, [refused(good[0]), *good[1:]], STEPS)
    assert one.verdict is CheckVerdict.FOLLOWS
    assert "no estimate at +0 nm" in one.reason


def test_modes_that_jump_while_only_the_focus_moves_are_a_contradiction():
    given = estimates(HERE)
    given[1].coefficients[3] += 0.3
    given[3].coefficients[7] -= 0.3
    check = check_focus(FAMILY, given, STEPS)
    assert check.verdict is CheckVerdict.NOT_RELIABLE
    assert "contradict each other" in check.reason


def test_a_drift_during_the_check_is_not_blamed_on_the_estimates():
    given = estimates(HERE, slope=0.0)
    check = check_focus(FAMILY, given, STEPS, steady=False)
    assert check.verdict is CheckVerdict.UNDECIDED and "drifted" in check.reason
    right = check_focus(FAMILY, estimates(HERE), STEPS, steady=False)
    assert right.verdict is CheckVerdict.FOLLOWS


def test_a_drive_that_counts_the_other_way_flips_the_even_modes():
    given = estimates(HERE)
    plain, other = (check_focus(FAMILY, given, STEPS, deeper=d) for d in (1, -1))
    assert other.slope == pytest.approx(plain.slope)
    flipped = np.where(EVEN, -plain.coefficients, plain.coefficients)
    assert other.coefficients == pytest.approx(flipped)


def test_the_lines_are_those_of_a_plain_least_squares_fit():
    z = np.array([-0.25, 0.0, 0.3])
    given = estimates(HERE, z_um=z)
    chance = np.random.default_rng(1)
    roots = [0.01 * np.eye(8) + 0.004 * chance.random((8, 8)) for _ in z]
    given = [
        Estimate(e.coefficients, r @ r.T, 0.5)
        for e, r in zip(given, roots, strict=True)
    ]
    lines = _lines(FAMILY, given, z, PER_UM)
    elements = orbit(FAMILY)
    best = []
    for second, third in itertools.product(elements, elements):
        rows, values = [], []
        turned = zip(given, z, (elements[0], second, third), strict=True)
        for estimate, at, element in turned:
            white = np.linalg.inv(
                np.linalg.cholesky(element.covariance(estimate.covariance))
            )
            rows.append(white @ np.column_stack([np.eye(8), at * PER_UM]))
            values.append(white @ element.apply(estimate.coefficients))
        design, value = np.vstack(rows), np.concatenate(values)
        x, (square,), *_ = np.linalg.lstsq(design, value)
        best.append((square, abs(x[-1]), np.linalg.inv(design.T @ design)[-1, -1]))
    assert np.column_stack([lines.misfit, lines.slope, lines.sigma**2]) == (
        pytest.approx(np.array(best), rel=1e-6)
    )


def test_a_family_without_a_focus_is_refused_by_name():
    with pytest.raises(ValueError, match="ZernikeFamily cannot be swept"):
        check_focus(ZernikeFamily(noll=(5, 6)), [], np.zeros(0))
