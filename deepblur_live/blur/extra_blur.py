"""The Gaussian in every PSF of a family: an optional member of families."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepblur_live.blur.family import BlurFamily

__all__ = ["extra_blur"]


def extra_blur(family: BlurFamily) -> float:
    """Return the standard deviation, in pixels, of the Gaussian in a family's PSFs.

    From the family's optional member ``extra_blur``: a fixed property of the instrument
    that no coefficient changes. 0 without it.
    """
    return float(getattr(family, "extra_blur", 0.0))
