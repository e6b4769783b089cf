"""The values of both images along a line that is drawn in the raw one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.gui.binding import QtCore, QtWidgets, pg
from deepblur_live.gui.palette import colours_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.gui.image_pair import ImagePair

__all__ = ["LineProfileView"]

_LINE = "#f0e442"


class LineProfileView(QtWidgets.QWidget):
    """Two curves along a line; the line is shown in both images while this is visible.

    Parameters
    ----------
    images
        The images.
    pixel_size_nm
        Size of a pixel, for the distance.
    """

    def __init__(self, images: ImagePair, pixel_size_nm: float) -> None:
        super().__init__()
        self._images = images
        self._pixel_size_nm: float | None = pixel_size_nm
        self._shape: tuple[int, ...] = ()
        self.curves: tuple[Any, ...] = ()
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)

    def _build(self) -> None:
        """Create the plot and the line when they are first needed."""
        images = self._images
        self.line = pg.LineSegmentROI(
            [(0, 0), (1, 1)], pen=pg.mkPen(_LINE, width=2), handlePen=pg.mkPen(_LINE)
        )
        self._copy = pg.PlotCurveItem(pen=pg.mkPen(_LINE, width=2))
        # In pixel coordinates, as the images; the items that draw them are reduced.
        self._grid = pg.ImageItem(axisOrder="row-major")
        for item in (self.line, self._grid):
            images.raw.view_box.addItem(item, ignoreBounds=True)
        images.deblurred.view_box.addItem(self._copy, ignoreBounds=True)
        self.line.sigRegionChanged.connect(self._on_moved)

        self.plot = pg.PlotWidget(parent=self, enableMenu=False)
        self.plot.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        self.plot.setMinimumSize(100, 60)
        self.plot.showGrid(x=True, y=True, alpha=0.12)
        self._label()
        self.plot.setLabel("left", "grey value")
        self._legend = self.plot.addLegend(offset=(-5, 5))
        self.curves = tuple(self.plot.plot(name=name) for name in ("raw", "deblurred"))
        for side in ("left", "bottom"):
            self.plot.getAxis(side).enableAutoSIPrefix(False)
        layout = self.layout()
        assert layout is not None
        layout.addWidget(self.plot)
        self._colour()

    def set_pixel_size(self, pixel_size_nm: float | None) -> None:
        """Set the size of a pixel; None if it isn't known: distances are in pixels."""
        if pixel_size_nm != self._pixel_size_nm:
            self._pixel_size_nm = pixel_size_nm
            if self.curves:
                self._label()
                self.update_from_images()

    def _label(self) -> None:
        unit = "pixels" if self._pixel_size_nm is None else "µm"
        self.plot.setLabel("bottom", f"distance, {unit}")

    def sizeHint(self) -> QtCore.QSize:
        """Return a size that leaves most of the room to the images."""
        return QtCore.QSize(320, 180)

    def update_from_images(self) -> None:
        """Draw the values along the line in the images shown now."""
        raw, deblurred = self._images.arrays
        if not self.isVisible() or raw is None:
            return
        if raw.shape[:2] != self._shape:
            self._place(raw.shape[:2])
        for curve, image in zip(self.curves, (raw, deblurred), strict=True):
            values = None if image is None else self._along(image)
            if values is None:
                curve.clear()
            else:
                size_nm = self._pixel_size_nm
                step = 1.0 if size_nm is None else size_nm / 1000
                curve.setData(step * np.arange(len(values)), values)

    def showEvent(self, event: Any) -> None:
        """Show the line with its plot."""
        super().showEvent(event)
        if not self.curves:
            self._build()
        self._show_line(bool(self._shape))

    def hideEvent(self, event: Any) -> None:
        """Hide the line with its plot."""
        super().hideEvent(event)
        if self.curves:
            self._show_line(False)

    def changeEvent(self, event: QtCore.QEvent | None) -> None:
        """Follow the host's colours."""
        super().changeEvent(event)
        changed = QtCore.QEvent.Type.PaletteChange
        if event is not None and event.type() == changed and self.curves:
            self._colour()

    def _along(self, image: NDArray[Any]) -> NDArray[np.float64] | None:
        """Return a value per pixel of the line, NaN outside the image."""
        values, at = self.line.getArrayRegion(
            image, self._grid, axes=(1, 0), returnMappedCoords=True
        )
        if len(values) == 0:
            return None
        values = np.asarray(values, dtype=np.float64)
        if values.ndim > 1:
            values = values.mean(axis=1)
        height, width = image.shape[:2]
        x, y = at
        outside = (x < 0) | (y < 0) | (x > width - 1) | (y > height - 1)
        return np.where(outside, np.nan, values)

    def _place(self, shape: tuple[int, ...]) -> None:
        """Put the line across the middle third of images of a new size."""
        self._shape = shape
        height, width = shape
        start, end = self.line.getHandles()
        self.line.setPos((0, 0))
        self.line.movePoint(start, (width / 3, height / 2), finish=False)
        self.line.movePoint(end, (2 * width / 3, height / 2))
        self._show_line(True)
        self._on_moved()

    def _show_line(self, shown: bool) -> None:
        for item in (self.line, self._copy):
            item.setVisible(shown)

    def _on_moved(self) -> None:
        ends = [self.line.mapToParent(h.pos()) for h in self.line.getHandles()]
        self._copy.setData([p.x() for p in ends], [p.y() for p in ends])
        self.update_from_images()

    def _colour(self) -> None:
        colours = colours_of(self)
        self.plot.setBackground(colours.ground)
        for side in ("left", "bottom"):
            axis = self.plot.getAxis(side)
            axis.setPen(colours.axis)
            axis.setTextPen(colours.muted)
        self._legend.setLabelTextColor(colours.text)
        for curve, colour in zip(
            self.curves, (colours.muted, colours.curves[1]), strict=True
        ):
            curve.setPen(pg.mkPen(colour, width=1))
