"""The coefficients over the session, and their change from the baseline."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.blur import ResolvedBy
from deepblur_live.blur.charted import charted, curve_kinds
from deepblur_live.drift import CONTRAST_UNIT, DriftState
from deepblur_live.gui.binding import QtCore, QtWidgets, pg
from deepblur_live.gui.state_text import session_time
from deepblur_live.gui.theme import ALARM, MUTED, PANEL, TEXT, WARN, curve_colours
from deepblur_live.session.decimate import decimate_band, decimate_curve
from deepblur_live.session.display_unit import change_unit, coefficient_unit
from deepblur_live.session.history import through_extremes
from deepblur_live.session.verification import VerificationState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily
    from deepblur_live.drift import Alert
    from deepblur_live.profile import Profile
    from deepblur_live.session.history import History
    from deepblur_live.session.verification import Verification

__all__ = ["DriftPlot"]

# Drawn in about 10 ms.
_MAX_POINTS = 5000
_MAX_MARKS = 200
# From so many curves on their table is set smaller.
_MANY, _SMALL_PX = 12, 11
_TICKS_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)


class _TimeAxis(pg.AxisItem):  # type: ignore[misc]
    """Ticks at round session times."""

    def tickSpacing(
        self, minVal: float, maxVal: float, size: float
    ) -> list[tuple[float, float]]:
        wanted = max(maxVal - minVal, 1.0) / max(size / 90, 2)
        step = next(
            (s for s in _TICKS_S if s >= wanted), 14400 * math.ceil(wanted / 14400)
        )
        return [(float(step), 0.0)]

    def tickStrings(
        self, values: Sequence[float], scale: float, spacing: float
    ) -> list[str]:
        return [session_time(value * scale) for value in values]


# What the sizes of changes are measured from, by a profile's drift.reference.
_CHANGES = {
    "session": "change from baseline",
    "calibration": "distance from the calibration",
}
# Bounds the decimals of a family without coefficients, which are not shown.
_LEAST_SCALE = 1e-3


class DriftPlot(QtWidgets.QWidget):
    """Three plots with a common time axis, and a table of the current values.

    Below the table: whether evidence beyond the frames confirms them.

    The upper plot has one curve per charted coefficient with its ±1σ band, and the true
    values dashed where they are known. The second shows the change from the baseline.
    The third shows the change of the contrast of details, which the spectra tell
    without coefficients. Both have warning and alarm limits; alerts are marked in the
    third where it is known, else in the second.
    """

    def __init__(self, profile: Profile, family: BlurFamily) -> None:
        super().__init__()
        self._names = family.names[: charted(family)]
        self._colours = curve_colours(curve_kinds(family))
        self._unit = coefficient_unit(family, profile.display)
        self._change_unit = change_unit(family, profile.display)
        largest = float(np.max(family.prior.scale, initial=_LEAST_SCALE))
        self._decimals = self._unit.decimals(largest)
        calibrated = profile.model.calibration is not None
        self._origin = " from the calibration's mean" if calibrated else ""
        self._drawn: tuple[Any, ...] = ()
        drift = profile.drift

        graphics = pg.GraphicsLayoutWidget(parent=self)
        graphics.setBackground(PANEL)
        graphics.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        graphics.ci.layout.setSpacing(2)
        self.coefficients = self._add_plot(
            graphics, 0, f"coefficients, {self._unit.name}"
        )
        self.change = self._add_plot(
            graphics, 1, f"{_CHANGES[drift.reference]}, {self._change_unit.name}"
        )
        self.contrast = self._add_plot(
            graphics, 2, "change of the contrast of details, by the spectra, %"
        )
        for plot in (self.change, self.contrast):
            plot.setXLink(self.coefficients)
        for plot in (self.coefficients, self.change):
            plot.getAxis("bottom").setStyle(showValues=False)
        for row, stretch in ((1, 3), (3, 2), (5, 2)):
            graphics.ci.layout.setRowStretchFactor(row, stretch)

        self._curves: list[Any] = []
        self._truths: list[Any] = []
        self._bands: list[tuple[Any, Any]] = []
        for colour in self._colours:
            self._add_coefficient(colour)
        unit = self._change_unit
        for plot, limit, colour, name, text in (
            (self.change, drift.warn * unit.scale, WARN, "warn", unit.text(drift.warn)),
            (
                self.change,
                drift.alarm * unit.scale,
                ALARM,
                "alarm",
                unit.text(drift.alarm),
            ),
            (self.contrast, 100 * drift.warn_contrast, WARN, "warn", ""),
            (self.contrast, 100 * drift.alarm_contrast, ALARM, "alarm", ""),
        ):
            shown = text or f"{limit:.3g} %"
            # Side by side: the lines may be closer than a label is high.
            place = 0.02 if name == "alarm" else 0.25
            _add_limit(plot, limit, colour, f"{name} {shown}", place)
        self._change_curve, self._marks = _add_curve(self.change)
        self._contrast_curve, self._contrast_marks = _add_curve(self.contrast)
        # The limits stay in view for comparison with a small change.
        self._top = 1.5 * drift.alarm * unit.scale
        self._contrast_top = 150 * drift.alarm_contrast
        self.change.setYRange(0, self._top, padding=0)
        self.contrast.setYRange(0, self._contrast_top, padding=0)

        self.legend = QtWidgets.QLabel()
        self.legend.setTextFormat(QtCore.Qt.TextFormat.RichText)
        self.legend.setAlignment(QtCore.Qt.AlignmentFlag.AlignTop)
        self.legend.setMinimumWidth(250)
        self.legend.setContentsMargins(0, 6, 0, 0)
        ambiguities = (
            symmetry.explanation
            for symmetry in family.symmetries
            if symmetry.resolved_by is ResolvedBy.NEVER
        )
        self.legend.setToolTip("\n".join(filter(None, ambiguities)))
        self._write_legend(None)
        self.verification = QtWidgets.QLabel()
        self.verification.setWordWrap(True)
        self.verification.setToolTip(
            "whether the coefficients themselves are confirmed on this specimen; "
            "changes of the spectra are watched in any case"
        )
        column = QtWidgets.QVBoxLayout()
        column.addWidget(self.legend)
        column.addWidget(self.verification)
        column.addStretch(1)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(10)
        layout.addWidget(graphics, 1)
        layout.addLayout(column)

    def show_verification(self, verification: Verification) -> None:
        """Show what evidence says of the coefficients."""
        contradicted = verification.state is VerificationState.CONTRADICTED
        colour = WARN if contradicted else MUTED
        self.verification.setStyleSheet(f"color: {colour};")
        self.verification.setText(verification.text)

    def show_history(self, history: History, alerts: Sequence[Alert]) -> None:
        """Draw the session so far, unless it has been drawn already."""
        times = history.times
        if times.size == 0:
            return
        drawn = (times.size, float(times[-1]), len(alerts))
        if drawn == self._drawn:
            return
        self._drawn = drawn
        scale = self._unit.scale
        low, high = history.low * scale, history.high * scale
        value, sigma = history.coefficients * scale, history.sigma * scale
        truth = history.truth * scale
        known = bool(np.isfinite(truth).any())
        # A curve, the two edges of its band and the true values share the points.
        points = max(_MAX_POINTS // (len(self._names) * (4 if known else 3)), 16)
        for k in range(len(self._names)):
            line = through_extremes(times, low[:, k], high[:, k])
            self._curves[k].setData(*decimate_curve(*line, points))
            edges = value[:, k] - sigma[:, k], value[:, k] + sigma[:, k]
            at, lower, upper = decimate_band(times, *edges, points)
            self._bands[k][0].setData(at, lower)
            self._bands[k][1].setData(at, upper)
            if known:
                self._truths[k].setData(*decimate_curve(times, truth[:, k], points))
        scale = self._change_unit.scale
        highest = history.change_high * scale
        line = through_extremes(times, history.change_low * scale, highest)
        self._change_curve.setData(*decimate_curve(*line, 1000))
        strength = 100 * history.strength
        self._contrast_curve.setData(*decimate_curve(times, strength, 1000))
        spectral = [alert for alert in alerts if alert.unit == CONTRAST_UNIT]
        absolute = [alert for alert in alerts if alert.unit != CONTRAST_UNIT]
        _mark_alerts(self._marks, times, history.change * scale, absolute)
        _mark_alerts(self._contrast_marks, times, strength, spectral)
        _fit(self.change, highest, self._top)
        _fit(self.contrast, strength, self._contrast_top)
        self._write_legend(history)

    def _add_plot(self, graphics: Any, row: int, title: str) -> Any:
        graphics.addLabel(
            title, row=2 * row, col=0, size="9pt", color=MUTED, justify="left"
        )
        plot = graphics.addPlot(
            row=2 * row + 1,
            col=0,
            enableMenu=False,
            axisItems={"bottom": _TimeAxis(orientation="bottom")},
        )
        plot.setMouseEnabled(x=True, y=False)
        plot.showGrid(x=True, y=True, alpha=0.12)
        for side in ("left", "bottom"):
            axis = plot.getAxis(side)
            axis.enableAutoSIPrefix(False)
            axis.setTextPen(MUTED)
            axis.setPen("#4a5056")
        plot.getAxis("left").setWidth(40)
        return plot

    def _add_coefficient(self, colour: str) -> None:
        clear = pg.mkPen(None)
        lower = pg.PlotCurveItem(pen=clear)
        upper = pg.PlotCurveItem(pen=clear)
        brush = pg.mkColor(colour)
        brush.setAlpha(45)
        band = pg.FillBetweenItem(lower, upper, brush=brush)
        curve = pg.PlotCurveItem(pen=pg.mkPen(colour, width=1), connect="finite")
        dashed = pg.mkPen(colour, width=1, style=QtCore.Qt.PenStyle.DashLine)
        truth = pg.PlotCurveItem(pen=dashed, connect="finite")
        for item in (lower, upper, band, truth, curve):
            self.coefficients.addItem(item)
        self._curves.append(curve)
        self._truths.append(truth)
        self._bands.append((lower, upper))

    def _write_legend(self, history: History | None) -> None:
        known = history is not None and bool(np.isfinite(history.truth[-1]).any())
        head = "<td></td><td></td><td align=right>&nbsp;now</td><td>&nbsp;± σ</td>"
        head += "<td align=right>&nbsp;&nbsp;true</td>" if known else ""
        rows = [f"<tr style='color:{MUTED}'>{head}</tr>"]
        scale, decimals = self._unit.scale, self._decimals
        for k, name in enumerate(self._names):
            cells = f"<td><font color='{self._colours[k]}'>━━</font></td>"
            cells += f"<td>{html.escape(name)}</td>"
            if history is not None:
                now = _signed(scale * history.coefficients[-1, k], decimals)
                sigma = scale * history.sigma[-1, k]
                cells += f"<td align=right>&nbsp;{now}</td>"
                cells += f"<td>&nbsp;± {sigma:.{decimals}f}</td>"
                if known:
                    true = _signed(scale * history.truth[-1, k], decimals)
                    cells += f"<td align=right>&nbsp;&nbsp;{true}</td>"
            rows.append(f"<tr>{cells}</tr>")
        dashed = " · dashed: true" if known else ""
        unit = self._unit.name + self._origin
        note = f"<p style='color:{MUTED}'>{unit} · band: ±1σ{dashed}</p>"
        # Of a field there are as many as fit only in a small type.
        many = len(self._names) > _MANY
        table = f"<table cellspacing={0 if many else 2}>{''.join(rows)}</table>{note}"
        size = f"<div style='font-size: {_SMALL_PX}px'>{table}</div>"
        self.legend.setText(size if many else table)


def _add_limit(
    plot: Any, height: float, colour: str, label: str, position: float
) -> None:
    """Add a dashed line; `position` of its label is the share of the plot's width."""
    line = pg.InfiniteLine(
        pos=height,
        angle=0,
        pen=pg.mkPen(colour, width=1, style=QtCore.Qt.PenStyle.DashLine),
        label=label,
        labelOpts={
            "position": position,
            "anchors": [(0, 1), (0, 1)],
            "color": colour,
        },
    )
    plot.addItem(line, ignoreBounds=True)


