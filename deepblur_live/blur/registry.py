"""The one place where families are made: from a profile, or from a model's manifest."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from deepblur_live.profile import Optics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepblur_live.blur.family import BlurFamily
    from deepblur_live.profile import Profile

__all__ = ["FAMILIES", "family_from_manifest", "family_from_profile"]

FAMILIES = {"zernike": "deepblur_live.blur.zernike:ZernikeFamily"}
"""The families that come with the program: name → ``"module:Class"``."""


class _Described(Protocol):
    """The part of a model's manifest that names its family."""

    @property
    def family(self) -> str: ...

    @property
    def noll(self) -> Sequence[int]: ...


def family_from_profile(profile: Profile) -> BlurFamily:
    """Return the family of blurs that a profile names in ``model.family``.

    Raises
    ------
    ValueError
        When there is no such family, or it refuses the profile's optics.
    """
    return _family_class(profile.model.family).from_optics(profile.optics)


def family_from_manifest(manifest: _Described) -> BlurFamily:
    """Return the family that a model was trained on, with the default optics.

    Raises
    ------
    ValueError
        When there is no such family, or it refuses the manifest's coefficients.
    """
    optics = Optics.model_construct(**(Optics().model_dump() | {"noll": manifest.noll}))
    return _family_class(manifest.family).from_optics(optics)


def _family_class(name: str) -> type[BlurFamily]:
    module, _, attribute = FAMILIES.get(name, name).partition(":")
    if not attribute:
        known = ", ".join(f'"{known}"' for known in FAMILIES)
        raise ValueError(
            f"family {name!r}: not known; give {known}, or your own as "
            '"package.module:Class"'
        )
    try:
        family: type[BlurFamily] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"family {name!r}: cannot be imported: {error}") from error
    return family
