"""The figures of a session: its overview, and those of the report."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from deepblur_live.drift import clock_text
from deepblur_live.session.columns import CONTRAST_LIMITS, change_limit_columns
from deepblur_live.session.display_unit import coefficient_unit
from deepblur_live.session.palette import (
    ALARM,
    CURVES,
    GRID,
    INK,
    MUTED,
    STATES,
    WARN,
)
from deepblur_live.session.report.baselines import is_of_another
from deepblur_live.session.report.curves import Curves
from deepblur_live.session.report.moments import short_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from deepblur_live.session.blur_facts import BlurFacts
    from deepblur_live.session.display_unit import DisplayUnit
    from deepblur_live.session.report.moment import Moment
    from deepblur_live.session.report.read import SessionData

__all__ = [
    "change_figure",
    "coefficients_figure",
    "overview_figure",
    "psf_figure",
    "quality_figure",
    "svg",
]

_WIDE = 10.6
_FONT: dict[Any, Any] = {
    "font.size": 10.5,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "axes.labelcolor": INK,
    "text.color": INK,
    # Where it is anyway: to find out takes as long as drawing the axes.
    "axes.titley": 1.0,
}
# Colours that the page's style sheet sets, for light and dark pages and for paper.
_THEMED = {INK: "--ink", MUTED: "--muted", GRID: "--grid", WARN: "--warn"}
_THEMED |= {ALARM: "--alarm", CURVES[4]: "--blue", CURVES[7]: "--slate"}
# The PSF is shown within so many cut-off periods of its centre, interpolated.
_PSF_PERIODS = 2.1
_FINER = 8
# From so many coefficients on their legend is set smaller.
_MANY = 12
# Above a limit, where both areas are on top of each other.
_AREA: dict[str, Any] = {"alpha": 0.07, "linewidth": 0}
# Points of a curve in a plot of half the width.
_HALF_POINTS = 700


def overview_figure(data: SessionData) -> Figure:
    """Draw all coefficients, the change from the baseline, and the state."""
    curves = Curves(data)
    with mpl.rc_context(_FONT):
        figure, (upper, axis, strip) = _figure(6.6, (18, 10, 1))
        # Its legend takes what room its names need.
        figure.set_layout_engine("constrained")
        _style(upper)
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
    with mpl.rc_context(_FONT):
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
    with mpl.rc_context(_FONT):
        figure, axes = _figure(
            0.4 + 1.6 * len(qualities), (1,) * len(qualities), "0.80"
        )
        for k, (quality, axis) in enumerate(zip(qualities, axes, strict=True)):
            name, unit = quality.name, quality.display_unit or quality.unit
            values = data.numbers[quality.column] * quality.display_scale
            _style(axis)
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
    """Draw each coefficient with its bands, and the changes that alone would alarm."""
    curves = Curves(data, _HALF_POINTS)
    scale = curves.coefficient.scale
    tracked, truth = data.coefficients() * scale, data.coefficients("truth_") * scale
    factor = data.coverage_factor
    limits = _alarm_limits(data)
    names = data.family.names[: data.family.charted]
    colours = _curve_colours(data.family)
    rows = -(-len(names) // 2)
    with mpl.rc_context(_FONT):
        high = 0.5 + 1.65 * rows
        figure = Figure((_WIDE, high), facecolor="white")
        FigureCanvasAgg(figure)
        grid = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False)
        _set_margins(figure, 0.8, 0.2, 0.3, 0.65, across=0.37, down=0.35)
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
            _style(axis)
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


def psf_figure(data: SessionData, shown: Sequence[Moment]) -> Figure:
    """Draw the square root of the PSF of each moment, all on one scale.

    Of a field: those in the middles of the frame's ninths, and below them maps of the
    wavefront error.
    """
    # (places, moments, K, K)
    psfs = np.stack([moment.psfs for moment in shown], axis=1)
    middle = psfs.shape[-1] // 2
    half = min(middle, round(_PSF_PERIODS / data.family.cutoff))
    window = slice((middle - half) * _FINER, (middle + half) * _FINER + 1)
    fine = _side_by_side(_interpolated(psfs)[..., window, window])
    pixel_um = data.profile.optics.pixel_size_nm / 1000
    side = 2 * half + 1
    size = f"{side} px" if data.contradiction else f"{side * pixel_um:.2g} µm"
    width = f"{'each ' if len(psfs) > 1 else ''}{size} wide"
    with mpl.rc_context(_FONT):
        sensor = data.family.sensor
        lines = len(data.family.mean_quality)
        # Squares of a quarter of the width, a title above them, the quality below.
        top, bottom, gap = 0.35, 0.1 + 0.19 * lines, 0.08
        high = top + (_WIDE - 5 * gap) / 4 + bottom if sensor is None else 6.2
        figure = Figure((_WIDE, high), facecolor="white")
        FigureCanvasAgg(figure)
        grid = figure.subplots(1 if sensor is None else 2, 4, squeeze=False)
        if sensor is None:
            _set_margins(figure, gap, gap, top, bottom, across=gap)
        else:
            figure.set_layout_engine("constrained")
        axes = grid[0]
        if sensor is not None:
            unit = coefficient_unit(data.family, data.profile.display)
            maps = [one.errors for one in shown if one.errors is not None]
            _draw_error_maps(list(grid[1]), np.stack(maps), sensor, unit)
        for axis, psf, moment in zip(axes, fine, shown, strict=False):
            image = np.sqrt(np.maximum(psf, 0) / fine.max())
            axis.imshow(image, cmap="inferno", vmin=0, vmax=1, interpolation="bicubic")
            point, measures = moment.point, moment.quality.measures
            when = "" if point.time is None else f"  {clock_text(point.time)}"
            axis.set_title(f"{point.name}{when}", loc="left", weight="bold")
            quality = [f"{q.name} {' '.join(short_value(q))}" for q in measures]
            axis.set_xlabel("\n".join(quality), loc="left")
            axis.set(xticks=[], yticks=[])
        for axis in axes[len(shown) :]:
            axis.set_axis_off()
        axes[0].text(0.03, 0.03, width, color="white", transform=axes[0].transAxes)
    return figure


def _draw_error_maps(
    axes: list[Axes],
    maps: NDArray[np.float32],
    sensor: tuple[int, int],
    unit: DisplayUnit,
) -> None:
    """Draw wavefront errors (n, h, w) over the sensor's rows and columns."""
    maps, (rows, columns) = maps * unit.scale, sensor
    shown: Any = None
    for axis, one in zip(axes, maps, strict=False):
        shown = axis.imshow(
            one,
            cmap="inferno",
            vmin=0,
            vmax=max(maps.max(), 1e-12),
            extent=(0, columns, rows, 0),
        )
        axis.set(xticks=[], yticks=[])
    axes[0].set_ylabel("wavefront error")
    axes[0].figure.colorbar(shown, ax=axes, label=unit.name, shrink=0.8)
    for axis in axes[len(maps) :]:
        axis.set_axis_off()


