"""The text of an alert, in the units of any family."""

from __future__ import annotations

import numpy as np
import pytest

from deepblur_live.blur import ChangeMetric, ChangeShape
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.drift.alert import make_alert
from deepblur_live.drift.shape import ShapeFit
from deepblur_live.drift.status import DriftState

DIFFERENCE = np.array([0.3, 0.4, 0.0, 0.0, 0.0, 0.0, 0.0])


class Pixels(ZernikeFamily):
    """Coefficients in pixels whose first counts nine times as much as the second."""

    @property
    def unit(self) -> str:
        return "pixels"

    @property
    def metric(self) -> ChangeMetric:
        return ChangeMetric(np.diag([9.0, 1, 1, 1, 1, 1, 1]), "pixels", "pixels")


class Relative(Pixels):
    """The size of a change has another unit than its coefficients."""

    @property
    def metric(self) -> ChangeMetric:
        return ChangeMetric(super().metric.matrix, "widths", "%", 100.0)


def alert(family, fit):
    return make_alert(
        family,
        time=70.0,
        level=DriftState.WARN,
        change=0.985,
        sigma=0.02,
        difference=DIFFERENCE,
        since=60.0,
        fit=fit,
    )


def test_units_are_the_familys():
    raised = alert(Pixels(), ShapeFit(ChangeShape.RAMP, rate=0.01))
    assert raised.unit == "pixels"
    assert "changed by 0.985 ± 0.020 pixels from" in raised.text
    assert "steadily by 6.000 pixels in ten minutes" in raised.text
    # 0.81 of the squared change is the first coefficient's.
    assert raised.coefficients == ("defocus",)
    assert "mostly defocus (+0.300 pixels), since" in raised.text
    assert "waves" not in raised.text and "nm" not in raised.text


def test_coefficients_keep_their_own_unit():
    raised = alert(Relative(), ShapeFit(ChangeShape.STEP))
    assert "changed by 98.500 ± 2.000 % (0.985 ± 0.020 widths) from" in raised.text
    assert "mostly defocus (+0.3 pixels)" in raised.text
    assert "in a single step. Likely cause: " in raised.text


@pytest.mark.parametrize(
    ("rate", "text"),
    [(2e-5, "steadily by 6 nm in ten minutes"), (5e-6, "steadily by 10 nm per hour")],
)
def test_slow_ramps_are_reported_per_hour(rate, text):
    raised = alert(ZernikeFamily(), ShapeFit(ChangeShape.RAMP, rate=rate))
    assert text in raised.text
