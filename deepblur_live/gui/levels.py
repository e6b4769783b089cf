"""Histograms of both images, with handles for their contrast, and the colormap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deepblur_live.gui.binding import QtCore, QtGui, QtWidgets, Signal, pg
from deepblur_live.gui.contrast import finite_sample
from deepblur_live.gui.palette import colours_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.gui.image_pair import ImagePair

__all__ = ["LevelsView"]

_BINS = 200


class LevelsView(QtWidgets.QWidget):
    """A histogram for each image, whose handles set its levels.

    Counts are on a logarithmic scale: most pixels of a fluorescence image are dark.

    Parameters
    ----------
    images
        The images.
    """

    levels_set = Signal()
    """The user has moved a handle."""

    # pyqtgraph's histograms, without one of its image items: it would fetch the image
    # after the levels are applied, and reset its range at each frame.
    def __init__(self, images: ImagePair) -> None:
        super().__init__()
        self._images = images
        self._own = False
        self.histograms: tuple[Any, ...] = ()
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.setToolTip("Drag the lines to set black and white; logarithmic counts")

    def _build(self) -> None:
        """Create the histograms when they are first needed, as it takes 0.1 s."""
        if self.histograms:
            return
        self._graphics = pg.GraphicsLayoutWidget(parent=self)
        self._graphics.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        self._graphics.setMinimumSize(60, 60)
        self.histograms = tuple(pg.HistogramLUTItem() for _ in range(2))
        self._titles = tuple(
            self._graphics.addLabel(text, row=0, col=column, size="8pt")
            for column, text in enumerate(("raw", "deblurred"))
        )
        self._graphics.ci.layout.setRowStretchFactor(1, 100)
        self._graphics.ci.layout.setContentsMargins(2, 2, 14, 2)
        for column, histogram in enumerate(self.histograms):
            self._graphics.addItem(histogram, row=1, col=column)
            histogram.vb.setMenuEnabled(False)
            histogram.vb.setMinimumWidth(24)
            histogram.vb.setMaximumWidth(10_000)
            histogram.axis.enableAutoSIPrefix(False)
        raw, deblurred = self.histograms
        raw.sigLevelsChanged.connect(self._on_raw)
        deblurred.sigLevelsChanged.connect(self._on_deblurred)
        raw.sigLookupTableChanged.connect(self._on_colours)
        deblurred.sigLookupTableChanged.connect(self._on_colours)
        layout = self.layout()
        assert layout is not None
        layout.addWidget(self._graphics)
        self._colour()

    def showEvent(self, event: QtGui.QShowEvent | None) -> None:
        """Create the histograms when they are shown for the first time."""
        super().showEvent(event)
        self._build()

    def sizeHint(self) -> QtCore.QSize:
        """Return a size that leaves most of the room to the images."""
        return QtCore.QSize(220, 300)

    def update_from_images(self) -> None:
        """Draw the histograms and levels of the images shown now."""
        if not self.isVisible():
            return
        self._own = True
        try:
            for histogram, image, levels in zip(
                self.histograms, self._images.measured, self._images.levels, strict=True
            ):
                counts = None if image is None else _histogram(image)
                if counts is None:
                    histogram.plot.clear()
                    continue
                edges, heights = counts
                histogram.plot.setData(edges, heights)
                if levels != tuple(histogram.getLevels()):
                    histogram.setLevels(*levels)
                low, high = min(edges[0], levels[0]), max(edges[-1], levels[1])
                histogram.setHistogramRange(low, high, padding=0.03)
        finally:
            self._own = False

    def set_colormap(self, name: str) -> None:
        """Show both images in one of pyqtgraph's gradients, such as ``"viridis"``."""
        self._build()
        for histogram in self.histograms:
            histogram.gradient.loadPreset(name)

    def changeEvent(self, event: QtCore.QEvent | None) -> None:
        """Follow the host's colours."""
        super().changeEvent(event)
        changed = QtCore.QEvent.Type.PaletteChange
        if event is not None and event.type() == changed and self.histograms:
            self._colour()

    def _colour(self) -> None:
        colours = colours_of(self)
        self._graphics.setBackground(colours.ground)
        for title in self._titles:
            title.setText(title.text, color=colours.muted)
        for histogram in self.histograms:
            histogram.axis.setPen(colours.axis)
            histogram.axis.setTextPen(colours.muted)
            histogram.fillHistogram(color=QtGui.QColor(colours.curves[1]))
            for line in histogram.region.lines:
                line.setPen(pg.mkPen(colours.text, width=1))

    def _on_raw(self, histogram: Any) -> None:
        self._on_levels(0, histogram)

    def _on_deblurred(self, histogram: Any) -> None:
        self._on_levels(1, histogram)

    def _on_levels(self, index: int, histogram: Any) -> None:
        if not self._own:
            low, high = histogram.getLevels()
            self._images.set_levels(index, float(low), float(high))
            self.levels_set.emit()

    def _on_colours(self, histogram: Any) -> None:
        pane = (
            self._images.raw
            if histogram is self.histograms[0]
            else self._images.deblurred
        )
        plain = histogram.gradient.isLookupTrivial()
        table = None if plain else histogram.gradient.getLookupTable(256)
        pane.set_lookup_table(table)


def _histogram(
    image: NDArray[Any],
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the bins' centres and log10(1 + count); None without finite pixels."""
    finite = finite_sample(image)
    if finite.size == 0 or not np.isfinite(np.ptp(finite)):
        return None
    counts, edges = np.histogram(finite, bins=_BINS)
    return (edges[1:] + edges[:-1]) / 2, np.log10(1.0 + counts)
