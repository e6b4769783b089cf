"""Which optics a profile states, and whether two pixel sizes agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepblur_live.profile import Profile

__all__ = ["assumed_optics", "same_pixel_size"]

_SAME_PIXEL = 0.02


def same_pixel_size(one_nm: float, other_nm: float) -> bool:
    """Return whether two pixel sizes agree to within 2 %, as rounded ones do."""
    return abs(one_nm - other_nm) <= _SAME_PIXEL * other_nm


def assumed_optics(profile: Profile) -> str:
    """Return a text on the optics that are only defaults; empty if all are stated.

    >>> from deepblur_live.profile import Optics, Profile
    >>> assumed_optics(Profile(optics=Optics(numerical_aperture=1.4)))
    'optics assumed: emission 540 nm, pixel size 100 nm: not stated in the profile'
    """
    optics = profile.optics
    texts = {
        "numerical_aperture": f"NA {optics.numerical_aperture:g}",
        "wavelength_nm": f"emission {optics.wavelength_nm:g} nm",
        "pixel_size_nm": f"pixel size {optics.pixel_size_nm:g} nm",
    }
    stated = optics.model_fields_set
    assumed = [text for name, text in texts.items() if name not in stated]
    if not assumed:
        return ""
    return f"optics assumed: {', '.join(assumed)}: not stated in the profile"
