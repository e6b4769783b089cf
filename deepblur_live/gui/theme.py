"""Colours and style sheet: dark for dark rooms, and colour-blind safe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.drift import DriftState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "ALARM",
    "BACKGROUND",
    "CHIP_COLOURS",
    "CURVE_COLOURS",
    "MUTED",
    "PANEL",
    "STYLE",
    "TEXT",
    "WARN",
    "curve_colour",
    "curve_colours",
]

BACKGROUND = "#17191c"
PANEL = "#1f2226"
TEXT = "#e4e6e8"
MUTED = "#9aa0a6"
WARN = "#e69f00"
ALARM = "#ff6a33"

# Okabe and Ito's palette, with blue and vermilion lightened for a dark background.
CURVE_COLOURS = (
    "#e69f00",
    "#56b4e9",
    "#1fbf8f",
    "#f0e442",
    "#6f9bff",
    "#ff7f50",
    "#d98bb8",
    "#c8ccd0",
)

# Background and text colour by state, None before the first frame; the contrast of
# each pair is at least 4.5.
CHIP_COLOURS: Mapping[DriftState | None, tuple[str, str]] = {
    None: ("#3a3f45", TEXT),
    DriftState.BASELINING: ("#56b4e9", "#000000"),
    DriftState.OK: ("#1fbf8f", "#000000"),
    DriftState.WARN: (WARN, "#000000"),
    DriftState.ALARM: (ALARM, "#000000"),
    DriftState.RAW_ONLY: ("#c8ccd0", "#000000"),
    DriftState.STALE: ("#d98bb8", "#000000"),
    DriftState.NOT_FOLLOWED: ("#c8ccd0", "#000000"),
}

STYLE = f"""
QWidget {{ background: {BACKGROUND}; color: {TEXT}; font-size: 13px; }}
QToolTip {{ background: #2b2f34; color: {TEXT}; border: 1px solid #50565c; }}
QToolBar {{ border: 0; spacing: 6px; padding: 0; }}
QToolButton#qt_toolbar_ext_button {{
    background: #9aa0a6; padding: 0; min-width: 16px;
}}
QMenu {{ background: #2b2f34; border: 1px solid #50565c; }}
QMenu::item:selected {{ background: #27506b; }}
QToolButton, QPushButton {{
    background: #2b2f34; border: 1px solid #3a3f45; border-radius: 4px;
    padding: 4px 9px;
}}
QToolButton:hover, QPushButton:hover {{ background: #363b41; }}
QToolButton:checked {{
    background: #27506b; border-color: #56b4e9; color: #ffffff;
}}
QToolButton:disabled, QPushButton:disabled, QDoubleSpinBox:disabled {{
    color: #6a7076;
}}
QDoubleSpinBox {{
    background: #2b2f34; border: 1px solid #3a3f45; border-radius: 4px;
    padding: 3px 4px;
}}
QDoubleSpinBox:focus {{ border-color: #56b4e9; }}
QSplitter::handle {{ background: #2b2f34; }}
QLabel#muted {{ color: {MUTED}; }}
QLabel#status {{ color: {MUTED}; font-size: 12px; }}
QLabel#message {{ color: {WARN}; font-size: 12px; }}
QLabel#overlay {{
    background: rgba(0, 0, 0, 150); border-radius: 3px; padding: 2px 6px;
}}
QLabel#notice {{
    background: rgba(0, 0, 0, 170); border-radius: 4px; padding: 10px 16px;
    font-size: 16px;
}}
"""


def curve_colour(index: int) -> str:
    """Return the colour of a coefficient's curve."""
    return CURVE_COLOURS[index % len(CURVE_COLOURS)]


def curve_colours(kinds: Sequence[str]) -> tuple[str, ...]:
    """Return a colour for each curve: a hue per kind, lighter for each further one.

    Parameters
    ----------
    kinds
        Of the curves; all different for a hue of its own each.
    """
    hues = {kind: curve_colour(k) for k, kind in enumerate(dict.fromkeys(kinds))}
    counts: dict[str, int] = {}
    colours = []
    for kind in kinds:
        nth = counts[kind] = counts.get(kind, -1) + 1
        # Towards white, never quite.
        share = 1 - 0.8**nth
        channels = (int(hues[kind][k : k + 2], 16) for k in (1, 3, 5))
        mixed = (round(value + share * (255 - value)) for value in channels)
        colours.append("#" + "".join(f"{value:02x}" for value in mixed))
    return tuple(colours)
