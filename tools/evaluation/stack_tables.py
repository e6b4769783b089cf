"""The tables of the real stacks, as Markdown, from rows of planes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from evaluation.replay import UNCHANGED_UM, is_monotone, reported
from evaluation.stacks import TOLERANCE, agreement
from evaluation.table import grouped, markdown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evaluation.stacks import Stack
    from evaluation.table import Row

__all__ = ["CONTROL", "REPLAY", "TRIVIAL", "stack_table"]

CONTROL = "control: ratio of two planes' spectra, defocus alone"
TRIVIAL = "trivial: the same answer for every plane"
REPLAY = "replay"
# Mean of |γ4| over the paper's range of ±0.15 waves.
_CONSTANT = 0.075


def trivial(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of an answer that does not depend on the plane."""
    return [
        {
            "z_um": row["z_um"],
            "stage": row["stage"],
            "found": _CONSTANT,
            "answered": True,
            "wrong": abs(_CONSTANT - row["stage"]) > TOLERANCE,
        }
        for row in rows
    ]


def _figure(value: float, form: str) -> str:
    # Without the sign of a rounded zero.
    return format(round(value, 6) + 0.0, form) if np.isfinite(value) else "–"


def _summary(methods: dict[str, list[Row]], stack: Stack) -> str:
    """Return how well each method follows the stage: near focus, and everywhere."""
    lines = []
    everywhere = max(abs(row["z_um"]) for rows in methods.values() for row in rows)
    for within in sorted({min(stack.near_um, everywhere), everywhere}):
        for name, rows in methods.items():
            found = agreement(rows, within)
            lines.append(
                [
                    name,
                    f"{within:g}",
                    f"{found.answered} of {found.planes}",
                    str(found.wrong),
                    _figure(found.correlation, ".2f"),
                    _figure(found.slope, ".2f"),
                    _figure(found.scatter, ".3f"),
                ]
            )
    head = ["method", "within, µm", "answered", "wrong", "correlation with the stage"]
    return markdown([*head, "slope (1 is right)", "scatter, waves"], lines)


def _beads(methods: dict[str, list[Row]], stack: Stack) -> str:
    """Return how well each method's PSF explains the mean bead near focus, in dB."""
    near = {
        name: {
            row["z_um"]: row
            for row in rows
            if "bead_snr" in row and abs(row["z_um"]) <= 2 * stack.near_um + 1e-9
        }
        for name, rows in methods.items()
    }
    near = {name: rows for name, rows in near.items() if rows}
    perfect = {z: row for rows in near.values() for z, row in rows.items()}
    lines = []
    for z, row in sorted(perfect.items()):
        line = [f"{z:.2f}", _decibels(row, "bead_snr_in_focus")]
        for rows in near.values():
            found = _decibels(rows[z], "bead_snr") if z in rows else "–"
            line.append(found if rows.get(z, row)["answered"] else f"({found})")
        lines.append(line)
    return markdown(["z, µm", "perfect objective in focus", *near], lines)


def _decibels(row: Row, key: str) -> str:
    """Return the SNR of a PSF, and with a Gaussian fitted besides."""
    return f"{row[key]:.1f} / {row[key + '_blurred']:.1f}"


def _replays(rows: list[Row]) -> str:
    """Return what the monitor reported in each replay."""
    lines = []
    for (method, side), planes in grouped(rows, "method", "side").items():
        away = planes[1:]
        states = Counter(row["state"] for row in away)
        beyond = [r for r in away if abs(r["z_um"]) > UNCHANGED_UM + 1e-9]
        found = [(abs(r["z_um"]), reported(r)) for r in away]
        known = [(distance, *change) for distance, change in found if change]
        correlation, of_root, slope = np.nan, np.nan, "–"
        if len(known) > 2:
            distance, change, _, units = zip(*known, strict=True)
            correlation = float(np.corrcoef(distance, change)[0, 1])
            # Near the focus |ĥ|² changes with the square of the distance.
            of_root = float(np.corrcoef(distance, np.sqrt(change))[0, 1])
            slope = f"{np.polyfit(distance, change, 1)[0]:.2f} {units[-1]}"
        unchanged = sum(r["unchanged"] for r in beyond)
        lines.append(
            [
                f"{method}, {side}",
                ", ".join(f"{state} {count}" for state, count in states.items()),
                "yes" if is_monotone(away) else "no",
                f"{_figure(correlation, '.2f')} ({_figure(of_root, '.2f')})",
                slope,
                f"{unchanged} of {len(beyond)}",
            ]
        )
    head = ["replay from the focus", "state by plane", "change is monotone"]
    head += ["correlation with distance (of the square root)", "slope, per µm"]
    return markdown([*head, f"beyond {UNCHANGED_UM:g} µm called unchanged"], lines)


def _reported(row: Row | None) -> str:
    """Return one plane's defocus; in brackets where refused, bold where wrong."""
    if row is None or "found" not in row:
        return "–"
    text = f"{row['found']:.3f}"
    if "sigma" in row:
        text += f" ± {row['sigma']:.3f}"
    if not row["answered"]:
        return f"({text})"
    return f"**{text}**" if row["wrong"] else text


def _state(row: Row | None) -> str:
    if row is None:
        return "–"
    found = reported(row)
    if found is None:
        return str(row["state"])
    change, _, unit = found
    return f"{row['state']}, {change:.3f} {unit}"


def _planes(methods: dict[str, list[Row]], replays: list[Row]) -> str:
    """Return every plane: the stage, what each method found, and the monitor."""
    by_z = {name: {r["z_um"]: r for r in rows} for name, rows in methods.items()}
    monitors = {
        method: {row["z_um"]: row for row in reversed(rows)}
        for (method,), rows in grouped(replays, "method").items()
    }
    stages = {r["z_um"]: r["stage"] for rows in methods.values() for r in rows}
    lines = [
        [f"{z:.2f}", f"{stages[z]:.3f}"]
        + [_reported(found.get(z)) for found in by_z.values()]
        + [_state(found.get(z)) for found in monitors.values()]
        for z in sorted(stages)
    ]
    head = ["z, µm", "stage", *by_z, *(f"monitor: {name}" for name in monitors)]
    return markdown(head, lines)


def stack_table(rows: Sequence[Row], stack: Stack) -> str:
    """Return the tables of one stack: summary, replays, and every plane.

    Parameters
    ----------
    rows
        Those of `plane`, `control` and `replay`, each with its ``method``; those of a
        replay have the key ``side`` too.
    stack
        The stack.
    """
    ordered = sorted(rows, key=lambda row: float(row["z_um"]))
    replays = [row for row in rows if row.get("side")]
    single = [row for row in ordered if not row.get("side")]
    methods = {method: found for (method,), found in grouped(single, "method").items()}
    parts = []
    if methods:
        longest = max(methods.values(), key=len)
        parts.append(_summary(methods | {TRIVIAL: trivial(longest)}, stack))
    if any("bead_snr" in row for row in single):
        parts.append(_beads(methods, stack))
    if replays:
        parts.append(_replays(replays))
    if methods:
        parts.append(_planes(methods, replays))
    return "\n\n".join(parts)
