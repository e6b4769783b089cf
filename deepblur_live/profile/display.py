"""How the window of a rig shows its results."""

from __future__ import annotations

from typing import Literal

from deepblur_live.settings import Section, setting

__all__ = ["Display"]


class Display(Section):
    """How the window shows it."""

    refresh_hz: float = setting(
        30.0, "refresh rate of the window", unit="Hz", gt=0, le=60
    )
    units: Literal["nm", "waves"] = setting("nm", "unit of the drift plot, rms")
    clip_percent: float = setting(
        0.1,
        "share of pixels that autocontrast ignores at each end",
        unit="%",
        ge=0,
        lt=50,
    )
