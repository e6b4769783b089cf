"""The report's figures: each for paper, or as an SVG that takes the page's colours."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deepblur_live.optics import reach
from deepblur_live.session.axes import beside, dress
from deepblur_live.session.palette import (
    ALARM,
    CURVES,
    GRID,
    INK,
    MUTED,
    STATES,
    WARN,
)
from deepblur_live.session.report.scale import Scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from deepblur_live.session.report.read import SessionData

__all__ = ["change_figure", "modes_figure", "svg", "wavefront_figure"]

_WIDE = 10.6
_FONT: dict[Any, Any] = {
    "font.size": 10.5,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "axes.labelcolor": INK,
    "text.color": INK,
}
_THEMED = {INK: "--ink", MUTED: "--muted", GRID: "--grid", WARN: "--warn"}
_THEMED |= {ALARM: "--alarm", CURVES[4]: "--blue", CURVES[7]: "--slate"}


def change_figure(data: SessionData) -> Figure:
    """Draw the change from the baseline with its limits, its alerts, and the states."""
    scale = Scale(data)
    with mpl.rc_context(_FONT):
        figure = _figure(3.9)
        axis, strip = figure.subplots(
            2, 1, sharex=True, gridspec_kw={"height_ratios": (12, 1)}
        )
        _draw_change(axis, data, scale)
        _draw_states(strip, data, scale)
    return figure


def wavefront_figure(data: SessionData) -> Figure:
    """Draw the rms wavefront error and the Strehl ratio."""
    scale = Scale(data)
    with mpl.rc_context(_FONT):
        figure = _figure(3.6)
        upper, lower = figure.subplots(2, 1, sharex=True)
        rms = data.numbers["wavefront_rms_waves"] * scale.factor
        dress(upper, INK)
        upper.plot(*scale.line(rms), color=CURVES[4], linewidth=1.2)
        upper.set_ylabel(f"rms ({scale.unit})")
        upper.set_ylim(0, 1.15 * _highest(rms, 0.02 * scale.factor))
        dress(lower, INK)
        lower.plot(*scale.line(data.numbers["strehl"]), color=CURVES[2], linewidth=1.2)
        lower.axhline(0.8, color=WARN, linewidth=1, linestyle=(0, (4, 3)))
        beside(lower, 0.8, "0.8", WARN)
        lower.set_ylabel("Strehl ratio")
        lower.set_ylim(0, 1.03)
        _mark_alerts(data, scale, upper, lower)
        _time_axis(lower, scale)
    return figure


def modes_figure(data: SessionData) -> Figure:
    """Draw each mode with its bands, and the limits it would reach all by itself."""
    scale = Scale(data)
    tracked = data.coefficients() * scale.factor
    sigma = data.coefficients("sigma_") * scale.factor
    truth = data.coefficients("truth_") * scale.factor
    limit = data.profile.drift.alarm_waves * scale.factor
    rows = -(-len(data.modes) // 2)
    with mpl.rc_context(_FONT):
        figure = _figure(0.5 + 1.65 * rows)
        grid = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False)
        # The first estimates may know nothing; all others' bands are in view.
        bands = np.abs(tracked) + reach(0.95) * sigma
        bands = bands[np.argsort(bands.max(1))[: -(-len(bands) * 9 // 10)]]
        drawn = [np.abs(tracked), np.abs(truth), bands]
        drawn += [
            np.abs(level) * scale.factor + limit for *_, level in _baselines(data)
        ]
        top = 1.05 * max(_highest(np.asarray(part), limit) for part in drawn)
        for k, axis in enumerate(grid.ravel()):
            if k >= len(data.modes):
                axis.set_visible(False)
                continue
            _draw_mode(axis, data, scale, (tracked[:, k], sigma[:, k], truth[:, k]), k)
            axis.set_ylim(-top, top)
            axis.set_xlim(scale.begin, scale.end)
            if k + 2 >= len(data.modes):
                axis.tick_params(labelbottom=True)
            if k % 2 == 0:
                axis.set_ylabel(f"{scale.unit} rms")
        figure.supxlabel(f"time ({scale.time_name})", fontsize=10)
    return figure


def svg(figure: Figure, salt: str) -> str:
    """Return a figure as SVG for a page: its text is text, its colours the page's.

    Parameters
    ----------
    salt
        Another for each figure of a page: their parts are named by it.
    """
    content = io.StringIO()
    options: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": salt}
    unsaid = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context(options):
        figure.savefig(content, format="svg", transparent=True, metadata=unsaid)
    text = content.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text[text.index("<svg") :]
    # Wide as the page lets it be.
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    for colour, variable in _THEMED.items():
        text = text.replace(colour, f"var({variable})")
    return text


def _figure(height: float) -> Figure:
    figure = Figure(figsize=(_WIDE, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _draw_change(axis: Axes, data: SessionData, scale: Scale) -> None:
    dress(axis, INK)
    drift = data.profile.drift
    change = data.numbers["change_waves"] * scale.factor
    sigma = data.numbers["change_sigma_waves"] * scale.factor
    warn, alarm = drift.warn_waves * scale.factor, drift.alarm_waves * scale.factor
    top = 1.15 * max(_highest(change + sigma, 0.0), 1.1 * alarm)
    axis.axhspan(warn, alarm, color=WARN, alpha=0.09, linewidth=0)
    axis.axhspan(alarm, top, color=ALARM, alpha=0.09, linewidth=0)
    for name, limit, colour in (("warn", warn, WARN), ("alarm", alarm, ALARM)):
        axis.axhline(limit, color=colour, linewidth=1.1)
        beside(axis, limit, f"{name} {_amount(limit, scale.unit)}", colour)
    band = scale.band(np.maximum(change - sigma, 0), change + sigma)
    axis.fill_between(*band, color=CURVES[4], alpha=0.25, linewidth=0)
    axis.plot(*scale.line(change), color=CURVES[4], linewidth=1.3)
    _mark_alerts(data, scale, axis)
    axis.set_ylim(0, top)
    axis.set_ylabel(f"change from baseline\n({scale.unit} rms)")


def _draw_states(strip: Axes, data: SessionData, scale: Scale) -> None:
    for span in data.spans:
        colour = STATES.get(span.state, MUTED)
        edges = (span.begin * scale.second, span.end * scale.second)
        strip.axvspan(*edges, color=colour, linewidth=0)
    strip.set_yticks([])
    strip.set_ylabel("state", rotation=0, ha="right", va="center", color=MUTED)
    for side in strip.spines.values():
        side.set_visible(False)
    strip.tick_params(colors=MUTED, labelcolor=INK)
    _time_axis(strip, scale)


def _draw_mode(
    axis: Axes,
    data: SessionData,
    scale: Scale,
    values: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    k: int,
) -> None:
    tracked, sigma, truth = values
    dress(axis, INK)
    colour = CURVES[k % len(CURVES)]
    axis.axhline(0, color=MUTED, linewidth=0.8)
    limit = data.profile.drift.alarm_waves * scale.factor
    for begin, end, baseline in _baselines(data):
        level = baseline[k] * scale.factor
        x = [begin * scale.second, end * scale.second]
        for edge in (level - limit, level + limit):
            axis.plot(
                x, [edge, edge], color=ALARM, linewidth=0.9, alpha=0.7, dashes=(4, 3)
            )
    for width, alpha in ((reach(0.95), 0.16), (1.0, 0.28)):
        band = scale.band(tracked - width * sigma, tracked + width * sigma)
        axis.fill_between(*band, color=colour, alpha=alpha, linewidth=0)
    axis.plot(*scale.line(tracked), color=colour, linewidth=1.2)
    if np.isfinite(truth).any():
        axis.plot(*scale.line(truth), color=INK, linewidth=0.9, dashes=(3, 2))
    axis.set_title(data.modes[k], loc="left", color=INK, pad=3)
    _mark_alerts(data, scale, axis)


def _baselines(data: SessionData) -> list[tuple[float, float, list[float]]]:
    """Return begin, end (s) and the P coefficients of each baseline."""
    told = data.told(
        "baselineSet", "rebaselined", "specimenChanged", "brightnessChanged"
    )
    if not told:
        return []
    ends = [float(event["time_s"]) for event in told[1:]] + [float(data.times[-1])]
    return [
        (float(event["time_s"]), end, event["coefficients"])
        for event, end in zip(told, ends, strict=True)
        if len(event.get("coefficients") or ()) == len(data.modes)
    ]


def _mark_alerts(data: SessionData, scale: Scale, *axes: Axes) -> None:
    for event in data.told("alertRaised"):
        colour = ALARM if event["alert"]["level"] == "alarm" else WARN
        for axis in axes:
            x = float(event["alert"]["time"]) * scale.second
            axis.axvline(x, color=colour, linewidth=1.1, alpha=0.85)


def _time_axis(axis: Axes, scale: Scale) -> None:
    axis.set_xlim(scale.begin, scale.end)
    axis.set_xlabel(f"time ({scale.time_name})")


def _highest(values: NDArray[np.float64], least: float) -> float:
    return float(np.nanmax(values, initial=least))


def _amount(value: float, unit: str) -> str:
    return f"{value:.0f} nm" if unit == "nm" else f"{value:.3f}"
