"""The one place where families are made: from a profile, or from a model's manifest."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from deepblur_live.blur.family import BlurFamily
from deepblur_live.blur.field_basis import FieldView
from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.profile import Optics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepblur_live.profile import Profile

__all__ = ["FAMILIES", "family_from_manifest", "family_from_profile"]

FAMILIES = {"zernike": "deepblur_live.blur.zernike:ZernikeFamily"}
"""The families that come with the program: name → ``"module:Class"``."""


_MEMBERS = sorted(
    name for name in vars(BlurFamily) if not name.startswith("_") and name != "mro"
)


class _Described(Protocol):
    """The part of a model's manifest that names its family."""

    @property
    def family(self) -> str: ...

    @property
    def noll(self) -> Sequence[int]: ...


def family_from_profile(profile: Profile) -> BlurFamily:
    """Return the family of blurs that a profile names in ``model.family``.

    With ``model.blur = "field"`` the blur varies over the field, and the family shows
    the whole sensor: the profile's, or a square one.

    Raises
    ------
    ValueError
        When there is no such family, or it refuses the profile's optics.
    """
    if profile.model.blur == "uniform":
        return _make(profile.model.family, profile.optics)
    field = ZernikeField.from_optics(profile.optics)
    sensor = profile.camera.sensor
    return field if sensor is None else replace(field, view=FieldView(*sensor))


def family_from_manifest(manifest: _Described) -> BlurFamily:
    """Return the family that a model was trained on, with the default optics.

    Raises
    ------
    ValueError
        When there is no such family, or it refuses the manifest's coefficients.
    """
    optics = Optics.model_construct(**(Optics().model_dump() | {"noll": manifest.noll}))
    return _make(manifest.family, optics)


def _make(name: str, optics: Optics) -> BlurFamily:
    kind = _family_class(name)
    try:
        return kind.from_optics(optics)
    except ValueError:
        # It names the value that it refuses.
        raise
    except Exception as error:
        raise ValueError(
            f"family {name!r}: from_optics failed: {type(error).__name__}: {error}"
        ) from error


def _family_class(name: str) -> type[BlurFamily]:
    module, _, attribute = FAMILIES.get(name, name).partition(":")
    if not attribute:
        known = ", ".join(f'"{known}"' for known in FAMILIES)
        raise ValueError(
            f"family {name!r}: not known; give {known}, or your own as "
            '"package.module:Class"'
        )
    try:
        family = getattr(import_module(module), attribute)
    except Exception as error:  # a module of the user's may raise anything
        raise ValueError(f"family {name!r}: cannot be imported: {error}") from error
    missing = [member for member in _MEMBERS if not hasattr(family, member)]
    if not isinstance(family, type) or missing:
        raise ValueError(
            f"family {name!r}: not a family of blurs, which has the members of "
            f"deepblur_live.blur.BlurFamily; missing: {', '.join(missing) or 'a class'}"
        )
    if family.__hash__ is None:
        raise ValueError(
            f"family {name!r}: must be hashable, such as a frozen dataclass"
        )
    checked: type[BlurFamily] = family
    return checked
