"""A calibrated family with the wide prior of its optics: an optional member."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepblur_live.blur.family import BlurFamily

__all__ = ["wide_prior"]


def wide_prior(family: BlurFamily) -> BlurFamily | None:
    """Return the family with a wide prior, None if its own was not learned.

    From the family's optional member ``widened``: the same coefficients mean the same
    blurs; only the prior differs. Estimates are tested against it
    (`deepblur_live.identification.outside`).
    """
    wide: BlurFamily | None = getattr(family, "widened", None)
    return wide
