"""The view of the PSF that fits a session's family of blurs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.gui.field_map import FieldMapView
from deepblur_live.gui.psf_view import PsfView

if TYPE_CHECKING:
    from deepblur_live.session import LiveSession

__all__ = ["psf_view"]


def psf_view(session: LiveSession) -> PsfView | FieldMapView:
    """Return the maps of a field, or the PSF of a uniform blur."""
    family = session.family
    if isinstance(family, ZernikeField):
        return FieldMapView(session.profile, family)
    return PsfView(family)
