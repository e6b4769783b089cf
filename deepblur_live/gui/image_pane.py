"""One image with zoom and pan, drawn at screen resolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.gui.binding import QtCore, QtGui, QtWidgets, Signal, pg
from deepblur_live.gui.rendering import blend, reduce_to, scale_bar, to_uint8
from deepblur_live.gui.theme import BACKGROUND, OVERLAY_STYLE

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ImagePane"]

_MARGIN = 8
_SMALL = 320
# Tolerance, as a fraction of the view, within which the whole image counts as shown.
_FIT_TOLERANCE = 0.02
_Align = QtCore.Qt.AlignmentFlag


class ImagePane(QtWidgets.QWidget):
    """An image in pixel coordinates (x to the right, y down).

    `show_image` and `show_nothing` only store what to show; `paint_if_needed`, called
    by the window's timer, draws it, once for all changes since the last call.

    Parameters
    ----------
    pixel_size_nm
        Size of a pixel, for the scale bar.
    """

    pointed = Signal(object)
    """(x, y) of the pixel under the pointer, or None outside the image."""

    def __init__(self, pixel_size_nm: float) -> None:
        super().__init__()
        self.setStyleSheet(OVERLAY_STYLE)
        self.setMinimumSize(80, 60)
        self._pixel_size_nm: float | None = pixel_size_nm
        self._image: NDArray[Any] | None = None
        self._levels = (0.0, 1.0)
        # An image on the right of the line, or over the first one; and its levels.
        self._second: tuple[NDArray[Any], tuple[float, float]] | None = None
        self._share: float | None = None
        self._shape: tuple[int, ...] = ()
        self._dirty = False
        # View size at the last drawing if the whole image was visible, else None.
        self._fitted_size: tuple[float, float] | None = None
        self._graphics = pg.GraphicsView(self, background=BACKGROUND)
        # The window handles the keys, which the view would consume.
        self._graphics.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        self.view_box = pg.ViewBox(
            invertY=True, lockAspect=True, enableMenu=False, defaultPadding=0.0
        )
        self._graphics.setCentralItem(self.view_box)
        self.item = pg.ImageItem(axisOrder="row-major")
        self.view_box.addItem(self.item)
        self._cross = tuple(
            pg.InfiniteLine(
                angle=angle, movable=False, pen=pg.mkPen("#56b4e9", width=1)
            )
            for angle in (90, 0)
        )
        self.split = pg.InfiniteLine(
            angle=90,
            movable=True,
            pen=pg.mkPen("#e69f00", width=1),
            hoverPen=pg.mkPen("#e69f00", width=3),
        )
        self.split.sigPositionChanged.connect(self._on_range)
        for line in (*self._cross, self.split):
            line.hide()
            self.view_box.addItem(line, ignoreBounds=True)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._graphics)
        self._caption = self._overlay("caption")
        self._badge = self._overlay("badge")
        self._readout = self._overlay("readout")
        self._scale = self._overlay("scale")
        self._notice = self._overlay("notice")
        self._notice.setWordWrap(True)
        self.view_box.sigRangeChanged.connect(self._on_range)
        self._graphics.scene().sigMouseMoved.connect(self._on_pointer)

    @property
    def image(self) -> NDArray[Any] | None:
        """The array shown, or None."""
        return self._image

    @property
    def caption(self) -> str:
        """Text in the upper left corner."""
        return self._caption.text()

    @property
    def notice(self) -> str:
        """Text in the middle, shown in place of an image."""
        return self._notice.text()

    def show_image(
        self,
        image: NDArray[Any],
        caption: str,
        levels: tuple[float, float],
        second: tuple[NDArray[Any], tuple[float, float]] | None = None,
        share: float | None = None,
    ) -> None:
        """Show (H, W) grey or (H, W, 3) colour between `levels`.

        `second` is an image of the same shape and its levels. It is shown on the right
        of the movable line, or over the whole image with the opacity `share` (0 to 1).
        """
        if second is not None and second[0].shape != image.shape:
            second = None
        self._image, self._levels, self._dirty = image, levels, True
        self._second, self._share = second, share
        self.split.setVisible(second is not None and share is None)
        self._write(self._caption, caption)
        self._write(self._notice, "")
        # The zoom is kept, also over raw-only frames, until the image shape changes.
        if image.shape[:2] != self._shape:
            self._shape = image.shape[:2]
            self.split.setValue(image.shape[1] / 2)
            self.fit()

    def show_nothing(self, notice: str, caption: str = "") -> None:
        """Remove the image and show `notice` in its place."""
        if self._image is not None:
            self.item.clear()
        self._image, self._dirty, self._fitted_size = None, False, None
        self._second = None
        self.split.hide()
        self._write(self._caption, caption)
        self._write(self._notice, notice)
        self._scale.hide()

    def set_badge(self, text: str) -> None:
        """Show `text` in the upper right corner; empty hides it."""
        self._write(self._badge, text)

    def set_readout(self, text: str) -> None:
        """Show `text` in the lower left corner; empty hides it."""
        self._write(self._readout, text)

    def set_lookup_table(self, table: NDArray[np.uint8] | None) -> None:
        """Colour grey images with a table (256, 3) or (256, 4); None for grey."""
        self.item.setLookupTable(table)
        self._dirty = self._image is not None

    def set_cross(self, point: tuple[float, float] | None) -> None:
        """Draw the crosshair at the centre of a pixel; None hides it."""
        for line, value in zip(self._cross, point or (0.0, 0.0), strict=True):
            line.setVisible(point is not None)
            line.setValue(value + 0.5)

    def value_at(self, point: tuple[int, int]) -> str:
        """Return the pixel value at (x, y) as text; empty outside the image."""
        x, y = point
        image = self._image
        if image is None or not (0 <= y < image.shape[0] and 0 <= x < image.shape[1]):
            return ""
        values = np.atleast_1d(image[y, x])
        return " ".join(f"{float(value):.5g}" for value in values)

    def fit(self) -> None:
        """Show the whole image."""
        if self._image is not None:
            height, width = self._image.shape[:2]
            self.view_box.setRange(QtCore.QRectF(0, 0, width, height), padding=0)

    def zoom(self, factor: float) -> None:
        """Magnify by `factor` about the centre."""
        self.view_box.scaleBy((1 / factor, 1 / factor))

    def zoom_to_pixels(self) -> None:
        """Show one image pixel per screen pixel, keeping the centre."""
        width = self.view_box.viewRect().width()
        if width > 0 and self.view_box.width() > 0:
            self.zoom(width * self._ratio() / self.view_box.width())

    def pan(self, right: float, down: float) -> None:
        """Move the view by fractions of its width and height."""
        visible = self.view_box.viewRect()
        self.view_box.translateBy(right * visible.width(), down * visible.height())

    def paint_if_needed(self) -> None:
        """Redraw if anything has changed since the last call."""
        if not self._dirty or self._image is None or not self.isVisible():
            return
        self._dirty = False
        view_size = (self.view_box.width(), self.view_box.height())
        # A view of the whole image stays one when the window is resized.
        if self._fitted_size not in (None, view_size):
            self.fit()
        visible = self.view_box.viewRect()
        self._fitted_size = view_size if self._is_fitted(visible) else None
        ratio = self._ratio()
        size = (int(self.view_box.width() * ratio), int(self.view_box.height() * ratio))
        region = (visible.x(), visible.y(), visible.width(), visible.height())
        reduced, rectangle = reduce_to(self._image, region, size)
        # Interpolate when zoomed out; show magnified pixels as squares.
        self._graphics.setRenderHint(
            QtGui.QPainter.RenderHint.SmoothPixmapTransform,
            reduced.shape[1] * visible.width() > rectangle[2] * size[0],
        )
        drawn = to_uint8(reduced, self._levels)
        if self._second is not None:
            other, levels = self._second
            over, _ = reduce_to(other, region, size)
            if self._share is None:
                left, _, across, _ = rectangle
                column = (self.split.value() - left) / across * drawn.shape[1]
                column = int(np.clip(round(column), 0, drawn.shape[1]))
                drawn[:, column:] = to_uint8(over[:, column:], levels)
            else:
                drawn = blend(drawn, to_uint8(over, levels), self._share)
        self.item.setImage(drawn, levels=None, autoLevels=False)
        self.item.setRect(QtCore.QRectF(*rectangle))
        self._update_scale(visible.width())

    def set_pixel_size(self, pixel_size_nm: float | None) -> None:
        """Set the size of a pixel, for the scale bar; None if it isn't known."""
        if pixel_size_nm != self._pixel_size_nm:
            self._pixel_size_nm = pixel_size_nm
            self._on_range()

    def resizeEvent(self, event: QtGui.QResizeEvent | None) -> None:
        """Keep the overlays in their corners."""
        super().resizeEvent(event)
        for label in (self._caption, self._scale, self._notice):
            self._place(label)
        self._dirty = self._image is not None

    def leaveEvent(self, event: QtCore.QEvent | None) -> None:
        """Report that the pointer has left."""
        super().leaveEvent(event)
        self.pointed.emit(None)

    def _overlay(self, name: str) -> QtWidgets.QLabel:
        label = QtWidgets.QLabel(self)
        label.setObjectName(name)
        label.setAttribute(QtCore.Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        label.setAlignment(_Align.AlignCenter)
        label.hide()
        return label

    def _write(self, label: QtWidgets.QLabel, text: str) -> None:
        if text != label.text():
            label.setText(text)
            self._place(label)
        label.setVisible(bool(text))

    def _place(self, label: QtWidgets.QLabel) -> None:
        if label is self._notice:
            label.setFixedWidth(min(420, max(120, self.width() - 4 * _MARGIN)))
        elif label is self._caption:
            label.setWordWrap(False)
            if label.sizeHint().width() > self.width() - 2 * _MARGIN:
                label.setWordWrap(True)
                label.setFixedWidth(max(40, self.width() - 2 * _MARGIN))
            else:
                label.setFixedWidth(label.sizeHint().width())
        label.adjustSize()
        right = self.width() - label.width() - _MARGIN
        low = self.height() - label.height() - _MARGIN
        x, y = {
            self._caption: (_MARGIN, _MARGIN),
            self._badge: (right, _MARGIN),
            self._readout: (_MARGIN, low),
            self._scale: (right, low),
        }.get(label, ((self.width() - label.width()) // 2, low // 2))
        label.move(x, y)
        # In a narrow pane two labels do not fit side by side.
        if label is self._caption:
            self._place(self._badge)
        elif label is self._badge and self._is_under(label, self._caption):
            label.move(x, self._caption.geometry().bottom() + 1)
        elif label is self._scale:
            self._place(self._readout)
        elif label is self._readout and self._is_under(label, self._scale):
            label.move(x, self._scale.y() - label.height() - 1)

    def _is_under(self, label: QtWidgets.QLabel, other: QtWidgets.QLabel) -> bool:
        return not other.isHidden() and label.geometry().intersects(other.geometry())

    def _update_scale(self, visible_width: float) -> None:
        if visible_width <= 0:
            return
        # In a small view the text is longer than a quarter of its width.
        share = 0.25 if self.width() >= _SMALL else 0.45
        text, pixels = scale_bar(share * visible_width, self._pixel_size_nm)
        self._scale.setText(text)
        across = pixels / visible_width * self.view_box.width()
        self._scale.setFixedWidth(round(across))
        self._scale.show()
        self._place(self._scale)

    def _is_fitted(self, visible: QtCore.QRectF) -> bool:
        height, width = self._shape[:2]
        slack = _FIT_TOLERANCE * max(width, height)
        inside = visible.adjusted(-slack, -slack, slack, slack).contains(
            QtCore.QRectF(0, 0, width, height)
        )
        return (
            inside
            and min(visible.width() / width, visible.height() / height)
            < 1 + _FIT_TOLERANCE
        )

    def _ratio(self) -> float:
        return float(self.devicePixelRatioF())

    def _on_range(self) -> None:
        self._dirty = self._image is not None

    def _on_pointer(self, position: Any) -> None:
        if self._image is None:
            return
        point = self.view_box.mapSceneToView(position)
        x, y = int(np.floor(point.x())), int(np.floor(point.y()))
        height, width = self._image.shape[:2]
        inside = 0 <= x < width and 0 <= y < height
        self.pointed.emit((x, y) if inside else None)
