"""From which modes moved, and how, to the likely cause and what to do about it.

After the table of causes and remedies of Faklaris et al., *Quality assessment in light
microscopy for routine use through simple tools and robust metrics*, J. Cell Biol. 221
(2022), turned from a bead's PSF to the modes of the wavefront.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepblur_live.drift.shape import Shape, ShapeFit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Cause", "likely_cause", "mode_groups"]

# One group is the cause's when it holds this share of the squared change.
_DOMINANT = 0.65
# Kinds that move together have a cause of their own when each has at least the one
# share, and the two together the other.
_PART, _TOGETHER = 0.15, 0.8
_PAIRS = (("defocus", "spherical"), ("coma", "astigmatism"))
_GROUPS = ("defocus", "astigmatism", "coma", "trefoil", "spherical")
_OTHER = "other modes"


@dataclass(frozen=True)
class Cause:
    """A likely cause and its remedy, for a person to read.

    Parameters
    ----------
    cause
        One phrase; begins with ``unclear`` where it is.
    remedy
        What to do, one or two sentences.
    """

    cause: str
    remedy: str


_STEADY = "Wait until stand, stage and incubator have one temperature"

_TABLE: Mapping[tuple[str, Shape], Cause] = {
    ("defocus", Shape.STEP): Cause(
        "the focus has jumped: a bump, a sample holder that moved, or a focus lock "
        "that was lost",
        "Refocus; check that the holder sits flat and that the focus lock is on.",
    ),
    ("defocus", Shape.RAMP): Cause(
        "the focus creeps: thermal expansion of stand or stage, a sagging holder, or "
        "immersion drying or flowing away",
        "Refocus, switch the focus lock on, look at the immersion. "
        f"{_STEADY} before a long recording.",
    ),
    ("defocus", Shape.SETTLING): Cause(
        "thermal settling after switching on, heating or opening the incubator",
        f"{_STEADY}, then refocus.",
    ),
    ("defocus", Shape.UNCLEAR): Cause(
        "the focus has moved, too recently to say whether at once or slowly",
        "Refocus; check the focus lock, the holder and the immersion.",
    ),
    ("astigmatism", Shape.STEP): Cause(
        "something in the beam was moved or is strained: filter cube, dichroic, "
        "prism, or a bent coverslip",
        "Seat the filter cube and any slider again; loosen the sample clamp.",
    ),
    ("astigmatism", Shape.RAMP): Cause(
        "strain that grows: a dichroic or objective warming unevenly, or a coverslip "
        "that bends",
        f"{_STEADY}; loosen the sample clamp; check the dichroic's mount.",
    ),
    ("astigmatism", Shape.SETTLING): Cause(
        "uneven warming of objective or dichroic",
        f"{_STEADY}; an objective heater should run for an hour before.",
    ),
    ("astigmatism", Shape.UNCLEAR): Cause(
        "strain or tilt in the beam: dichroic, filter cube, objective or coverslip",
        "Seat the filter cube and any slider again; loosen the sample clamp.",
    ),
    ("coma", Shape.STEP): Cause(
        "the coverslip has tilted, or the objective is no longer on axis",
        "Level the sample holder; check that objective and nosepiece are seated.",
    ),
    ("coma", Shape.RAMP): Cause(
        "the coverslip tilts slowly: a holder that sags, or immersion that pulls on "
        "one side",
        "Level and fix the sample holder; look at the immersion.",
    ),
    ("coma", Shape.SETTLING): Cause(
        "holder or objective settling, the coverslip tilting with it",
        "Wait until it has settled, then level the sample holder.",
    ),
    ("coma", Shape.UNCLEAR): Cause(
        "the coverslip is tilting, or the objective is off axis",
        "Level the sample holder; check that objective and nosepiece are seated.",
    ),
    ("spherical", Shape.STEP): Cause(
        "the correction collar was turned, or coverslip, depth or immersion changed; "
        "or a bubble has come into the immersion",
        "Set the correction collar; look for bubbles; check coverslip and immersion.",
    ),
    ("spherical", Shape.RAMP): Cause(
        "the immersion's refractive index is changing: oil drying or mixing, water "
        "evaporating, or the temperature",
        "Clean and renew the immersion, then set the correction collar.",
    ),
    ("spherical", Shape.SETTLING): Cause(
        "the immersion is warming up, its refractive index with it",
        "Wait until it has settled, then set the correction collar.",
    ),
    ("spherical", Shape.UNCLEAR): Cause(
        "a mismatch of refractive index or coverslip: immersion, depth or correction "
        "collar",
        "Look at the immersion, then set the correction collar.",
    ),
    ("trefoil", Shape.STEP): Cause(
        "three-point strain: a clamp or objective screwed too tight, or dirt or a "
        "bubble at the front lens",
        "Look for dirt and bubbles; loosen the clamp.",
    ),
    ("trefoil", Shape.UNCLEAR): Cause(
        "three-point strain of coverslip or objective, or dirt at the front lens",
        "Look for dirt and bubbles; loosen the clamp.",
    ),
    ("defocus and spherical", Shape.STEP): Cause(
        "the correction collar was turned, or coverslip, depth or immersion changed",
        "Set the correction collar, then refocus; look for bubbles.",
    ),
    ("defocus and spherical", Shape.RAMP): Cause(
        "the immersion's refractive index is changing: oil drying or mixing, water "
        "evaporating, or the temperature",
        "Clean and renew the immersion, set the correction collar, then refocus.",
    ),
    ("defocus and spherical", Shape.SETTLING): Cause(
        "immersion and objective are warming up, the refractive index with them",
        "Wait until it has settled, set the correction collar, then refocus.",
    ),
    ("defocus and spherical", Shape.UNCLEAR): Cause(
        "a mismatch of refractive index or coverslip: immersion, depth or correction "
        "collar",
        "Look at the immersion, set the correction collar, then refocus.",
    ),
    ("coma and astigmatism", Shape.SETTLING): Cause(
        "holder or objective settling, the coverslip tilting with it",
        "Wait until it has settled, then level the sample holder.",
    ),
    ("coma and astigmatism", Shape.UNCLEAR): Cause(
        "the coverslip has tilted, or the objective is off axis",
        "Level the sample holder; check that objective and nosepiece are seated.",
    ),
    ("mixed", Shape.STEP): Cause(
        "unclear, several kinds of modes at once: a bubble or dirt in the immersion, "
        "or a knock",
        "Look at the immersion, clean and renew it; check holder and objective.",
    ),
    ("mixed", Shape.RAMP): Cause(
        "unclear, several kinds of modes together: immersion drying or flowing away, "
        "or the temperature",
        f"Renew the immersion. {_STEADY}.",
    ),
    ("mixed", Shape.SETTLING): Cause(
        "thermal settling of the whole stand",
        f"{_STEADY}, then refocus.",
    ),
    ("mixed", Shape.UNCLEAR): Cause(
        "unclear: no one kind of modes dominates",
        "Check immersion, holder and focus lock; a slide of beads tells more.",
    ),
}

_AFTERWARDS = (
    "If the specimen, stage or objective was changed, or the remedy is done: "
    "re-baseline."
)


def mode_groups(
    names: Sequence[str], shares: Sequence[float]
) -> list[tuple[str, float]]:
    """Return the kinds of modes and their share of the whole, largest first.

    Parameters
    ----------
    names
        The modes' names, such as ``"vertical coma"``.
    shares
        Their squared changes, in any unit.
    """
    total = sum(shares) or 1.0
    groups: dict[str, float] = {}
    for name, share in zip(names, shares, strict=True):
        # "secondary astigmatism" has another cause than astigmatism.
        known = [g for g in _GROUPS if g in name and "secondary" not in name]
        group = known[0] if known else _OTHER
        groups[group] = groups.get(group, 0.0) + share / total
    return sorted(groups.items(), key=lambda item: -item[1])


def likely_cause(names: Sequence[str], shares: Sequence[float], fit: ShapeFit) -> Cause:
    """Return the table's entry for a change.

    Parameters
    ----------
    names, shares
        As of `mode_groups`.
    fit
        The change's shape in time.
    """
    groups = mode_groups(names, shares)
    group, share = groups[0]
    if share < _DOMINANT or group == _OTHER:
        group = _together(dict(groups))
    entry = _TABLE.get((group, fit.shape)) or _TABLE[group, Shape.UNCLEAR]
    remedy = f"{entry.remedy} {_AFTERWARDS}"
    followed = any("spherical" in name for name in names)
    if group == "defocus" and fit.shape is not Shape.STEP and not followed:
        remedy += (
            " (Spherical aberration, the sign of drying oil, is not followed by this "
            'profile; noll = "spherical" does.)'
        )
    return Cause(entry.cause, remedy)


def _together(shares: Mapping[str, float]) -> str:
    """Return the pair of kinds that moved together, or ``mixed``."""
    for pair in _PAIRS:
        parts = [shares.get(kind, 0.0) for kind in pair]
        if min(parts) >= _PART and sum(parts) >= _TOGETHER:
            return " and ".join(pair)
    return "mixed"
