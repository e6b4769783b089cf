"""The coefficients over the session, and the wavefront's change against its limits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.gui.binding import QtCore, QtWidgets, pg
from deepblur_live.gui.curves import session_time
from deepblur_live.gui.theme import ALARM, MUTED, PANEL, TEXT, WARN, curve_colour
from deepblur_live.session.decimate import decimate_band, decimate_curve
from deepblur_live.session.history import through_extremes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepblur_live.gui.session_view import AlertView, HistoryView, SessionView

__all__ = ["DriftPlot"]

# What a plot can draw in about 10 ms.
_MAX_POINTS = 5000
_TICKS_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)


class _TimeAxis(pg.AxisItem):  # type: ignore[misc]
    """Ticks at whole seconds, minutes and hours of the session."""

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


class DriftPlot(QtWidgets.QWidget):
    """Two plots over one time axis, and a legend that is a table of present values.

    Above, one curve a coefficient with its ±1σ band, and the truth dashed where it is
    known. Below, the change of the wavefront from the baseline with the warn and alarm
    limits and a mark an alert.
    """

    def __init__(
        self, session: SessionView, parent: QtWidgets.QWidget | None = None
    ) -> None:
        super().__init__(parent)
        profile = session.profile
        self._names = tuple(session.family.names)
        self._unit = profile.display.units
        nm = self._unit == "nm"
        self._factor = profile.optics.wavelength_nm if nm else 1.0
        self._drawn: tuple[Any, ...] = ()

        graphics = pg.GraphicsLayoutWidget(parent=self)
        graphics.setBackground(PANEL)
        graphics.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        graphics.ci.layout.setSpacing(2)
        self.coefficients = self._add_plot(
            graphics, 0, f"coefficients, {self._unit} rms"
        )
        self.change = self._add_plot(
            graphics, 1, f"change from baseline, wavefront rms, {self._unit}"
        )
        self.change.setXLink(self.coefficients)
        self.coefficients.getAxis("bottom").setStyle(showValues=False)
        graphics.ci.layout.setRowStretchFactor(1, 3)
        graphics.ci.layout.setRowStretchFactor(3, 2)

        self._curves: list[Any] = []
        self._truths: list[Any] = []
        self._bands: list[tuple[Any, Any]] = []
        for index in range(len(self._names)):
            self._add_mode(curve_colour(index))
        self._change_curve = pg.PlotCurveItem(
            pen=pg.mkPen(TEXT, width=1), connect="finite"
        )
        self.change.addItem(self._change_curve)
        drift = profile.drift
        for limit, colour, name in (
            (drift.warn_waves, WARN, "warn"),
            (drift.alarm_waves, ALARM, "alarm"),
        ):
            self._add_limit(limit * self._factor, colour, name)
        # The limits and their names stay in view, so that a quiet session looks quiet.
        self._top = 1.5 * drift.alarm_waves * self._factor
        self.change.setYRange(0, self._top, padding=0)
        self._marks = pg.ScatterPlotItem(symbol="t", size=11, pen=pg.mkPen(None))
        self.change.addItem(self._marks)

        self.legend = QtWidgets.QLabel()
        self.legend.setTextFormat(QtCore.Qt.TextFormat.RichText)
        self.legend.setAlignment(QtCore.Qt.AlignmentFlag.AlignTop)
        self.legend.setMinimumWidth(250)
        self.legend.setContentsMargins(0, 6, 0, 0)
        self._write_legend(None)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(10)
        layout.addWidget(graphics, 1)
        layout.addWidget(self.legend)

    def show_history(self, history: HistoryView, alerts: Sequence[AlertView]) -> None:
        """Draw the session so far; does nothing when nothing is new."""
        times = np.asarray(history.times, dtype=np.float64)
        if times.size == 0:
            return
        drawn = (times.size, float(times[-1]), len(alerts))
        if drawn == self._drawn:
            return
        self._drawn = drawn
        values = np.asarray(history.coefficients) * self._factor
        low = np.asarray(history.low) * self._factor
        high = np.asarray(history.high) * self._factor
        sigma = np.asarray(history.sigma) * self._factor
        truth = history.truth
        known = truth is not None and bool(np.isfinite(truth).any())
        # Curve, two edges of the band, truth: all share the plot's points.
        points = max(_MAX_POINTS // (len(self._names) * (4 if known else 3)), 16)
        for k in range(len(self._names)):
            line = through_extremes(times, low[:, k], high[:, k])
            self._curves[k].setData(*decimate_curve(*line, points))
            edges = decimate_band(
                times, values[:, k] - sigma[:, k], values[:, k] + sigma[:, k], points
            )
            lower, upper = self._bands[k]
            lower.setData(edges[0], edges[1])
            upper.setData(edges[0], edges[2])
            if known and truth is not None:
                true = np.asarray(truth)[:, k] * self._factor
                self._truths[k].setData(*decimate_curve(times, true, points))
            else:
                self._truths[k].setData([], [])
        change = np.asarray(history.change, dtype=np.float64) * self._factor
        highest = np.asarray(history.change_high, dtype=np.float64) * self._factor
        lowest = np.asarray(history.change_low, dtype=np.float64) * self._factor
        line = through_extremes(times, lowest, highest)
        self._change_curve.setData(*decimate_curve(*line, 1000))
        self._mark_alerts(times, change, alerts)
        self._follow_change(highest)
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

    def _add_mode(self, colour: str) -> None:
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

    def _add_limit(self, value: float, colour: str, name: str) -> None:
        shown = f"{value:.0f} nm" if self._unit == "nm" else f"{value:.3f} waves"
        line = pg.InfiniteLine(
            pos=value,
            angle=0,
            pen=pg.mkPen(colour, width=1, style=QtCore.Qt.PenStyle.DashLine),
            label=f"{name} {shown}",
            labelOpts={
                "position": 0.02,
                "anchors": [(0, 1), (0, 1)],
                "color": colour,
            },
        )
        self.change.addItem(line, ignoreBounds=True)

    def _mark_alerts(
        self, times: Any, change: Any, alerts: Sequence[AlertView]
    ) -> None:
        marks = []
        for alert in list(alerts)[-200:]:
            nearest = min(int(np.searchsorted(times, alert.time)), len(times) - 1)
            height = change[nearest] if np.isfinite(change[nearest]) else 0.0
            colour = ALARM if str(alert.level) == "alarm" else WARN
            marks.append({"pos": (alert.time, height), "brush": colour})
        self._marks.setData(marks)

    def _follow_change(self, change: Any) -> None:
        finite = change[np.isfinite(change)]
        top = max(self._top, 1.1 * float(finite.max()) if finite.size else 0.0)
        self.change.setYRange(0, top, padding=0)

    def _write_legend(self, history: HistoryView | None) -> None:
        truth = None if history is None else history.truth
        known = truth is not None and bool(np.isfinite(np.asarray(truth)[-1]).any())
        head = "<td></td><td></td><td align=right>&nbsp;now</td><td>&nbsp;± σ</td>"
        head += "<td align=right>&nbsp;&nbsp;true</td>" if known else ""
        rows = [f"<tr style='color:{MUTED}'>{head}</tr>"]
        digits = 1 if self._unit == "nm" else 3
        for k, name in enumerate(self._names):
            cells = f"<td><font color='{curve_colour(k)}'>━━</font></td><td>{name}</td>"
            if history is not None:
                now = float(history.coefficients[-1, k]) * self._factor
                sigma = float(history.sigma[-1, k]) * self._factor
                cells += f"<td align=right>&nbsp;{_signed(now, digits)}</td>"
                cells += f"<td>&nbsp;± {sigma:.{digits}f}</td>"
                if known and truth is not None:
                    true = float(truth[-1, k]) * self._factor
                    cells += f"<td align=right>&nbsp;&nbsp;{_signed(true, digits)}</td>"
            rows.append(f"<tr>{cells}</tr>")
        dashed = " · dashed: true" if known else ""
        note = f"<p style='color:{MUTED}'>{self._unit} rms · band: ±1σ{dashed}</p>"
        self.legend.setText(f"<table cellspacing=2>{''.join(rows)}</table>{note}")


def _signed(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return "–"
    # Adding zero turns a rounded −0 into 0.
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")
