"""The figures of a session: its overview, and those of the report."""

from __future__ import annotations

import io
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from deepblur_live.blur.charted import charted, curve_kinds
from deepblur_live.blur.places import places
from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.drift import clock_text
from deepblur_live.session.columns import quality_columns
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

    from deepblur_live.blur import BlurFamily
    from deepblur_live.session.display_unit import DisplayUnit
    from deepblur_live.session.report.moments import Moment
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
}
# Colours that the page's style sheet sets, for light and dark pages and for paper.
_THEMED = {INK: "--ink", MUTED: "--muted", GRID: "--grid", WARN: "--warn"}
_THEMED |= {ALARM: "--alarm", CURVES[4]: "--blue", CURVES[7]: "--slate"}
# The PSF is shown within so many cut-off periods of its centre, interpolated.
_PSF_PERIODS = 2.1
_FINER = 8
# From so many coefficients on their legend is set smaller.
_MANY = 12
# Points of a curve in a plot of half the width.
_HALF_POINTS = 700
# Cells along each side of a map.
_MAP = 32


def overview_figure(data: SessionData) -> Figure:
    """Draw all coefficients, the change from the baseline, and the state."""
    curves = Curves(data)
    with mpl.rc_context(_FONT):
        figure, (upper, axis, strip) = _figure(6.6, (18, 10, 1))
        _style(upper)
        upper.axhline(0, color=MUTED, linewidth=0.8)
        shown = data.family.names[: charted(data.family)]
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
        figure, (axis, *more, strip) = _figure(
            5.7 if known else 3.9, (12, 8, 1) if known else (12, 1)
        )
        _draw_change(axis, data, curves)
        for contrast in more:
            _draw_contrast(contrast, data, curves)
        _draw_states(strip, data, curves)
    return figure


