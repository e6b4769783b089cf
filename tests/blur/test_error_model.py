"""The model of estimates' errors: its tails, and what a manifest may hold."""

import pytest
from pydantic import ValidationError

from deepblur_live.blur import ErrorModel
from deepblur_live.runtime.pack import load_manifest

ERRORS = load_manifest("zernike7")[1].error_model


def test_one_deviation_contains_68_percent():
    assert ERRORS.coverage_factor(0.6827) == pytest.approx(1)


@pytest.mark.parametrize(
    ("share", "quantile"),
    # Student's t with 4 degrees of freedom: any table of it.
    [(0.5, 0.741), (0.8, 1.533), (0.9, 2.132), (0.95, 2.776), (0.99, 4.604)],
)
def test_other_shares_are_those_of_students_t(share, quantile):
    assert ERRORS.tail_dof == 4
    ratio = ERRORS.coverage_factor(share) / ERRORS.coverage_factor(0.5)
    assert ratio == pytest.approx(quantile / 0.741, rel=1e-3)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tail_dof", "four"),
        ("colour", 1.0),
        ("curvature", None),
        ("systematic", -0.1),
        ("fluctuating", float("nan")),
        ("track_floor", 0.0),
    ],
)
def test_other_contents_are_refused_by_name(key, value):
    content = ERRORS.model_dump() | {key: value}
    with pytest.raises(ValidationError, match=key):
        ErrorModel.model_validate(content)
