"""One picture with zoom and pan: it draws no more pixels than the screen shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.gui.binding import QtCore, QtGui, QtWidgets, Signal, pg
from deepblur_live.gui.picture import reduce_to, to_uint8
from deepblur_live.gui.theme import BACKGROUND, TEXT

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ImagePane"]

_MARGIN = 8
_SNUG = 0.02
_Align = QtCore.Qt.AlignmentFlag


class ImagePane(QtWidgets.QWidget):
    """A picture in image coordinates (x right, y down, one unit a pixel).

    `show_picture` and `show_nothing` only remember; `paint_if_needed`, called by the
    window's timer, draws: many changes between two ticks cost one drawing.

    Parameters
    ----------
    pixel_size_nm
        Draws the scale bar; None leaves it out.
    """

    pointed = Signal(object)
    """(x, y) of the pixel under the pointer, or None when it has left."""

    def __init__(
        self,
        *,
        pixel_size_nm: float | None = None,
        parent: QtWidgets.QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._pixel_size_nm = pixel_size_nm
        self._picture: NDArray[Any] | None = None
        self._levels = (0.0, 1.0)
        self._shape: tuple[int, ...] = ()
        self._dirty = False
        # Of the view when it was last drawn: its size, if it showed the whole picture.
        self._whole_at: tuple[float, float] | None = None
        self._graphics = pg.GraphicsView(self, background=BACKGROUND)
        # Keys are the window's: the view would swallow them.
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
        for line in self._cross:
            line.hide()
            self.view_box.addItem(line, ignoreBounds=True)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._graphics)
        self._caption = self._overlay("overlay")
        self._badge = self._overlay("overlay")
        self._readout = self._overlay("overlay")
        self._scale = self._overlay("overlay")
        self._scale.setStyleSheet(
            f"border-bottom: 3px solid {TEXT}; border-radius: 0; padding: 1px 0;"
        )
        self._notice = self._overlay("notice")
        self._notice.setWordWrap(True)
        self.view_box.sigRangeChanged.connect(self._on_range)
        self._graphics.scene().sigMouseMoved.connect(self._on_pointer)

    @property
    def picture(self) -> NDArray[Any] | None:
        """The array that is shown, None where there is none."""
        return self._picture

    @property
    def caption(self) -> str:
        """What is written on the picture."""
        return self._caption.text()

    @property
    def notice(self) -> str:
        """What is written in the middle, in place of a picture."""
        return self._notice.text()

    def show_picture(
        self, picture: NDArray[Any], caption: str, levels: tuple[float, float]
    ) -> None:
        """Show (H, W) grey or (H, W, 3) colour between `levels`."""
        self._picture, self._levels, self._dirty = picture, levels, True
        self._write(self._caption, caption)
        self._write(self._notice, "")
        # The zoom outlives raw-only frames between; only another shape starts afresh.
        if picture.shape[:2] != self._shape:
            self._shape = picture.shape[:2]
            self.fit()

    def show_nothing(self, notice: str, caption: str = "") -> None:
        """Take the picture away and say why."""
        if self._picture is not None:
            self.item.clear()
        self._picture, self._dirty, self._whole_at = None, False, None
        self._write(self._caption, caption)
        self._write(self._notice, notice)
        self._scale.hide()

    def set_badge(self, text: str) -> None:
        """Write `text` in the upper right corner; empty takes it away."""
        self._write(self._badge, text)

    def set_readout(self, text: str) -> None:
        """Write `text` in the lower left corner; empty takes it away."""
        self._write(self._readout, text)

    def set_cross(self, point: tuple[float, float] | None) -> None:
        """Draw the crosshair at the middle of a pixel, or nowhere."""
        for line, value in zip(self._cross, point or (0.0, 0.0), strict=True):
            line.setVisible(point is not None)
            line.setValue(value + 0.5)

    def value_at(self, point: tuple[int, int]) -> str:
        """Return the value of the pixel at (x, y), empty outside."""
        x, y = point
        picture = self._picture
        if picture is None or not (
            0 <= y < picture.shape[0] and 0 <= x < picture.shape[1]
        ):
            return ""
        values = np.atleast_1d(picture[y, x])
        return " ".join(f"{float(value):.5g}" for value in values)

    def fit(self) -> None:
        """Show the whole picture."""
        if self._picture is not None:
            height, width = self._picture.shape[:2]
            self.view_box.setRange(QtCore.QRectF(0, 0, width, height), padding=0)

    def zoom(self, factor: float) -> None:
        """Magnify by `factor` about the middle."""
        self.view_box.scaleBy((1 / factor, 1 / factor))

    def zoom_to_pixels(self) -> None:
        """Show one pixel of the picture on one of the screen, middle unmoved."""
        width = self.view_box.viewRect().width()
        if width > 0 and self.view_box.width() > 0:
            self.zoom(width * self._ratio() / self.view_box.width())

    def pan(self, right: float, down: float) -> None:
        """Move by shares of what is seen."""
        seen = self.view_box.viewRect()
        self.view_box.translateBy(right * seen.width(), down * seen.height())

    def paint_if_needed(self) -> None:
        """Draw what changed since the last call."""
        if not self._dirty or self._picture is None or not self.isVisible():
            return
        self._dirty = False
        drawn_on = (self.view_box.width(), self.view_box.height())
        # Who saw the whole picture goes on seeing it in a window of another size.
        if self._whole_at not in (None, drawn_on):
            self.fit()
        seen = self.view_box.viewRect()
        self._whole_at = drawn_on if self._shows_the_whole(seen) else None
        ratio = self._ratio()
        size = (int(self.view_box.width() * ratio), int(self.view_box.height() * ratio))
        region = (seen.x(), seen.y(), seen.width(), seen.height())
        reduced, rectangle = reduce_to(self._picture, region, size)
        # Shrunk pixels are blended, magnified ones are shown as they are.
        self._graphics.setRenderHint(
            QtGui.QPainter.RenderHint.SmoothPixmapTransform,
            reduced.shape[1] * seen.width() > rectangle[2] * size[0],
        )
        self.item.setImage(
            to_uint8(reduced, self._levels), levels=None, autoLevels=False
        )
        self.item.setRect(QtCore.QRectF(*rectangle))
        self._update_scale(seen.width())

    def resizeEvent(self, event: QtGui.QResizeEvent | None) -> None:
        """Keep the words in their corners."""
        super().resizeEvent(event)
        for label in (self._caption, self._badge, self._readout, self._notice):
            self._place(label)
        self._dirty = self._picture is not None

    def leaveEvent(self, event: QtCore.QEvent | None) -> None:
        """Tell that the pointer has left."""
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

    def _update_scale(self, seen_width: float) -> None:
        if self._pixel_size_nm is None or seen_width <= 0:
            return
        longest_nm = 0.25 * seen_width * self._pixel_size_nm
        power = 10.0 ** np.floor(np.log10(longest_nm))
        length_nm = power * next(n for n in (5, 2, 1) if n * power <= longest_nm)
        across = length_nm / self._pixel_size_nm / seen_width * self.view_box.width()
        if length_nm >= 1000:
            self._scale.setText(f"{length_nm / 1000:g} µm")
        else:
            self._scale.setText(f"{length_nm:g} nm")
        self._scale.setFixedWidth(round(across))
        self._place(self._scale)
        self._scale.show()

    def _shows_the_whole(self, seen: QtCore.QRectF) -> bool:
        height, width = self._shape[:2]
        slack = _SNUG * max(width, height)
        inside = seen.adjusted(-slack, -slack, slack, slack).contains(
            QtCore.QRectF(0, 0, width, height)
        )
        return inside and min(seen.width() / width, seen.height() / height) < 1 + _SNUG

    def _ratio(self) -> float:
        return float(self.devicePixelRatioF())

    def _on_range(self) -> None:
        self._dirty = self._picture is not None

    def _on_pointer(self, position: Any) -> None:
        if self._picture is None:
            return
        point = self.view_box.mapSceneToView(position)
        x, y = int(np.floor(point.x())), int(np.floor(point.y()))
        height, width = self._picture.shape[:2]
        inside = 0 <= x < width and 0 <= y < height
        self.pointed.emit((x, y) if inside else None)
