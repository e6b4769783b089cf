"""The drift plot: coefficients with band and truth, the change with its limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deepblur_live.drift import DriftState
from deepblur_live.session.axes import beside, dress, time_unit
from deepblur_live.session.history import through_extremes
from deepblur_live.session.palette import ALARM, CURVES, INK, MUTED, WARN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from deepblur_live.drift import Alert
    from deepblur_live.profile import Profile
    from deepblur_live.session.history import History

__all__ = ["save_drift_plot"]

_DPI = 110


def save_drift_plot(
    path: Path,
    history: History,
    names: Sequence[str],
    profile: Profile,
    alerts: Sequence[Alert],
) -> None:
    """Write a PNG of the session: coefficients above, change from baseline below.

    Bands are one standard deviation; dashes are the truth, in the twin nearest the
    track; vertical lines are alerts. In nm or waves as the profile's display says.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    in_nm = profile.display.units == "nm"
    unit = "nm" if in_nm else "waves"
    scale = profile.optics.wavelength_nm if in_nm else 1.0
    divisor, unit_name = time_unit(float(history.times[-1] - history.times[0]))
    times = history.times / divisor

    figure = Figure(figsize=(11, 6.4), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(
        2, 1, sharex=True, gridspec_kw={"height_ratios": (1.8, 1)}
    )
    _draw_coefficients(upper, times, history, names, scale)
    upper.set_ylabel(f"coefficient ({unit} rms)")
    upper.set_title(
        f"Wavefront over the session: {profile.name}", loc="left", color=INK
    )
    _draw_change(lower, times, history, profile, scale)
    lower.set_ylabel(f"change ({unit} rms)")
    lower.set_xlabel(f"time ({unit_name})")
    for alert in alerts:
        colour = ALARM if alert.level is DriftState.ALARM else WARN
        for axis in (upper, lower):
            axis.axvline(alert.time / divisor, color=colour, linewidth=1.2, alpha=0.8)
    span = max(float(times[-1] - times[0]), 1e-3)
    lower.set_xlim(times[0], times[0] + span)
    figure.savefig(path, dpi=_DPI)


def _draw_coefficients(
    axis: Axes, times: np.ndarray, history: History, names: Sequence[str], scale: float
) -> None:
    dress(axis, INK)
    axis.axhline(0, color=MUTED, linewidth=0.8)
    known = bool(np.isfinite(history.truth).any())
    for k, name in enumerate(names):
        colour = CURVES[k % len(CURVES)]
        mean = history.coefficients[:, k] * scale
        sigma = history.sigma[:, k] * scale
        axis.fill_between(
            times, mean - sigma, mean + sigma, color=colour, alpha=0.22, linewidth=0
        )
        low, high = history.low[:, k] * scale, history.high[:, k] * scale
        line = through_extremes(times, low, high)
        axis.plot(*line, color=colour, linewidth=1.7, label=name)
        if known:
            axis.plot(
                times, history.truth[:, k] * scale, "--", color=colour, linewidth=1.1
            )
    axis.plot([], [], color=MUTED, linewidth=6, alpha=0.3, label="± 1 σ")
    if known:
        axis.plot([], [], "--", color=MUTED, linewidth=1.1, label="truth")
    axis.legend(
        loc="upper left",
        bbox_to_anchor=(1.005, 1.02),
        frameon=False,
        fontsize=9.5,
        labelcolor=INK,
    )


def _draw_change(
    axis: Axes, times: np.ndarray, history: History, profile: Profile, scale: float
) -> None:
    dress(axis, INK)
    change = history.change * scale
    limits = (
        ("warn", profile.drift.warn_waves * scale, WARN),
        ("alarm", profile.drift.alarm_waves * scale, ALARM),
    )
    highest = history.change_high * scale
    top = 1.25 * max(limits[1][1], float(np.nanmax(highest, initial=0.0)))
    for name, limit, colour in limits:
        axis.axhline(limit, color=colour, linewidth=1.1)
        beside(axis, limit, name, colour)
    axis.axhspan(limits[0][1], limits[1][1], color=WARN, alpha=0.08, linewidth=0)
    axis.axhspan(limits[1][1], top, color=ALARM, alpha=0.08, linewidth=0)
    line = through_extremes(times, history.change_low * scale, highest)
    axis.plot(*line, color=INK, linewidth=1.7)
    missing = np.isnan(change)
    if missing.any() and missing[0]:
        first = times[int(np.argmin(missing))] if not missing.all() else times[-1]
        axis.axvspan(times[0], first, color=MUTED, alpha=0.12, linewidth=0)
        axis.annotate(
            "baseline",
            (times[0], 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(4, -4),
            textcoords="offset points",
            color=MUTED,
            va="top",
            fontsize=9.5,
        )
    axis.set_ylim(0, top)
