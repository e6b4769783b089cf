"""A profile without secrets, for files that may be passed on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepblur_live.session.sinks import without_secret

if TYPE_CHECKING:
    from deepblur_live.profile import Profile

__all__ = ["public_profile"]


def public_profile(profile: Profile) -> dict[str, Any]:
    """Return a profile as JSON values, without the secrets in its alerts' addresses.

    A measured blur is given by its file name alone: the session keeps a copy under that
    name, and paths often contain the name of a person.
    """
    content = profile.model_dump(mode="json")
    content["alerts"]["on_alarm"] = [
        without_secret(spec) for spec in profile.alerts.on_alarm
    ]
    for key in ("calibration", "psf"):
        if content["model"][key] is not None:
            content["model"][key] = Path(content["model"][key]).name
    return content
