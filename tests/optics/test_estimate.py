"""How far from an estimate the truth may be."""

import pytest

from deepblur_live.optics import reach


def test_one_deviation_holds_68_percent():
    assert reach(0.6827) == pytest.approx(1)


@pytest.mark.parametrize(
    ("share", "quantile"),
    # Student's t with 4 degrees of freedom: any table of it.
    [(0.5, 0.741), (0.8, 1.533), (0.9, 2.132), (0.95, 2.776), (0.99, 4.604)],
)
def test_other_shares_are_a_students_t(share, quantile):
    assert reach(share) / reach(0.5) == pytest.approx(quantile / 0.741, rel=1e-3)
