"""Maps of a field over the frame: the wavefront error, astigmatism, and PSFs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from deepblur_live.acquisition.truth import read_truth
from deepblur_live.blur.field_basis import FieldView
from deepblur_live.blur.places import places
from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.gui.binding import QtCore, QtGui, QtWidgets, pg
from deepblur_live.gui.state_text import quality_text
from deepblur_live.runtime.frame_view import frame_view
from deepblur_live.session.display_unit import coefficient_unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily
    from deepblur_live.profile import Profile
    from deepblur_live.runtime.frame import FrameResult
    from deepblur_live.session.display_unit import DisplayUnit

__all__ = ["FieldMapView"]

# Largest side of a map in pixels; number of its cells and of its bars along each side.
_SIDE, _CELLS, _BARS = 112, 28, 5
# Astigmatism in waves rms at which a bar is as long as the distance between bars.
_LONGEST = 0.15
# The colour scale ends at a multiple of this, in waves rms.
_STEP = 0.05
_Align = QtCore.Qt.AlignmentFlag


class FieldMapView(QtWidgets.QWidget):
    """The estimated field over the frame, and the true one of a simulated camera.

    Each has a map of the wavefront error, with bars along the axis of the astigmatism,
    and the PSFs at the centres of 3 × 3 parts of the frame, as the square roots of
    their intensities on one common scale.
    """

    def __init__(self, profile: Profile, family: ZernikeField) -> None:
        super().__init__()
        self._display = profile.display
        self.use_family(family)
        self._drawn: tuple[object, ...] = ()
        self.estimated, self.true = _Row("estimated"), _Row("true")
        self.true.show_all(False)
        self.scale = QtWidgets.QLabel()
        self.scale.setForegroundRole(QtGui.QPalette.ColorRole.PlaceholderText)
        self.scale.setWordWrap(True)
        grid = QtWidgets.QGridLayout()
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(6)
        for number, row in enumerate((self.estimated, self.true)):
            for column, label in enumerate(row.labels):
                grid.addWidget(label, number, column, _Align.AlignTop)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 6, 0, 0)
        layout.addLayout(grid)
        layout.addWidget(self.scale)
        layout.addStretch(1)
        self.setMaximumWidth(2 * _SIDE + 190)

    def use_family(self, family: BlurFamily) -> None:
        """Use another channel's family, with its wavelength, for later results."""
        assert isinstance(family, ZernikeField)
        self._family, self._unit = family, coefficient_unit(family, self._display)

    def show_result(self, result: FrameResult) -> None:
        """Show the field of a result, or that it has none."""
        track, truth = result.track, read_truth(result.info.metadata)
        fields = [
            None if found is None else found.coefficients for found in (track, truth)
        ]
        if fields[1] is not None and len(fields[1]) != self._family.n_coefficients:
            fields[1] = None
        drawn = (
            result.view,
            result.info.shape,
            *(f if f is None else f.tobytes() for f in fields),
        )
        if drawn == self._drawn:
            return
        self._drawn = drawn
        # With one PSF for the frame, its place on the sensor matters only to the truth.
        info = result.info
        view = result.view or frame_view(info.shape, info.metadata, least_side=1)
        if isinstance(view, FieldView):
            self._family = replace(self._family, view=view)
        family = self._family
        maps = [None if c is None else _Maps.of(family, c) for c in fields]
        known = [found.error.max() for found in maps if found is not None]
        top = _STEP * np.ceil(max([_STEP, *known]) / _STEP)
        one = track is not None and result.view is None
        self.estimated.show_maps(maps[0], family, fields[0], top, one_psf=one)
        self.true.show_all(maps[1] is not None)
        if maps[1] is not None:
            self.true.show_maps(maps[1], family, fields[1], top)
        self.scale.setText(_scale_text(self._unit, top))


class _Maps(NamedTuple):
    """The data of a field's maps.

    Parameters
    ----------
    error
        (n, n) wavefront error in waves rms.
    astigmatism
        (m, m) complex, waves rms; the phase is twice the angle of the axis from x.
    psfs
        (9, K, K) PSFs, row by row.
    """

    error: NDArray[np.float64]
    astigmatism: NDArray[np.complex128]
    psfs: NDArray[np.float64]

    @classmethod
    def of(cls, family: ZernikeField, coefficients: NDArray[np.float64]) -> _Maps:
        c = torch.from_numpy(np.asarray(coefficients, dtype=np.float64))
        error, local = (
            family.at(c, family.view.grid(side)).numpy() for side in (_CELLS, _BARS)
        )
        modes = list(family.local.noll)
        axes = np.zeros(len(local), dtype=np.complex128)
        for mode, factor in ((6, 1.0), (5, 1j)):
            if mode in modes:
                axes += factor * local[:, modes.index(mode)]
        with torch.inference_mode():
            psfs = torch.stack([family.psf(c, place) for place in places(family)])
        return cls(
            np.sqrt(np.square(error).sum(-1)).reshape(_CELLS, _CELLS),
            axes.reshape(_BARS, _BARS),
            psfs.numpy(),
        )


