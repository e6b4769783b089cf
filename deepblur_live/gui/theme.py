"""Colours, safe for the colour-blind, on a dark and on a light ground."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepblur_live.drift import DriftState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "ALARM",
    "BACKGROUND",
    "CHIP_COLOURS",
    "DARK",
    "GRADE_COLOURS",
    "LIGHT",
    "OVERLAY_STYLE",
    "TEXT",
    "WARN",
    "Colours",
    "chip_style",
    "curve_colours",
]

# Images have a dark surround and light captions on any ground.
BACKGROUND = "#17191c"
TEXT = "#e4e6e8"
# Grounds of a state's name or an alert, written in black.
WARN, ALARM = "#e69f00", "#ff6a33"

OVERLAY_STYLE = f"""
QLabel {{ color: {TEXT}; border-radius: 3px; padding: 2px 6px;
    background: rgba(0, 0, 0, 150); }}
QLabel#notice {{ background: rgba(0, 0, 0, 170); padding: 10px 16px; }}
QLabel#scale {{ border-bottom: 3px solid {TEXT}; border-radius: 0; padding: 1px 0; }}
"""


@dataclass(frozen=True)
class Colours:
    """Colours of plots and texts on one ground.

    Parameters
    ----------
    ground, text, muted, axis
        Background of a plot, its curve, its texts and its axes.
    warn, alarm
        The two limits; wherever they are used, their names are shown as well.
    curves
        Curves of the coefficients.
    """

    ground: str
    text: str
    muted: str
    axis: str
    warn: str
    alarm: str
    curves: tuple[str, ...]


# Okabe and Ito's palette, with blue and vermilion lightened for a dark ground.
DARK = Colours(
    ground="#1f2226",
    text=TEXT,
    muted="#9aa0a6",
    axis="#4a5056",
    warn=WARN,
    alarm=ALARM,
    curves=(
        "#e69f00",
        "#56b4e9",
        "#1fbf8f",
        "#f0e442",
        "#6f9bff",
        "#ff7f50",
        "#d98bb8",
        "#c8ccd0",
    ),
)

# The same hues, darkened where a light ground needs it.
LIGHT = Colours(
    ground="#ffffff",
    text="#1c1e21",
    muted="#5a6066",
    axis="#a0a6ac",
    warn="#9a6a00",
    alarm="#c03d00",
    curves=(
        "#c98a00",
        "#2f97d3",
        "#009e73",
        "#9c9000",
        "#0058a8",
        "#d55e00",
        "#b8558e",
        "#4a4f54",
    ),
)

# Background and text colour by state, None before the first frame; the contrast of
# each pair is at least 4.5.
CHIP_COLOURS: Mapping[DriftState | None, tuple[str, str]] = {
    None: ("#3a3f45", TEXT),
    DriftState.BASELINING: ("#56b4e9", "#000000"),
    # Not green: unchanged optics may be bad ones, and green means good quality.
    DriftState.OK: ("#8ea6ff", "#000000"),
    DriftState.WARN: (WARN, "#000000"),
    DriftState.ALARM: (ALARM, "#000000"),
    DriftState.RAW_ONLY: ("#c8ccd0", "#000000"),
    DriftState.STALE: ("#d98bb8", "#000000"),
    DriftState.NOT_FOLLOWED: ("#c8ccd0", "#000000"),
}

# The same by the quality grade of the blur; "" where it has none.
GRADE_COLOURS: Mapping[str, tuple[str, str]] = {
    "": ("#3a3f45", TEXT),
    "good": ("#1fbf8f", "#000000"),
    "fair": ("#f0e442", "#000000"),
    "poor": (ALARM, "#000000"),
    "uncertain": ("#c8ccd0", "#000000"),
}


def chip_style(state: DriftState | None) -> str:
    """Return the style sheet of a label that shows a state."""
    ground, ink = CHIP_COLOURS[state]
    return (
        f"background: {ground}; color: {ink}; border-radius: 4px;"
        "padding: 3px 12px; font-weight: bold;"
    )


def curve_colours(kinds: Sequence[str], colours: Colours = DARK) -> tuple[str, ...]:
    """Return a colour for each curve: a hue per kind, lighter for each further one.

    Parameters
    ----------
    kinds
        Kind of each curve; if all differ, each has its own hue.
    colours
        Colours for the background they are drawn on.
    """
    hues = {
        kind: colours.curves[k % len(colours.curves)]
        for k, kind in enumerate(dict.fromkeys(kinds))
    }
    counts: dict[str, int] = {}
    drawn = []
    for kind in kinds:
        nth = counts[kind] = counts.get(kind, -1) + 1
        # Lighter and lighter, but never white.
        share = 1 - 0.8**nth
        channels = (int(hues[kind][k : k + 2], 16) for k in (1, 3, 5))
        mixed = (round(value + share * (255 - value)) for value in channels)
        drawn.append("#" + "".join(f"{value:02x}" for value in mixed))
    return tuple(drawn)