def quality_figure(data: SessionData) -> Figure:
    """Draw the family's measures of quality."""
    curves = Curves(data)
    qualities = quality_columns(data.family)
    with mpl.rc_context(_FONT):
        figure, axes = _figure(0.4 + 1.6 * len(qualities), (1,) * len(qualities))
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
    names = data.family.names[: charted(data.family)]
    colours = _curve_colours(data.family)
    rows = -(-len(names) // 2)
    with mpl.rc_context(_FONT):
        high = 0.5 + 1.65 * rows
        figure = Figure((_WIDE, high), facecolor="white")
        FigureCanvasAgg(figure)
        grid = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False)
        # Fixed margins, inches: an automatic layout of so many axes takes as long as
        # drawing them.
        figure.subplots_adjust(
            left=0.8 / _WIDE,
            right=1 - 0.2 / _WIDE,
            top=1 - 0.3 / high,
            bottom=0.65 / high,
            wspace=0.08,
            hspace=0.3,
        )
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
    gammas = torch.as_tensor(np.array([moment.coefficients for moment in shown]))
    averaged = places(data.family)
    psfs = torch.cat([data.family.psf(gammas, place) for place in averaged]).numpy()
    middle = psfs.shape[-1] // 2
    half = min(middle, round(_PSF_PERIODS / data.family.cutoff))
    window = slice((middle - half) * _FINER, (middle + half) * _FINER + 1)
    fine = _interpolated(psfs)[:, window, window]
    fine = _side_by_side(fine.reshape(len(averaged), len(shown), *fine.shape[1:]))
    pixel_um = data.profile.optics.pixel_size_nm / 1000
    each = "each " if len(averaged) > 1 else ""
    width = f"{each}{(2 * half + 1) * pixel_um:.2g} µm wide"
    with mpl.rc_context(_FONT):
        field = data.family if isinstance(data.family, ZernikeField) else None
        high = 3.4 if field is None else 6.2
        figure = Figure((_WIDE, high), facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(1 if field is None else 2, 4, squeeze=False)
        axes = grid[0]
        if field is not None:
            unit = coefficient_unit(field, data.profile.display)
            _draw_error_maps(list(grid[1]), field, gammas, unit)
        for axis, psf, moment in zip(axes, fine, shown, strict=False):
            image = np.sqrt(np.maximum(psf, 0) / fine.max())
            axis.imshow(image, cmap="inferno", vmin=0, vmax=1, interpolation="bicubic")
            when = "" if moment.time is None else f"  {clock_text(moment.time)}"
            axis.set_title(f"{moment.name}{when}", loc="left", weight="bold")
            quality = [f"{q.name} {' '.join(short_value(q))}" for q in moment.quality]
            axis.set_xlabel("\n".join(quality), loc="left")
            axis.set(xticks=[], yticks=[])
        for axis in axes[len(shown) :]:
            axis.set_axis_off()
        axes[0].text(0.03, 0.03, width, color="white", transform=axes[0].transAxes)
    return figure


def _draw_error_maps(
    axes: list[Axes], field: ZernikeField, gammas: torch.Tensor, unit: DisplayUnit
) -> None:
    """Draw the wavefront error over the sensor of coefficients (n, P)."""
    local = field.at(gammas, field.view.grid(_MAP)).numpy()
    maps = np.sqrt(np.square(local).sum(-1)).reshape(-1, _MAP, _MAP) * unit.scale
    shown: Any = None
    for axis, one in zip(axes, maps, strict=False):
        shown = axis.imshow(
            one,
            cmap="inferno",
            vmin=0,
            vmax=max(maps.max(), 1e-12),
            extent=(0, field.view.columns, field.view.rows, 0),
        )
        axis.set(xticks=[], yticks=[])
    axes[0].set_ylabel("wavefront error")
    axes[0].figure.colorbar(shown, ax=axes, label=unit.name, shrink=0.8)
    for axis in axes[len(maps) :]:
        axis.set_axis_off()


def _curve_colours(family: BlurFamily) -> list[str]:
    """Return a colour for each charted coefficient: one per kind for a field."""
    kinds = curve_kinds(family)
    order = list(dict.fromkeys(kinds))
    return [CURVES[order.index(kind) % len(CURVES)] for kind in kinds]


def _side_by_side(psfs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n, h, w): each moment's PSFs (N, n, h, w), of N places, in a square."""
    count, side = psfs.shape[1], math.isqrt(psfs.shape[0])
    rows = psfs.reshape(side, side, *psfs.shape[1:])
    squares = rows.transpose(2, 0, 3, 1, 4)
    whole: NDArray[np.float64] = squares.reshape(
        count, side * psfs.shape[2], side * psfs.shape[3]
    )
    return whole


def _interpolated(psfs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return PSFs (n, K, K) at finer points, by Fourier interpolation."""
    side, axes = psfs.shape[-1], (-2, -1)
    before = side * _FINER // 2 - side // 2
    pad = (before, side * (_FINER - 1) - before)
    spectrum = np.fft.fftshift(np.fft.fft2(psfs), axes)
    spectrum = np.fft.ifftshift(np.pad(spectrum, ((0, 0), pad, pad)), axes)
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


def _figure(height: float, ratios: tuple[int, ...]) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure of axes below each other that share their time."""
    figure = Figure((_WIDE, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(
        len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios
    )
    return figure, list(axes[:, 0])


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
    warn, alarm = drift.warn * unit.scale, drift.alarm * unit.scale
    high = np.fmax(change + sigma, change)
    top = 1.15 * _highest(high, 1.1 * alarm)
    axis.axhspan(warn, alarm, color=WARN, alpha=0.09, linewidth=0)
    axis.axhspan(alarm, top, color=ALARM, alpha=0.09, linewidth=0)
    for name, limit, colour in (
        ("warn", drift.warn, WARN),
        ("alarm", drift.alarm, ALARM),
    ):
        axis.axhline(limit * unit.scale, color=colour, linewidth=1.1)
        _annotate(axis, limit * unit.scale, f"{name} {unit.text(limit)}", colour)
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
    for limit, name, colour in (
        (drift.warn_contrast, "warn", WARN),
        (drift.alarm_contrast, "alarm", ALARM),
    ):
        axis.axhline(100 * limit, color=colour, linewidth=1.1)
        _annotate(axis, 100 * limit, f"{name} {100 * limit:.3g} %", colour)
    axis.plot(*curves.line(percent), color=CURVES[7], linewidth=1.3)
    _mark_alerts(data, curves, axis)
    axis.set_ylim(0, 1.15 * _highest(percent, 110 * drift.alarm_contrast))
    axis.set_ylabel("contrast of details\n(% changed)")


def _draw_states(strip: Axes, data: SessionData, curves: Curves) -> None:
    for span in data.spans:
        edges = (span.begin * curves.per_second, span.end * curves.per_second)
        strip.axvspan(*edges, color=STATES.get(span.state, MUTED), linewidth=0)
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
    for axis in axes:
        # One artist each: there may be a hundred alerts. Of any height of the axis.
        mark = partial(
            axis.vlines, ymin=0, ymax=1, transform=axis.get_xaxis_transform()
        )
        mark(alarms, color=ALARM, linewidth=1.1, alpha=0.85)
        mark(warnings, color=WARN, linewidth=1.1, alpha=0.85)
        mark(curves.new_baselines, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))


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
