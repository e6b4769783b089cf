"""What is said about a change of the blur: its shape over time, its likely cause."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Cause", "ChangeShape"]


class ChangeShape(StrEnum):
    """How a change has developed over time."""

    STEP = "step"
    RAMP = "ramp"
    SETTLING = "settling"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class Cause:
    """The likely cause of a change and its remedy, as text for the user.

    Parameters
    ----------
    cause
        One phrase; starts with ``unclear`` when the cause cannot be identified.
    remedy
        What to do, in one or two sentences.
    """

    cause: str
    remedy: str