def _add_curve(plot: Any) -> tuple[Any, Any]:
    """Add a curve, and the marks of its alerts."""
    curve = pg.PlotCurveItem(pen=pg.mkPen(TEXT, width=1), connect="finite")
    marks = pg.ScatterPlotItem(symbol="t", size=11, pen=pg.mkPen(None))
    plot.addItem(curve)
    plot.addItem(marks)
    return curve, marks


def _mark_alerts(
    marks: Any,
    times: NDArray[np.float64],
    change: NDArray[np.float64],
    alerts: Sequence[Alert],
) -> None:
    spots = []
    for alert in alerts[-_MAX_MARKS:]:
        nearest = min(int(np.searchsorted(times, alert.time)), len(times) - 1)
        height = change[nearest] if np.isfinite(change[nearest]) else 0.0
        colour = ALARM if alert.level is DriftState.ALARM else WARN
        spots.append({"pos": (alert.time, height), "brush": colour})
    marks.setData(spots)


def _fit(plot: Any, change: NDArray[np.float64], least: float) -> None:
    finite = change[np.isfinite(change)]
    top = max(least, 1.1 * float(finite.max()) if finite.size else 0.0)
    plot.setYRange(0, top, padding=0)


def _signed(value: float, decimals: int) -> str:
    if not math.isfinite(value):
        return "–"
    # Adding zero turns a rounded −0 into 0.
    return f"{round(value, decimals) + 0.0:+.{decimals}f}".replace("-", "−")