class _Row:
    """A map, its PSFs and a caption."""

    def __init__(self, title: str) -> None:
        self._title = title
        self.map, self.psfs = QtWidgets.QLabel(), QtWidgets.QLabel()
        self.text = QtWidgets.QLabel()
        self.labels = (self.map, self.psfs, self.text)

    def show_all(self, visible: bool) -> None:
        for label in self.labels:
            label.setVisible(visible)

    def show_maps(
        self,
        maps: _Maps | None,
        family: ZernikeField,
        coefficients: NDArray[np.float64] | None,
        top: float,
        *,
        one_psf: bool = False,
    ) -> None:
        if maps is None or coefficients is None:
            self.map.clear()
            self.psfs.clear()
            self.text.setText(f"field, {self._title}:\nno estimate")
            return
        view = family.view
        scale = _SIDE / max(view.height, view.width)
        size = QtCore.QSize(
            max(1, round(scale * view.width)), max(1, round(scale * view.height))
        )
        self.map.setPixmap(_error_map(maps, top, size))
        self.psfs.setPixmap(_psf_mosaic(maps.psfs))
        kind = "one PSF" if one_psf else "field"
        quality = quality_text(family.quality(coefficients))
        self.text.setText(f"{kind}, {self._title}\n\n{quality}")


def _scale_text(unit: DisplayUnit, top: float) -> str:
    return (
        f"left: wavefront error over the frame, black 0 to yellow {unit.text(top)}; "
        "bars: axis and size of the astigmatism · right: PSFs, √ intensity"
    )


def _error_map(maps: _Maps, top: float, size: QtCore.QSize) -> QtGui.QPixmap:
    colours = pg.colormap.get("inferno").map(maps.error / top, mode="byte")
    rgb = np.ascontiguousarray(colours[..., :3])
    data = rgb.tobytes()
    side = maps.error.shape[0]
    image = QtGui.QImage(data, side, side, 3 * side, QtGui.QImage.Format.Format_RGB888)
    pixmap = QtGui.QPixmap.fromImage(image).scaled(
        size,
        QtCore.Qt.AspectRatioMode.IgnoreAspectRatio,
        QtCore.Qt.TransformationMode.SmoothTransformation,
    )
    painter = QtGui.QPainter(pixmap)
    painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
    for width, colour in ((3.0, "#000000"), (1.5, "#ffffff")):
        painter.setPen(QtGui.QPen(QtGui.QColor(colour), width))
        for bar in _bars(maps.astigmatism, size):
            painter.drawLine(bar)
    painter.end()
    return pixmap


def _bars(
    astigmatism: NDArray[np.complex128], size: QtCore.QSize
) -> list[QtCore.QLineF]:
    """Return a line per place, along the axis of its astigmatism."""
    count = astigmatism.shape[0]
    longest = min(size.width(), size.height()) / count
    lines = []
    for row in range(count):
        for column in range(count):
            value = astigmatism[row, column]
            half = longest / 2 * min(1.0, abs(value) / _LONGEST)
            along = half * np.exp(0.5j * np.angle(value))
            x = (column + 0.5) / count * size.width()
            y = (row + 0.5) / count * size.height()
            ends = (x - along.real, y - along.imag, x + along.real, y + along.imag)
            lines.append(QtCore.QLineF(*map(float, ends)))
    return lines


def _psf_mosaic(psfs: NDArray[np.float64]) -> QtGui.QPixmap:
    """Return PSFs (9, K, K) as 3 × 3 pictures; their dark edges are cropped."""
    edge = psfs.shape[-1] // 5
    middle = psfs[:, edge:-edge, edge:-edge]
    root = np.sqrt(np.clip(np.nan_to_num(middle), 0, None))
    grey = (root * (255 / max(float(root.max()), 1e-12))).astype(np.uint8)
    # A line of dark grey between them.
    framed = np.pad(grey, ((0, 0), (0, 1), (0, 1)), constant_values=70)
    side = framed.shape[-1]
    tiled = framed.reshape(3, 3, side, side).swapaxes(1, 2).reshape(3 * side, 3 * side)
    data = np.ascontiguousarray(tiled[:-1, :-1]).tobytes()
    side = 3 * side - 1
    image = QtGui.QImage(data, side, side, side, QtGui.QImage.Format.Format_Grayscale8)
    return QtGui.QPixmap.fromImage(image).scaled(
        _SIDE, _SIDE, QtCore.Qt.AspectRatioMode.KeepAspectRatio
    )
