"""The places at which a blur is compared, where it varies over the field."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.blur.calibrated_field import CalibratedField
from deepblur_live.blur.zernike_field import ZernikeField

if TYPE_CHECKING:
    from deepblur_live.blur.family import BlurFamily

__all__ = ["places"]

_LINE = (1 / 6, 1 / 2, 5 / 6)


def places(family: BlurFamily) -> tuple[tuple[float, float] | None, ...]:
    """Return the middles of the frame's ninths, row by row, for a field; else (None,).

    As `BlurFamily.psf` takes them: (row, column) from 0 to 1.
    """
    if not isinstance(family, ZernikeField | CalibratedField):
        return (None,)
    return tuple((row, column) for row in _LINE for column in _LINE)
