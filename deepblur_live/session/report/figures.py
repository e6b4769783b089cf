"""The figures of a session: its overview, and those of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deepblur_live.session.columns import CONTRAST_LIMITS, change_limit_columns
from deepblur_live.session.figure_style import FONT, WIDE, set_margins, style
from deepblur_live.session.palette import (
    ALARM,
    CURVES,
    INK,
    MUTED,
    STATES,
    WARN,
)
from deepblur_live.session.report.baselines import is_of_another
from deepblur_live.session.report.curves import Curves

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from deepblur_live.session.blur_facts import BlurFacts
    from deepblur_live.session.report.read import SessionData

__all__ = [
    "change_figure",
    "coefficients_figure",
    "overview_figure",
    "quality_figure",
]

# With more coefficients than this their legend is set smaller.
_MANY = 12
# The area above a limit; above the second one both areas overlap.
_AREA: dict[str, Any] = {"alpha": 0.07, "linewidth": 0}
# Points of a curve in a plot of half the width.
_HALF_POINTS = 700


def overview_figure(data: SessionData) -> Figure:
    """Draw all coefficients, the change from the baseline, and the state."""
    curves = Curves(data)
    with mpl.rc_context(FONT):
        figure, (upper, axis, strip) = _figure(6.6, (18, 10, 1))
        # The legend takes as much room as its names need.
        figure.set_layout_engine("constrained")
        style(upper)
        upper.axhline(0, color=MUTED, linewidth=0.8)
        shown = data.family.names[: data.family.charted]
        colours = _curve_colours(data.family)
        for k, (name, colour) in enumerate(zip(shown, colours, strict=True)):
            _draw_coefficient(upper, data, curves, k, colour, (1.0,), colour)
            upper.plot([], [], color=colour, label=name)
        upper.plot([], [], color=MUTED, linewidth=6, alpha=0.3, label="± 1 σ")
        if np.isfinite(data.coefficients("truth_")).any():
            upper.plot([], [], color=MUTED, dashes=(3, 2), label="truth")
        # A field has many terms.
        size = 9.5 if len(shown) <= _MANY else 7.5
        upper.legend(
            loc="upper left", bbox_to_anchor=(1.005, 1.02), frameon=False, fontsize=size
        )
        upper.set_ylabel(f"coefficient ({curves.coefficient.name})")
        upper.set_title(f"Blur over the session: {data.profile.name}", loc="left")
        _mark_alerts(data, curves, upper)
        _draw_change(axis, data, curves)
        _draw_states(strip, data, curves)
    return figure


def change_figure(data: SessionData) -> Figure:
    """Draw the change from the baseline with its limits, its alerts, and the state."""
    curves = Curves(data)
    with mpl.rc_context(FONT):
        known = np.isfinite(data.numbers["contrast_change_np"]).any()
        unit, drift = curves.change, data.profile.drift
        figure, (axis, *more, strip) = _figure(
            5.7 if known else 3.9,
            (12, 8, 1) if known else (12, 1),
            f"alarm {max(unit.text(drift.alarm), unit.text(drift.warn), key=len)}",
        )
        _draw_change(axis, data, curves)
        for contrast in more:
            _draw_contrast(contrast, data, curves)
        _draw_states(strip, data, curves)
    return figure


def quality_figure(data: SessionData) -> Figure:
    """Draw the family's measures of quality."""
    curves = Curves(data)
    qualities = data.family.mean_quality
    with mpl.rc_context(FONT):
        figure, axes = _figure(
            0.4 + 1.6 * len(qualities), (1,) * len(qualities), "0.80"
        )
        for k, (quality, axis) in enumerate(zip(qualities, axes, strict=True)):
            name, unit = quality.name, quality.display_unit or quality.unit
            values = data.numbers[quality.column] * quality.display_scale
            style(axis)
            axis.plot(*curves.line(values), color=CURVES[(4, 2)[k % 2]], linewidth=1.2)
            axis.set_ylabel(f"{name} ({unit})" if unit else name)
            top = _highest(values, 0.02 * quality.display_scale)
            if (reference := quality.reference) is not None:
                reference *= quality.display_scale
                top = max(top, reference)
                axis.axhline(reference, color=WARN, linewidth=1, linestyle=(0, (4, 3)))
                _annotate(axis, reference, f"{reference:g}", WARN)
            axis.set_ylim(0, 1.05 * top)
        _mark_alerts(data, curves, *axes)
        _time_axis(axes[-1], curves)
    return figure