def _curve_colours(family: BlurFacts) -> list[str]:
    """Return a colour for each charted coefficient: one per kind for a field."""
    order = list(dict.fromkeys(family.kinds))
    return [CURVES[order.index(kind) % len(CURVES)] for kind in family.kinds]


def _side_by_side(psfs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n, h, w): each moment's PSFs (N, n, h, w), of N places, in a square."""
    count, side = psfs.shape[1], math.isqrt(psfs.shape[0])
    rows = psfs.reshape(side, side, *psfs.shape[1:])
    squares = rows.transpose(2, 0, 3, 1, 4)
    whole: NDArray[np.float64] = squares.reshape(
        count, side * psfs.shape[2], side * psfs.shape[3]
    )
    return whole


def _interpolated(psfs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return PSFs (..., K, K) at finer points, by Fourier interpolation."""
    side, axes = psfs.shape[-1], (-2, -1)
    before = side * _FINER // 2 - side // 2
    pad = (before, side * (_FINER - 1) - before)
    spectrum = np.fft.fftshift(np.fft.fft2(psfs), axes)
    around = ((0, 0),) * (psfs.ndim - 2) + (pad, pad)
    spectrum = np.fft.ifftshift(np.pad(spectrum, around), axes)
    fine: NDArray[np.float64] = np.fft.ifft2(spectrum).real
    return fine


def svg(figure: Figure, name: str) -> str:
    """Return a figure as SVG: its text is text, its greys the colours of the page.

    `name` distinguishes the ids of the figures of one page.
    """
    content = io.StringIO()
    options: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": name}
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # The page's own background shows through. `savefig` would draw twice.
    grounds = [figure.patch, *(axis.patch for axis in figure.axes)]
    for ground in grounds:
        ground.set_visible(False)
    with mpl.rc_context(options):
        canvas = FigureCanvasSVG(figure)
        canvas.print_svg(content, metadata=metadata)  # type: ignore[no-untyped-call]
    for ground in grounds:
        ground.set_visible(True)
    text = content.getvalue()
    for colour, variable in _THEMED.items():
        text = text.replace(colour, f"var({variable})")
    return text[text.index("<svg") :]


def _figure(
    height: float, ratios: tuple[int, ...], longest: str = ""
) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure of axes below each other that share their time.

    `longest` is what needs most room at their right.
    """
    figure = Figure((_WIDE, height), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(
        len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios
    )
    _set_margins(figure, 0.95, 0.2 + 0.08 * len(longest), 0.06, 0.5, down=0.16)
    return figure, list(axes[:, 0])


def _set_margins(
    figure: Figure,
    left: float,
    right: float,
    top: float,
    bottom: float,
    across: float = 0.0,
    down: float = 0.0,
) -> None:
    """Set the margins around the axes and the gaps between them, in inches.

    An automatic layout takes as long as drawing the figure.
    """
    grid = figure.axes[0].get_gridspec()
    assert grid is not None
    rows, columns = grid.get_geometry()
    wide, high = figure.get_size_inches()
    # Gaps are relative to the mean size of the axes.
    width = (wide - left - right - (columns - 1) * across) / columns
    height = (high - top - bottom - (rows - 1) * down) / rows
    figure.subplots_adjust(
        left=left / wide,
        right=1 - right / wide,
        top=1 - top / high,
        bottom=bottom / high,
        wspace=across / width,
        hspace=down / height,
    )


def _style(axis: Axes) -> None:
    axis.grid(color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(MUTED)
    axis.tick_params(colors=MUTED, labelcolor=INK)


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
    _style(axis)
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
    """Draw the change as the spectra show it, which alerts stand on while they can."""
    _style(axis)
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

    `labels` are heights and names of those of the profile.
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
    looks: tuple[tuple[Sequence[float], dict[str, Any]], ...] = (
        (alarms, {"color": ALARM, "linewidth": 1.1, "alpha": 0.85}),
        (warnings, {"color": WARN, "linewidth": 1.1, "alpha": 0.85}),
        (curves.new_baselines, {"color": MUTED, "linewidth": 1, "dashes": (1, 2)}),
    )
    for times, look in looks:
        # One line with gaps: there may be a hundred alerts. Of any height of the axis.
        x = np.repeat(np.array(times), 3)
        y = np.tile([0.0, 1.0, np.nan], len(times))
        for axis in axes if len(x) else ():
            axis.plot(x, y, transform=axis.get_xaxis_transform(), **look)


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
