"""A rectangle in both images: its statistics, and levels taken from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.gui.binding import QtCore, QtGui, QtWidgets, pg

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.gui.image_pair import ImagePair

__all__ = ["RegionStatistics", "RegionView", "region_statistics"]

_EDGE = "#cc79a7"
_PART = 16_384
_COLUMNS = ("raw", "deblurred")
_TIPS = {
    "mean": "Mean grey value, the camera's offset included",
    "std": "Standard deviation of the grey values",
    "min": "Smallest grey value",
    "max": "Largest grey value",
    "contrast": "(max − min) / (max + min), Michelson",
    "mean / std": "In an evenly bright region: its signal-to-noise ratio",
}


@dataclass(frozen=True)
class RegionStatistics:
    """The grey values in a region, those that are not finite left out.

    Parameters
    ----------
    mean, std, low, high
        Mean, standard deviation, minimum and maximum.
    """

    mean: float
    std: float
    low: float
    high: float

    @property
    def texts(self) -> tuple[str, ...]:
        """The values as shown, in the order of the rows."""
        total = self.high + self.low
        # Ratios of grey values have a meaning only above zero.
        positive = self.low >= 0 and total > 0
        contrast = (self.high - self.low) / total if positive else np.nan
        ratio = self.mean / self.std if self.std > 0 else np.nan
        grey = (f"{v:.5g}" for v in (self.mean, self.std, self.low, self.high))
        ratios = (f"{v:.3g}" if np.isfinite(v) else "–" for v in (contrast, ratio))
        return (*grey, *ratios)


def region_statistics(pixels: NDArray[Any]) -> RegionStatistics | None:
    """Return the statistics of an array of any shape; None without finite values.

    Parameters
    ----------
    pixels
        Grey values; all channels of a colour image together.
    """
    if pixels.size == 0:
        return None
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite(low + high):
        pixels = pixels[np.isfinite(pixels)]
        if pixels.size == 0:
            return None
        low, high = float(pixels.min()), float(pixels.max())
    mean = float(pixels.mean(dtype=np.float64))
    squares = 0.0
    # In parts that the processor's cache holds.
    rows = max(1, _PART * len(pixels) // pixels.size)
    for start in range(0, len(pixels), rows):
        part = pixels[start : start + rows] - np.float64(mean)
        squares += float(np.vdot(part, part))
    return RegionStatistics(mean, np.sqrt(squares / pixels.size).item(), low, high)


class RegionView(QtWidgets.QWidget):
    """A rectangle that is drawn in both images, and the statistics in it.

    It can be moved and resized in either image, or typed. It is drawn while this is
    visible, or while the levels are taken from it.

    Parameters
    ----------
    images
        The images.
    pixel_size_nm
        Size of a pixel, for the size in µm.
    use_levels
        The action that takes histograms and autocontrast from the rectangle.
    """

    def __init__(
        self, images: ImagePair, pixel_size_nm: float, use_levels: QtGui.QAction
    ) -> None:
        super().__init__()
        self._images = images
        self._pixel_size_nm: float | None = pixel_size_nm
        self._shape: tuple[int, ...] = ()
        self._own = False
        # The images and the region of the statistics shown.
        self._written: tuple[Any, Any] = ((None, None), None)
        self.boxes = {name: self._box(name) for name in ("x", "y", "width", "height")}
        self.values = tuple(
            tuple(QtWidgets.QLabel("–") for _ in _TIPS) for _ in _COLUMNS
        )
        self._size = QtWidgets.QLabel()
        self._lay_out(use_levels)
        self._use_levels = use_levels
        use_levels.toggled.connect(self._on_use_levels)
        # One in each image; they are kept the same.
        self.rectangles = tuple(
            pg.RectROI(
                (0, 0),
                (1, 1),
                sideScalers=True,
                snapSize=1.0,
                scaleSnap=True,
                translateSnap=True,
                pen=pg.mkPen(_EDGE, width=2),
                hoverPen=pg.mkPen(_EDGE, width=3),
                handlePen=pg.mkPen(_EDGE, width=2),
            )
            for _ in _COLUMNS
        )
        for pane, rectangle in zip(
            (images.raw, images.deblurred), self.rectangles, strict=True
        ):
            rectangle.hide()
            pane.view_box.addItem(rectangle, ignoreBounds=True)
            rectangle.sigRegionChanged.connect(self._on_dragged)

    @property
    def region(self) -> tuple[slice, slice]:
        """Rows and columns of the rectangle."""
        x, y, width, height = (box.value() for box in self.boxes.values())
        return slice(y, y + height), slice(x, x + width)

    def sizeHint(self) -> QtCore.QSize:
        """Return a size that leaves most of the room to the images."""
        return QtCore.QSize(260, 200)

    def update_from_images(self) -> None:
        """Write the statistics of the images shown now."""
        raw, _ = self._images.arrays
        if raw is None or not (self.isVisible() or self._use_levels.isChecked()):
            return
        if raw.shape[:2] != self._shape:
            self._place(raw.shape[:2])
        if self.isVisible():
            self._write()

    def showEvent(self, event: QtGui.QShowEvent | None) -> None:
        """Show the rectangle with its statistics."""
        super().showEvent(event)
        self._show_rectangles()
        self.update_from_images()

    def hideEvent(self, event: QtGui.QHideEvent | None) -> None:
        """Hide the rectangle with its statistics, unless levels are taken from it."""
        super().hideEvent(event)
        self._show_rectangles()

    def _lay_out(self, use_levels: QtGui.QAction) -> None:
        grid = QtWidgets.QGridLayout()
        grid.setContentsMargins(6, 4, 6, 4)
        grid.setHorizontalSpacing(10)
        grid.setVerticalSpacing(1)
        for column, (name, labels) in enumerate(
            zip(_COLUMNS, self.values, strict=True), start=1
        ):
            grid.addWidget(QtWidgets.QLabel(name), 0, column)
            for line, label in enumerate(labels, start=1):
                label.setTextInteractionFlags(
                    QtCore.Qt.TextInteractionFlag.TextSelectableByMouse
                )
                grid.addWidget(label, line, column)
        for line, (name, tip) in enumerate(_TIPS.items(), start=1):
            title = QtWidgets.QLabel(name)
            title.setToolTip(tip)
            grid.addWidget(title, line, 0)
        place = QtWidgets.QGridLayout()
        place.setContentsMargins(6, 4, 6, 4)
        place.setHorizontalSpacing(6)
        place.setVerticalSpacing(2)
        for index, (name, box) in enumerate(self.boxes.items()):
            line, column = index % 2, 2 * (index // 2)
            place.addWidget(QtWidgets.QLabel(name), line, column)
            place.addWidget(box, line, column + 1)
        place.addWidget(self._size, 2, 0, 1, 4)
        button = QtWidgets.QToolButton()
        button.setDefaultAction(use_levels)
        place.addWidget(button, 3, 0, 1, 4)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for part in (grid, place):
            upper = QtWidgets.QVBoxLayout()
            upper.addLayout(part)
            upper.addStretch(1)
            row.addLayout(upper)
        row.addStretch(1)

    def _box(self, name: str) -> QtWidgets.QSpinBox:
        box = QtWidgets.QSpinBox()
        box.setRange(0 if name in ("x", "y") else 1, 99_999)
        box.setKeyboardTracking(False)
        box.setAccessibleName(f"Region, {name}")
        box.setToolTip(f"{name} of the region, pixels")
        box.valueChanged.connect(self._on_typed)
        # After Return, letters are shortcuts again.
        line = box.lineEdit()
        assert line is not None
        line.returnPressed.connect(box.clearFocus)
        return box

    def _place(self, shape: tuple[int, ...]) -> None:
        """Put the rectangle on the middle third of images of a new size."""
        self._shape = shape
        height, width = shape
        for rectangle in self.rectangles:
            rectangle.maxBounds = QtCore.QRectF(0, 0, width, height)
        self._set(width // 3, height // 3, max(1, width // 3), max(1, height // 3))
        self._show_rectangles()

    def _set(self, x: int, y: int, width: int, height: int) -> None:
        """Move the rectangles and boxes to a place, clipped to the image."""
        rows, columns = self._shape
        width, height = min(max(width, 1), columns), min(max(height, 1), rows)
        x, y = min(max(x, 0), columns - width), min(max(y, 0), rows - height)
        self._own = True
        try:
            for rectangle in self.rectangles:
                rectangle.setPos((x, y), update=False, finish=False)
                rectangle.setSize((width, height), finish=False)
            for box, value in zip(
                self.boxes.values(), (x, y, width, height), strict=True
            ):
                box.setValue(value)
        finally:
            self._own = False
        self._write_size(width, height)
        if self._use_levels.isChecked():
            self._images.set_region(self.region)
        if self.isVisible():
            self._write()

    def set_pixel_size(self, pixel_size_nm: float | None) -> None:
        """Set the size of a pixel; None if it isn't known."""
        if pixel_size_nm != self._pixel_size_nm:
            self._pixel_size_nm = pixel_size_nm
            if self._shape:
                self._write_size(
                    self.boxes["width"].value(), self.boxes["height"].value()
                )

    def _write_size(self, width: int, height: int) -> None:
        if self._pixel_size_nm is None:
            self._size.setText("pixel size contradicted")
            return
        across, down = (n * self._pixel_size_nm / 1000 for n in (width, height))
        self._size.setText(f"{across:.4g} × {down:.4g} µm")

    def _write(self) -> None:
        images, region = self._images.arrays, self.region
        shown, where = self._written
        if where == region and all(x is y for x, y in zip(shown, images, strict=True)):
            return
        self._written = images, region
        for labels, image in zip(self.values, images, strict=True):
            found = None if image is None else region_statistics(image[self.region])
            texts = ("–",) * len(_TIPS) if found is None else found.texts
            for label, text in zip(labels, texts, strict=True):
                label.setText(text)

    def _show_rectangles(self) -> None:
        shown = self.isVisible() or self._use_levels.isChecked()
        for rectangle in self.rectangles:
            rectangle.setVisible(shown and bool(self._shape))

    def _on_dragged(self, rectangle: Any) -> None:
        if not self._own and self._shape:
            (x, y), (width, height) = rectangle.pos(), rectangle.size()
            self._set(round(x), round(y), round(width), round(height))

    def _on_typed(self, _: int) -> None:
        if not self._own and self._shape:
            self._set(*(box.value() for box in self.boxes.values()))

    def _on_use_levels(self, on: bool) -> None:
        self.update_from_images()
        self._images.set_region(self.region if on and self._shape else None)
        self._show_rectangles()