def coefficients_figure(data: SessionData) -> Figure:
    """Draw each coefficient with its bands, and the limits at which it alone alarms."""
    curves = Curves(data, _HALF_POINTS)
    scale = curves.coefficient.scale
    tracked, truth = data.coefficients() * scale, data.coefficients("truth_") * scale
    factor = data.coverage_factor
    limits = _alarm_limits(data)
    names = data.family.names[: data.family.charted]
    colours = _curve_colours(data.family)
    rows = -(-len(names) // 2)
    with mpl.rc_context(FONT):
        high = 0.5 + 1.65 * rows
        figure = Figure((WIDE, high), facecolor="white")
        FigureCanvasAgg(figure)
        grid = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False)
        set_margins(figure, 0.8, 0.2, 0.3, 0.65, across=0.37, down=0.35)
        # The first estimates may be very uncertain; the other bands are in view.
        bands = np.abs(tracked) + factor * data.coefficients("sigma_") * scale
        bands = bands[np.argsort(bands.max(1))[: -(-len(bands) * 9 // 10)]]
        drawn = [np.abs(tracked), np.abs(truth), bands]
        drawn += [(np.abs(level) + limits) * scale for *_, level in data.baselines]
        top = 1.05 * max(_highest(part, limits.max() * scale) for part in drawn)
        for k, axis in enumerate(grid.ravel()):
            if k >= len(names):
                axis.set_visible(False)
                continue
            style(axis)
            axis.axhline(0, color=MUTED, linewidth=0.8)
            for begin, end, level in data.baselines:
                x = [begin * curves.per_second, end * curves.per_second]
                for edge in (level[k] - limits[k], level[k] + limits[k]):
                    y = [edge * scale, edge * scale]
                    axis.plot(
                        x, y, color=ALARM, linewidth=0.9, alpha=0.7, dashes=(4, 3)
                    )
            _draw_coefficient(axis, data, curves, k, colours[k], (factor, 1.0), INK)
            _mark_alerts(data, curves, axis)
            axis.set_title(names[k], loc="left", pad=3)
            axis.set_ylim(-top, top)
            axis.set_xlim(0, curves.end)
            if k + 2 >= len(names):
                axis.tick_params(labelbottom=True)
            if k % 2 == 0:
                axis.set_ylabel(curves.coefficient.name)
        figure.supxlabel(f"time ({curves.time_unit})", y=0.1 / high, fontsize=10)
    return figure


def _curve_colours(family: BlurFacts) -> list[str]:
    """Return a colour for each charted coefficient: one per kind for a field."""
    order = list(dict.fromkeys(family.kinds))
    return [CURVES[order.index(kind) % len(CURVES)] for kind in family.kinds]


def _figure(
    height: float, ratios: tuple[int, ...], longest: str = ""
) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure of axes below each other that share their time.

    `longest` is the longest text at their right.
    """
    figure = Figure((WIDE, height), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(
        len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios
    )
    set_margins(figure, 0.95, 0.2 + 0.08 * len(longest), 0.06, 0.5, down=0.16)
    return figure, list(axes[:, 0])


def _draw_coefficient(
    axis: Axes,
    data: SessionData,
    curves: Curves,
    k: int,
    colour: str,
    widths: tuple[float, ...],
    truth_colour: str,
) -> None:
    """Draw one coefficient with bands of some numbers of standard deviations."""
    scale = curves.coefficient.scale
    tracked, sigma, truth = (
        data.coefficients(prefix)[:, k] * scale for prefix in ("", "sigma_", "truth_")
    )
    for width in widths:
        band = curves.band(tracked - width * sigma, tracked + width * sigma)
        axis.fill_between(*band, color=colour, alpha=0.22, linewidth=0)
    axis.plot(*curves.line(tracked), color=colour, linewidth=1.2)
    if np.isfinite(truth).any():
        line = curves.line(truth)
        axis.plot(*line, color=truth_colour, linewidth=0.9, dashes=(3, 2))


def _draw_change(axis: Axes, data: SessionData, curves: Curves) -> None:
    style(axis)
    unit, drift = curves.change, data.profile.drift
    change, sigma = data.change * unit.scale, data.change_sigma * unit.scale
    high = np.fmax(change + sigma, change)
    top = 1.15 * _highest(high, 1.1 * drift.alarm * unit.scale)
    in_force = [
        data.numbers[column] * unit.scale
        for column in change_limit_columns(data.family)
    ]
    labels = [
        (limit * unit.scale, f"{name} {unit.text(limit)}")
        for name, limit in (("warn", drift.warn), ("alarm", drift.alarm))
    ]
    _draw_limits(axis, curves, labels, in_force, top)
    band = curves.band(np.maximum(change - sigma, 0), change + sigma)
    axis.fill_between(*band, color=CURVES[4], alpha=0.25, linewidth=0)
    axis.plot(*curves.line(change), color=CURVES[4], linewidth=1.3)
    _mark_alerts(data, curves, axis)
    axis.set_ylim(0, top)
    axis.set_ylabel(f"change from baseline\n({unit.name})")


def _draw_contrast(axis: Axes, data: SessionData, curves: Curves) -> None:
    """Draw the change of contrast from the spectra, on which most alerts are based."""
    style(axis)
    drift, percent = data.profile.drift, 100 * data.numbers["contrast_change_np"]
    top = 1.15 * _highest(percent, 110 * drift.alarm_contrast)
    in_force = [100 * data.numbers[column] for column in CONTRAST_LIMITS]
    labels = [
        (100 * limit, f"{name} {100 * limit:.3g} %")
        for name, limit in (
            ("warn", drift.warn_contrast),
            ("alarm", drift.alarm_contrast),
        )
    ]
    _draw_limits(axis, curves, labels, in_force, top)
    axis.plot(*curves.line(percent), color=CURVES[7], linewidth=1.3)
    _mark_alerts(data, curves, axis)
    axis.set_ylim(0, top)
    axis.set_ylabel("contrast of details\n(% changed)")


def _draw_limits(
    axis: Axes,
    curves: Curves,
    labels: Sequence[tuple[float, str]],
    in_force: Sequence[NDArray[np.float64]],
    top: float,
) -> None:
    """Draw the limits of warnings and of alarms, in colour while they were in force.

    `labels` are the values and names of the profile's limits.
    """
    for (limit, text), values, colour in zip(
        labels, in_force, (WARN, ALARM), strict=True
    ):
        axis.axhline(limit, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)))
        _annotate(axis, limit, text, colour)
        times, line = curves.line(values)
        axis.plot(times, line, color=colour, linewidth=1.2)
        axis.fill_between(times, line, np.maximum(line, top), color=colour, **_AREA)


def _draw_states(strip: Axes, data: SessionData, curves: Curves) -> None:
    unit = curves.per_second
    bars = [(span.begin * unit, (span.end - span.begin) * unit) for span in data.spans]
    # One artist: there may be a thousand spans.
    strip.broken_barh(
        bars,
        (0, 1),
        facecolors=[STATES.get(span.state, MUTED) for span in data.spans],
        linewidth=0,
    )
    strip.set_ylim(0, 1)
    strip.set_yticks([])
    strip.set_ylabel("state", rotation=0, ha="right", va="center", color=MUTED)
    for side in strip.spines.values():
        side.set_visible(False)
    strip.tick_params(colors=MUTED, labelcolor=INK)
    _time_axis(strip, curves)


def _annotate(axis: Axes, value: float, text: str, colour: str) -> None:
    """Write a text to the right of an axis, at a value."""
    axis.annotate(
        text,
        (1.0, value),
        xycoords=("axes fraction", "data"),
        xytext=(6, 0),
        textcoords="offset points",
        color=colour,
        va="center",
        fontsize=9.5,
        annotation_clip=False,
    )


def _mark_alerts(data: SessionData, curves: Curves, *axes: Axes) -> None:
    raised = [
        event["alert"]
        for event in data.events_of("alertRaised")
        if not is_of_another(data, event)
    ]
    alarms, warnings = (
        [
            float(alert["time"]) * curves.per_second
            for alert in raised
            if (alert["level"] == "alarm") is alarm
        ]
        for alarm in (True, False)
    )
    styles: tuple[tuple[Sequence[float], dict[str, Any]], ...] = (
        (alarms, {"color": ALARM, "linewidth": 1.1, "alpha": 0.85}),
        (warnings, {"color": WARN, "linewidth": 1.1, "alpha": 0.85}),
        (curves.new_baselines, {"color": MUTED, "linewidth": 1, "dashes": (1, 2)}),
    )
    for times, line in styles:
        # One line with gaps, as there may be a hundred alerts; as high as the axis.
        x = np.repeat(np.array(times), 3)
        y = np.tile([0.0, 1.0, np.nan], len(times))
        for axis in axes if len(x) else ():
            axis.plot(x, y, transform=axis.get_xaxis_transform(), **line)


def _time_axis(axis: Axes, curves: Curves) -> None:
    axis.set_xlim(0, curves.end)
    axis.set_xlabel(f"time ({curves.time_unit})")


def _alarm_limits(data: SessionData) -> NDArray[np.float64]:
    """Return (P,): the change of each coefficient that would raise the alarm alone."""
    per_unit = np.sqrt(np.diag(data.family.metric.matrix))
    limits: NDArray[np.float64] = data.profile.drift.alarm / per_unit
    return limits


def _highest(values: NDArray[np.float64], least: float) -> float:
    return float(np.nanmax(values, initial=least))
