"""The coefficients over the session, and their change from the baseline."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.blur.charted import charted, curve_kinds
from deepblur_live.drift import CONTRAST_UNIT, Limits
from deepblur_live.gui.binding import QtCore, QtGui, QtWidgets, pg
from deepblur_live.gui.coefficient_table import CoefficientTable
from deepblur_live.gui.palette import colours_of
from deepblur_live.gui.plot_parts import (
    LimitLines,
    TimeAxis,
    ValueAxis,
    add_curve,
    fit_height,
    mark_alerts,
)
from deepblur_live.gui.plot_title import PlotTitle
from deepblur_live.gui.theme import curve_colours
from deepblur_live.runtime.series_key import SeriesKey
from deepblur_live.session.decimate import decimate_band, decimate_curve
from deepblur_live.session.display_unit import change_unit, coefficient_unit
from deepblur_live.session.history import through_extremes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily
    from deepblur_live.drift import Alert
    from deepblur_live.profile import Profile
    from deepblur_live.session.history import History
    from deepblur_live.session.verification import Verification

__all__ = ["DriftPlot"]

# Drawn in about 10 ms.
_MAX_POINTS = 5000
# Minimum width of the plots; the table is shown only if there is more room.
_LEAST_PLOT = 260
# Minimum height for plots above each other; below it, they are side by side.
_LEAST_STACK = 320
# Long and short title of the change, by the profile's drift.reference.
_CHANGES = {
    "session": ("change from baseline", "change"),
    "calibration": ("distance from the calibration", "distance"),
}
# Shares of the height of the plots above each other.
_SHARES = (3, 2, 2)


class DriftPlot(QtWidgets.QWidget):
    """Three plots with a common time axis, and a table of the current values.

    Below the table: whether evidence beyond the frames confirms them. The plots are
    above each other, or side by side in a low panel.

    The first plot has one curve per charted coefficient with its ±1σ band, and the true
    values dashed where they are known. The second shows the change from the baseline.
    The third shows the change of the contrast of details, from the spectra without
    coefficients. Both have warning and alarm limits, in colour where they are in
    force; alerts are marked in the third where it is known, else in the second.
    """

    def __init__(self, profile: Profile, family: BlurFamily) -> None:
        super().__init__()
        self._names = family.names[: charted(family)]
        self._kinds = curve_kinds(family)
        self._titles: list[PlotTitle] = []
        self._side_by_side: bool | None = None
        self._unit = coefficient_unit(family, profile.display)
        self._change_unit = change_unit(family, profile.display)
        self._drawn: tuple[Any, ...] = ()
        self._display, self._series = profile.display, SeriesKey()
        drift = profile.drift
        self._change_limits = Limits(drift.warn, drift.alarm)
        self._contrast_limits = Limits(drift.warn_contrast, drift.alarm_contrast)

        graphics = pg.GraphicsLayoutWidget(parent=self)
        self._graphics = graphics
        graphics.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        graphics.setMinimumSize(120, 80)
        graphics.ci.layout.setSpacing(2)
        unit = self._change_unit
        long, short = _CHANGES[drift.reference]
        names = ("coefficients", long, short)
        coefficients, change, short_change = (
            f"{name}, {(unit if k else self._unit).name}"
            for k, name in enumerate(names)
        )
        self.coefficients = self._add_plot([coefficients])
        self.change = self._add_plot(
            [change, short_change], self._change_texts(self._change_limits)
        )
        self.contrast = self._add_plot(
            [
                "change of the contrast of details, by the spectra, %",
                "change of the contrast, %",
                "contrast, %",
            ],
            _percent(self._contrast_limits),
        )
        for plot in (self.change, self.contrast):
            plot.setXLink(self.coefficients)
        self._arrange(side_by_side=False)

        self._curves: list[Any] = []
        self._truths: list[Any] = []
        self._bands: list[tuple[Any, Any]] = []
        self._fills: list[Any] = []
        for _ in self._names:
            self._add_coefficient()
        self._change_lines = LimitLines(
            self.change, drift.warn * unit.scale, drift.alarm * unit.scale
        )
        self._contrast_lines = LimitLines(
            self.contrast, 100 * drift.warn_contrast, 100 * drift.alarm_contrast
        )
        self._change_curve, self._marks = add_curve(self.change)
        self._contrast_curve, self._contrast_marks = add_curve(self.contrast)
        # The limits stay in view for comparison with a small change.
        self._top = 1.5 * drift.alarm * unit.scale
        # Those of a specimen that moves, too, which are 1.5 times as high.
        self._contrast_top = 170 * drift.alarm_contrast
        self.change.setYRange(0, self._top, padding=0)
        self.contrast.setYRange(0, self._contrast_top, padding=0)

        self._table = self._make_table(profile, family)

        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(10)
        layout.addWidget(graphics, 1)
        layout.addWidget(self._table)
        self._colour()

    def _make_table(
        self, profile: Profile, family: BlurFamily
    ) -> QtWidgets.QScrollArea:
        """Return the table of the coefficients and, below it, their verification."""
        self.legend = CoefficientTable(profile, family)
        self.verification = QtWidgets.QLabel()
        self.verification.setWordWrap(True)
        self.verification.setToolTip(
            "whether the coefficients themselves are confirmed on this specimen; "
            "changes of the spectra are watched in any case"
        )
        table = QtWidgets.QWidget()
        column = QtWidgets.QVBoxLayout(table)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.legend)
        column.addWidget(self.verification)
        column.addStretch(1)
        # Scrolled in a low panel, and left out in a narrow one.
        area = QtWidgets.QScrollArea()
        area.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
        area.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        area.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidgetResizable(True)
        area.setWidget(table)
        return area

    def sizeHint(self) -> QtCore.QSize:
        """Return a size that leaves most of the room to the images."""
        return QtCore.QSize(760, 260)

    def resizeEvent(self, event: QtGui.QResizeEvent | None) -> None:
        """Leave out the table where there is no room for it; arrange the plots."""
        super().resizeEvent(event)
        room = self.width() - self._table.minimumWidth()
        self._table.setVisible(room >= _LEAST_PLOT)
        self._arrange(side_by_side=self.height() < _LEAST_STACK)

    def minimumSizeHint(self) -> QtCore.QSize:
        """Return a small size: the table is left out where there is no room."""
        return QtCore.QSize(140, 90)

    def changeEvent(self, event: QtCore.QEvent | None) -> None:
        """Follow the host's colours."""
        super().changeEvent(event)
        if event is not None and event.type() == QtCore.QEvent.Type.PaletteChange:
            self._colour()

    def follow(self, series: SeriesKey, family: BlurFamily) -> None:
        """Show another series from now on, whose wavelength may differ."""
        if series == self._series:
            return
        self._series, self._drawn = series, ()
        before = self._change_unit.scale
        self._unit = coefficient_unit(family, self._display)
        self._change_unit = unit = change_unit(family, self._display)
        self._top *= unit.scale / before
        self.legend.use_family(family)
        warn, alarm = self._change_limits
        self._change_lines.set_values(warn * unit.scale, alarm * unit.scale)
        self._contrast_lines.show(np.empty(0), np.empty((0, 2)))
        self._titles[1].set_limits(self._change_texts(self._change_limits))
        self._titles[2].set_limits(_percent(self._contrast_limits))
        curves = (
            *self._curves,
            *self._truths,
            *(b for pair in self._bands for b in pair),
        )
        for curve in (*curves, self._change_curve, self._contrast_curve):
            curve.setData([], [])
        for marks in (self._marks, self._contrast_marks):
            marks.setData([])
        self._write_legend(None)

    def show_verification(self, verification: Verification) -> None:
        """Show whether other evidence confirms the coefficients."""
        contradicted = verification.unreliable
        colours = colours_of(self)
        colour = colours.warn if contradicted else colours.muted
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
        self._change_lines.show(times, history.limits * scale)
        self._contrast_lines.show(times, 100 * history.strength_limits)
        now = _in_force(history.limits, self._change_limits)
        self._titles[1].set_limits(self._change_texts(now))
        now = _in_force(history.strength_limits, self._contrast_limits)
        self._titles[2].set_limits(_percent(now))
        spectral = [alert for alert in alerts if alert.unit == CONTRAST_UNIT]
        absolute = [alert for alert in alerts if alert.unit != CONTRAST_UNIT]
        mark_alerts(self._marks, times, history.change * scale, absolute)
        mark_alerts(self._contrast_marks, times, strength, spectral)
        fit_height(self.change, highest, self._top)
        fit_height(self.contrast, strength, self._contrast_top)
        self._write_legend(history)

    def _add_plot(
        self, wordings: Sequence[str], limits: Mapping[str, str] | None = None
    ) -> Any:
        self._titles.append(PlotTitle(wordings, limits))
        plot = pg.PlotItem(
            enableMenu=False,
            axisItems={
                "left": ValueAxis(orientation="left"),
                "bottom": TimeAxis(orientation="bottom"),
            },
        )
        plot.setMouseEnabled(x=True, y=False)
        plot.showGrid(x=True, y=True, alpha=0.12)
        for side in ("left", "bottom"):
            axis = plot.getAxis(side)
            axis.enableAutoSIPrefix(False)
        plot.getAxis("left").setWidth(40)
        return plot

    def _change_texts(self, limits: Limits) -> dict[str, str]:
        """Return limits of the change as its title shows them."""
        number = self._change_unit.number
        return {"warn": number(limits.warn), "alarm": number(limits.alarm)}

    def _arrange(self, *, side_by_side: bool) -> None:
        """Place the plots, each below its title."""
        if side_by_side == self._side_by_side:
            return
        self._side_by_side = side_by_side
        grid = self._graphics.ci.layout
        for _ in range(grid.count()):
            grid.removeAt(0)
        plots = (self.coefficients, self.change, self.contrast)
        for k, (title, plot) in enumerate(zip(self._titles, plots, strict=True)):
            row, column = (0, k) if side_by_side else (2 * k, 0)
            grid.addItem(title, row, column)
            grid.addItem(plot, row + 1, column)
            grid.setRowStretchFactor(2 * k + 1, 0)
            grid.setColumnStretchFactor(k, 0)
            grid.setRowStretchFactor(row + 1, 1 if side_by_side else _SHARES[k])
            grid.setColumnStretchFactor(column, 1)
            last = side_by_side or plot is self.contrast
            plot.getAxis("bottom").setStyle(showValues=last)

    def _add_coefficient(self) -> None:
        clear = pg.mkPen(None)
        lower = pg.PlotCurveItem(pen=clear)
        upper = pg.PlotCurveItem(pen=clear)
        band = pg.FillBetweenItem(lower, upper)
        curve = pg.PlotCurveItem(connect="finite")
        truth = pg.PlotCurveItem(connect="finite")
        for item in (lower, upper, band, truth, curve):
            self.coefficients.addItem(item)
        self._curves.append(curve)
        self._truths.append(truth)
        self._bands.append((lower, upper))
        self._fills.append(band)

    def _colour(self) -> None:
        """Take the colours that fit the widget's palette."""
        colours = colours_of(self)
        self._colours = curve_colours(self._kinds, colours)
        self._graphics.setBackground(colours.ground)
        for title in self._titles:
            title.set_colours(colours)
        for plot in (self.coefficients, self.change, self.contrast):
            for side in ("left", "bottom"):
                axis = plot.getAxis(side)
                axis.setTextPen(colours.muted)
                axis.setPen(colours.axis)
        dash = QtCore.Qt.PenStyle.DashLine
        for lines in (self._change_lines, self._contrast_lines):
            lines.set_colours(colours)
        for curve, truth, fill, colour in zip(
            self._curves, self._truths, self._fills, self._colours, strict=True
        ):
            brush = pg.mkColor(colour)
            brush.setAlpha(45)
            fill.setBrush(brush)
            curve.setPen(pg.mkPen(colour, width=1))
            truth.setPen(pg.mkPen(colour, width=1, style=dash))
        for curve in (self._change_curve, self._contrast_curve):
            curve.setPen(pg.mkPen(colours.text, width=1))
        self._write_legend(None)

    def _write_legend(self, history: History | None) -> None:
        self.legend.show_history(history, self._colours, colours_of(self).muted)
        # As wide as the table and a scroll bar, which does not become narrower again.
        width = self.legend.sizeHint().width() + 24
        if width > self._table.minimumWidth():
            self._table.setFixedWidth(width)


def _in_force(limits: NDArray[np.float64], settings: Limits) -> Limits:
    """Return the newest limits (N, 2), or the profile's while none are in force."""
    newest = Limits(*limits[-1].tolist())
    return newest if math.isfinite(newest.warn) else settings


def _percent(limits: Limits) -> dict[str, str]:
    """Return limits of the contrast, nepers, as its title shows them."""
    return {"warn": f"{100 * limits.warn:.3g}", "alarm": f"{100 * limits.alarm:.3g}"}
