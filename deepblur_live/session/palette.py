"""Colours of the session's figures, distinguishable by the colour-blind."""

from __future__ import annotations

__all__ = ["ALARM", "CURVES", "GRID", "INK", "MUTED", "STATES", "WARN"]

INK = "#1d2327"
MUTED = "#69727a"
GRID = "#e5e8ea"
WARN = "#c98500"
ALARM = "#c43c00"

# Okabe and Ito's palette, its yellow darkened for white paper.
CURVES = (
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#b7a400",
    "#0072b2",
    "#d55e00",
    "#cc79a7",
    "#5a6268",
)

# By the state's name, as the drift log has it.
STATES = {
    "baselining": "#56b4e9",
    # Not green: unchanged optics may be bad ones.
    "ok": "#0072b2",
    "warn": "#e69f00",
    "alarm": "#d55e00",
    "raw-only": "#8a949c",
    "stale": "#cc79a7",
    "not followed": "#8a949c",
}
