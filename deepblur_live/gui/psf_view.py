"""Thumbnails of the estimated PSF and, if known, the true one, with their quality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deepblur_live.acquisition.truth import read_truth
from deepblur_live.gui.binding import QtCore, QtGui, QtWidgets
from deepblur_live.gui.state_text import quality_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily
    from deepblur_live.runtime.frame import FrameResult

__all__ = ["PsfView"]

_SIDE = 124
_Align = QtCore.Qt.AlignmentFlag


class PsfView(QtWidgets.QWidget):
    """The estimated PSF, and the true PSF of a simulated camera.

    Each is drawn as the square root of its intensity, scaled to its own maximum: the
    side lobes, which distinguish aberrations, are invisible on a linear scale. The
    outer sixths of the PSF, nearly dark, are cropped.
    """

    def __init__(self, family: BlurFamily) -> None:
        super().__init__()
        self._family = family
        known = family.n_coefficients == 0
        self.estimated = _Thumbnail("PSF, measured" if known else "PSF, estimated")
        self.true = _Thumbnail("PSF, true")
        self.true.hide()
        scale = QtWidgets.QLabel("√ intensity")
        scale.setForegroundRole(QtGui.QPalette.ColorRole.PlaceholderText)
        row = QtWidgets.QHBoxLayout()
        row.setSpacing(10)
        row.addWidget(self.estimated)
        row.addWidget(self.true)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 6, 0, 0)
        layout.addLayout(row)
        layout.addWidget(scale, alignment=_Align.AlignHCenter)
        layout.addStretch(1)

    def use_family(self, family: BlurFamily) -> None:
        """Use another channel's family, with its wavelength, for later results."""
        self._family = family

    def show_result(self, result: FrameResult) -> None:
        """Show the PSF of a result, or that it has none."""
        track = result.track
        if track is None or result.psf is None:
            self.estimated.show_nothing("no estimate")
        else:
            self.estimated.show_psf(result.psf, self._caption(track.coefficients))
        truth = read_truth(result.info.metadata)
        if truth is not None and len(truth.coefficients) != self._family.n_coefficients:
            truth = None
        self.true.setVisible(truth is not None)
        if truth is not None:
            with torch.inference_mode():
                psf = self._family.psf(torch.as_tensor(truth.coefficients)).numpy()
            self.true.show_psf(psf, self._caption(truth.coefficients))

    def _caption(self, coefficients: NDArray[np.float64]) -> str:
        return quality_text(self._family.quality(coefficients))


class _Thumbnail(QtWidgets.QWidget):
    def __init__(self, title: str) -> None:
        super().__init__()
        heading = QtWidgets.QLabel(title)
        heading.setForegroundRole(QtGui.QPalette.ColorRole.PlaceholderText)
        self.image = QtWidgets.QLabel()
        self.image.setFixedSize(_SIDE, _SIDE)
        self.image.setAlignment(_Align.AlignCenter)
        self.image.setStyleSheet("background: black;")
        self.text = QtWidgets.QLabel()
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for label in (heading, self.image, self.text):
            label.setAlignment(_Align.AlignCenter)
            layout.addWidget(label, alignment=_Align.AlignHCenter)
        layout.addStretch(1)

    def show_psf(self, psf: NDArray[Any], text: str) -> None:
        edge = psf.shape[0] // 6
        middle = psf[edge : psf.shape[0] - edge, edge : psf.shape[1] - edge]
        root = np.sqrt(np.clip(np.nan_to_num(middle), 0, None))
        grey = np.ascontiguousarray(root * (255 / max(float(root.max()), 1e-12)))
        data = grey.astype(np.uint8).tobytes()
        height, width = middle.shape
        image = QtGui.QImage(
            data, width, height, width, QtGui.QImage.Format.Format_Grayscale8
        )
        pixmap = QtGui.QPixmap.fromImage(image)
        self.image.setPixmap(
            pixmap.scaled(_SIDE, _SIDE, QtCore.Qt.AspectRatioMode.KeepAspectRatio)
        )
        self.text.setText(text)

    def show_nothing(self, text: str) -> None:
        self.image.clear()
        self.text.setText(text)
