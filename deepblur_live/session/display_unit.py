"""Units in which coefficients and changes are shown: nm, or the family's own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepblur_live.blur import BlurFamily
    from deepblur_live.profile import Display
    from deepblur_live.session.blur_facts import BlurFacts

__all__ = ["DisplayUnit", "change_unit", "coefficient_unit"]


@dataclass(frozen=True)
class DisplayUnit:
    """A unit and the factor that converts to it.

    Parameters
    ----------
    name
        As written on an axis, such as ``"nm rms"``.
    scale
        Factor from the family's unit.
    """

    name: str
    scale: float

    def text(self, value: float) -> str:
        """Return a value in the family's unit as text, with two significant digits."""
        return f"{self.number(value)} {self.name}"

    def number(self, value: float) -> str:
        """Return `text` without the name of the unit."""
        return f"{float(f'{value * self.scale:.2g}'):g}"

    def decimals(self, typical: float) -> int:
        """Return the decimals that show three significant digits of a typical value."""
        return max(0, 2 - math.floor(math.log10(typical * self.scale)))


def change_unit(family: BlurFamily | BlurFacts, display: Display) -> DisplayUnit:
    """Return the unit of a change: ``display.units = "nm"`` asks for the display unit.

    Families that are not measured in waves define their own display unit.
    """
    metric = family.metric
    if display.units == "waves":
        return DisplayUnit(metric.unit, 1.0)
    # An rms value is still an rms value in another unit.
    rms = " rms" if metric.unit.endswith(" rms") else ""
    name = metric.display_unit.removesuffix(rms) + rms
    return DisplayUnit(name, metric.display_scale)


def coefficient_unit(family: BlurFamily | BlurFacts, display: Display) -> DisplayUnit:
    """Return the unit of the coefficients: that of a change, if they have the same."""
    if family.unit == family.metric.unit:
        return change_unit(family, display)
    return DisplayUnit(family.unit, 1.0)
