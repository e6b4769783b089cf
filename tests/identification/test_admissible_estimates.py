"""Estimates outside a learned range are replaced by the nearest in it; it is noted."""

from dataclasses import replace

import numpy as np
import pytest
from specimens import ERRORS, FAMILY

from deepblur_live.blur import Estimate
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.calibration.learning import learn_family
from deepblur_live.identification import Identifier
from deepblur_live.identification.problem import Problem, Solution


def accepted(identifier, coefficients, trusted=True):
    covariance = 1e-4 * np.eye(len(coefficients))
    estimate = Estimate(coefficients, covariance, 0.5, trusted, "" if trusted else "no")
    problem = Problem(None, 0.01, identifier.orientation, None)
    return identifier.accept(Solution(problem, estimate, None))


@pytest.fixture
def identifier():
    states = 0.02 * np.random.default_rng(0).normal(size=(20, 7))
    return Identifier(learn_family(states, FAMILY), ERRORS)


def test_the_nearest_blur_in_the_range_is_used(identifier):
    prior = identifier.family.prior
    outside = 0.01 * np.ones(7)
    outside /= prior.admissible.gauge(outside) / 1.1
    found = accepted(identifier, outside)
    np.testing.assert_allclose(found.coefficients, prior.admissible.project(outside))
    assert prior.admissible.gauge(found.coefficients) == pytest.approx(1)
    (note,) = identifier.take_notes()
    assert "1.10 times" in note
    # Noted once, until an estimate has been within the range again.
    accepted(identifier, outside)
    assert not identifier.take_notes()
    np.testing.assert_array_equal(
        accepted(identifier, outside / 2).coefficients, outside / 2
    )
    accepted(identifier, outside)
    assert len(identifier.take_notes()) == 1


def test_other_estimates_are_not_changed(identifier):
    outside = np.full(7, 0.2)
    found = accepted(identifier, outside, trusted=False)
    np.testing.assert_array_equal(found.coefficients, outside)
    # The range of a family that was not learned is not binding.
    wide = Identifier(replace(FAMILY, ranges=0.1), ERRORS)
    assert isinstance(wide.family, ZernikeFamily)
    np.testing.assert_array_equal(accepted(wide, outside).coefficients, outside)
    assert not wide.take_notes() + identifier.take_notes()
