"""The pixel size of a run: the source's, the profile's, or the command line's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.cli.console import say
from deepblur_live.profile import Profile, check_profile
from deepblur_live.session.stated_optics import assumed_optics, same_pixel_size

if TYPE_CHECKING:
    from deepblur_live.cli.console_session import Options

__all__ = ["with_pixel_size"]


def with_pixel_size(
    options: Options,
    size_nm: float | None,
    origin: str,
    remedy: str,
    given_nm: float | None,
) -> Profile:
    """Return the profile; without one, the default with the source's pixel size.

    A note reports optics that are not stated, with the `remedy`.

    Parameters
    ----------
    size_nm, origin
        Pixel size that the source states, and its name.
    given_nm
        Pixel size given on the command line, which takes precedence.

    Raises
    ------
    ValueError
        Profile and source contradict each other, and there is no window in which to
        confirm one of them.
    """
    console, profile = options.console, options.profile
    if given_nm is not None:
        profile = _resized(profile or Profile(), given_nm, "--pixel-size")
    elif profile is None and size_nm is not None:
        profile = _resized(Profile(), size_nm, f"{origin}, no --profile given")
    elif profile is None:
        profile = Profile()
        say(
            console,
            f"Note: {origin} states no pixel size, and there is no --profile: "
            f"assuming {profile.optics.pixel_size_nm:g} nm in the specimen. A "
            f"wrong one makes the estimates wrong: give {remedy}",
        )
    elif size_nm is not None and not same_pixel_size(
        size_nm, own := profile.optics.pixel_size_nm
    ):
        contradiction = (
            f"{origin} states pixels of {size_nm:.4g} nm, the profile {own:g} nm"
        )
        if not options.window:
            raise ValueError(
                f"{contradiction}: correct one of them, or give --pixel-size {own:g} "
                "to confirm the profile's"
            )
        say(console, f"Note: {contradiction}: confirm in the window which is right")
    if assumed := assumed_optics(profile):
        say(console, f"Note: {assumed}")
    return profile


def _resized(profile: Profile, size_nm: float, origin: str) -> Profile:
    content = profile.model_dump(exclude_unset=True)
    content.setdefault("optics", {})["pixel_size_nm"] = size_nm
    return check_profile(content, origin)
