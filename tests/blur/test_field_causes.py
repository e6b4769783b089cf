"""From the terms of a field to a cause that an engineer would agree with."""

from __future__ import annotations

import numpy as np
import pytest

from deepblur_live.blur import ChangeShape
from deepblur_live.blur.charted import charted, curve_kinds
from deepblur_live.blur.field_causes import field_cause, field_shares
from deepblur_live.blur.zernike import SPHERICAL_MODES, ZernikeFamily
from deepblur_live.blur.zernike_field import ZernikeField

FIELD = ZernikeField(ZernikeFamily(noll=SPHERICAL_MODES))


def cause(changes, shape=ChangeShape.STEP):
    change = np.array([changes.get(name, 0.002) for name in FIELD.names])
    noll, metric = FIELD.local.noll, FIELD.metric.matrix
    return field_cause(FIELD.terms, noll, metric, change, shape)


@pytest.mark.parametrize("shape", list(ChangeShape))
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"defocus, linear, along y": 0.1}, "specimen or the camera"),
        (
            {"astigmatism, linear, along x": 0.1, "vertical coma": 0.06},
            "longer centred|off its axis",
        ),
        ({"field curvature": 0.1, "astigmatism, quadratic": 0.1}, "another lens in"),
        ({"spherical": 0.1}, "immersion|coverslip"),
        ({"defocus": 0.1}, "focus|thermal"),
        # Coma alone is the coverslip's as well.
        ({"horizontal coma": 0.1}, "coverslip"),
        ({"coma, quadratic, along x": 0.1}, "unclear"),
        ({"defocus, linear, along x": 0.1, "trefoil, linear, along y": 0.1}, "unclear"),
    ],
)
def test_table(changes, said, shape):
    found = cause(changes, shape)
    assert any(word in found.cause for word in said.split("|"))
    assert found.remedy.endswith("re-baseline.")


def test_the_shares_are_those_of_the_rms_over_the_frame():
    change = np.zeros(FIELD.n_coefficients)
    change[FIELD.names.index("defocus, linear, along x")] = 0.3
    change[FIELD.names.index("defocus")] = 0.1
    shares = change * (FIELD.metric.matrix @ change)
    # The mean of u² over a square is 1/3; the places of the mean are a 9 × 9 grid.
    tilt = 0.09 * np.mean(((np.arange(9) + 0.5) / 4.5 - 1) ** 2)
    found = field_shares(FIELD.terms, shares)
    assert found["tilt"] == pytest.approx(tilt / (tilt + 0.01))
    assert found["constant"] == pytest.approx(0.01 / (tilt + 0.01))


def test_only_terms_of_nodal_aberration_theory_are_charted():
    count = charted(FIELD)
    assert count == 17
    assert all(term.nodal for term in FIELD.terms[:count])
    assert not any(term.nodal for term in FIELD.terms[count:])
    kinds = curve_kinds(FIELD)
    assert set(kinds) == {"defocus", "astigmatism", "coma", "trefoil", "spherical"}
    local = FIELD.local
    assert charted(local) == local.n_coefficients
    assert curve_kinds(local) == local.names
