"""The likely cause and remedy of a change of Zernike modes.

After the table of causes and remedies of Faklaris et al., *Quality assessment in light
microscopy for routine use through simple tools and robust metrics*, J. Cell Biol. 221
(2022), carried over from the PSF of a bead to the modes of the wavefront.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.blur.diagnosis import Cause, ChangeShape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["AFTERWARDS", "group_shares", "zernike_cause"]

_SPHERICAL = 11
# Higher modes, such as secondary astigmatism, have causes of their own.
_GROUPS = {
    4: "defocus",
    5: "astigmatism",
    6: "astigmatism",
    7: "coma",
    8: "coma",
    9: "trefoil",
    10: "trefoil",
    _SPHERICAL: "spherical",
}
_OTHER = "other modes"
# A group is the cause when it holds this share of the squared change.
_DOMINANT = 0.65
# Two groups are a joint cause when each holds the first share at least, and both
# together the second.
_PART, _TOGETHER = 0.15, 0.8
_PAIRS = (("defocus", "spherical"), ("coma", "astigmatism"))

_EQUILIBRIUM = "Let stand, stage and incubator reach thermal equilibrium"
_RESEAT = "Reseat the filter cube and any slider; loosen the sample clamp."
_LEVEL = (
    "Level the sample holder; check that objective and nosepiece are properly seated."
)
_DIRT = "Look for dirt and bubbles; loosen the clamp."

_TABLE: Mapping[tuple[str, ChangeShape], Cause] = {
    ("defocus", ChangeShape.STEP): Cause(
        "the focus has jumped: a knock, a sample holder that moved, or a lost focus "
        "lock",
        "Refocus; check that the holder sits flat and that the focus lock is on.",
    ),
    ("defocus", ChangeShape.RAMP): Cause(
        "focus drift: thermal expansion of stand or stage, a sagging holder, or "
        "immersion medium evaporating or running off",
        "Refocus, switch on the focus lock and check the immersion. "
        f"{_EQUILIBRIUM} before a long recording.",
    ),
    ("defocus", ChangeShape.SETTLING): Cause(
        "thermal settling after switching on, heating or opening the incubator",
        f"{_EQUILIBRIUM}, then refocus.",
    ),
    ("defocus", ChangeShape.UNCLEAR): Cause(
        "the focus has moved, too recently to distinguish a jump from a drift",
        "Refocus; check the focus lock, the holder and the immersion.",
    ),
    ("astigmatism", ChangeShape.STEP): Cause(
        "an element in the beam path was moved or is strained: filter cube, dichroic, "
        "prism, or a bent coverslip",
        _RESEAT,
    ),
    ("astigmatism", ChangeShape.RAMP): Cause(
        "increasing strain: a dichroic or objective warming unevenly, or a bending "
        "coverslip",
        f"{_EQUILIBRIUM}; loosen the sample clamp; check the mount of the dichroic.",
    ),
    ("astigmatism", ChangeShape.SETTLING): Cause(
        "uneven warming of objective or dichroic",
        f"{_EQUILIBRIUM}; switch an objective heater on an hour before imaging.",
    ),
    ("astigmatism", ChangeShape.UNCLEAR): Cause(
        "strain or tilt in the beam path: dichroic, filter cube, objective or "
        "coverslip",
        _RESEAT,
    ),
    ("coma", ChangeShape.STEP): Cause(
        "the coverslip has tilted, or the objective is no longer on axis",
        _LEVEL,
    ),
    ("coma", ChangeShape.RAMP): Cause(
        "the coverslip is slowly tilting: a sagging holder, or immersion medium "
        "pulling on one side",
        "Level and secure the sample holder; check the immersion.",
    ),
    ("coma", ChangeShape.SETTLING): Cause(
        "the holder or objective is settling and the coverslip tilting with it",
        "Wait until it has settled, then level the sample holder.",
    ),
    ("coma", ChangeShape.UNCLEAR): Cause(
        "the coverslip is tilting, or the objective is off axis",
        _LEVEL,
    ),
    ("spherical", ChangeShape.STEP): Cause(
        "the correction collar was turned; coverslip, depth or immersion changed; or a "
        "bubble entered the immersion",
        "Set the correction collar; look for bubbles; check coverslip and immersion.",
    ),
    ("spherical", ChangeShape.RAMP): Cause(
        "the refractive index of the immersion is changing: oil drying or mixing, "
        "water evaporating, or a change of temperature",
        "Clean and renew the immersion, then set the correction collar.",
    ),
    ("spherical", ChangeShape.SETTLING): Cause(
        "the immersion is warming up, and its refractive index is changing with it",
        "Wait until it has settled, then set the correction collar.",
    ),
    ("spherical", ChangeShape.UNCLEAR): Cause(
        "a mismatch of refractive index or coverslip thickness: immersion, depth or "
        "correction collar",
        "Check the immersion, then set the correction collar.",
    ),
    ("trefoil", ChangeShape.STEP): Cause(
        "three-point strain: a clamp or objective screwed too tight, or dirt or a "
        "bubble at the front lens",
        _DIRT,
    ),
    ("trefoil", ChangeShape.UNCLEAR): Cause(
        "three-point strain of coverslip or objective, or dirt at the front lens",
        _DIRT,
    ),
    ("defocus and spherical", ChangeShape.STEP): Cause(
        "the correction collar was turned, or coverslip, depth or immersion changed",
        "Set the correction collar, then refocus; look for bubbles.",
    ),
    ("defocus and spherical", ChangeShape.RAMP): Cause(
        "the refractive index of the immersion is changing: oil drying or mixing, "
        "water evaporating, or a change of temperature",
        "Clean and renew the immersion, set the correction collar, then refocus.",
    ),
    ("defocus and spherical", ChangeShape.SETTLING): Cause(
        "immersion and objective are warming up, and the refractive index is changing "
        "with them",
        "Wait until it has settled, set the correction collar, then refocus.",
    ),
    ("defocus and spherical", ChangeShape.UNCLEAR): Cause(
        "a mismatch of refractive index or coverslip thickness: immersion, depth or "
        "correction collar",
        "Check the immersion, set the correction collar, then refocus.",
    ),
    ("coma and astigmatism", ChangeShape.SETTLING): Cause(
        "the holder or objective is settling and the coverslip tilting with it",
        "Wait until it has settled, then level the sample holder.",
    ),
    ("coma and astigmatism", ChangeShape.UNCLEAR): Cause(
        "the coverslip has tilted, or the objective is off axis",
        _LEVEL,
    ),
    ("mixed", ChangeShape.STEP): Cause(
        "unclear, several aberrations at once: a bubble or dirt in the immersion, or a "
        "knock",
        "Check the immersion, clean and renew it; check holder and objective.",
    ),
    ("mixed", ChangeShape.RAMP): Cause(
        "unclear, several aberrations growing together: immersion drying or running "
        "off, or a change of temperature",
        f"Renew the immersion. {_EQUILIBRIUM}.",
    ),
    ("mixed", ChangeShape.SETTLING): Cause(
        "thermal settling of the whole stand",
        f"{_EQUILIBRIUM}, then refocus.",
    ),
    ("mixed", ChangeShape.UNCLEAR): Cause(
        "unclear: no single aberration dominates",
        "Check immersion, holder and focus lock; a bead slide is more conclusive.",
    ),
}

AFTERWARDS = (
    "If specimen, stage position or objective were changed on purpose, and after any "
    "remedy: re-baseline."
)
"""The end of every remedy."""

_NOT_FOLLOWED = (
    " (Spherical aberration, the signature of drying oil, is not followed by this "
    'profile; noll = "spherical" adds it.)'
)


def group_shares(
    noll: Sequence[int], change: NDArray[np.float64]
) -> list[tuple[str, float]]:
    """Return the groups of modes and their shares of the squared change.

    Parameters
    ----------
    noll
        (P,) Noll indices of the modes.
    change
        (P,) their changes, in any unit.

    Returns
    -------
    list of (str, float)
        The largest share first; the shares sum to 1.
    """
    squares = [float(moved) ** 2 for moved in change]
    total = sum(squares) or 1.0
    groups: dict[str, float] = {}
    for index, square in zip(noll, squares, strict=True):
        group = _GROUPS.get(index, _OTHER)
        groups[group] = groups.get(group, 0.0) + square / total
    return sorted(groups.items(), key=lambda item: -item[1])


def zernike_cause(
    noll: Sequence[int], change: NDArray[np.float64], shape: ChangeShape
) -> Cause:
    """Return the likely cause of a change of Zernike modes, and its remedy.

    Parameters
    ----------
    noll
        (P,) Noll indices of the modes.
    change
        (P,) their changes, in any unit.
    shape
        How the change has developed over time.
    """
    groups = group_shares(noll, change)
    group, share = groups[0]
    if share < _DOMINANT or group == _OTHER:
        group = _joint_group(dict(groups))
    entry = _TABLE.get((group, shape)) or _TABLE[group, ChangeShape.UNCLEAR]
    remedy = f"{entry.remedy} {AFTERWARDS}"
    if group == "defocus" and shape is not ChangeShape.STEP and _SPHERICAL not in noll:
        remedy += _NOT_FOLLOWED
    return Cause(entry.cause, remedy)


def _joint_group(shares: Mapping[str, float]) -> str:
    """Return the pair of groups that changed together, or ``mixed``."""
    for pair in _PAIRS:
        parts = [shares.get(group, 0.0) for group in pair]
        if min(parts) >= _PART and sum(parts) >= _TOGETHER:
            return " and ".join(pair)
    return "mixed"
