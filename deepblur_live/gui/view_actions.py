"""The menu View: how the images are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, QtGui
from deepblur_live.gui.image_pair import CompareMode

if TYPE_CHECKING:
    from deepblur_live.gui.commands import Commands
    from deepblur_live.gui.image_pair import ImagePair
    from deepblur_live.gui.levels import LevelsView

__all__ = ["ViewActions"]


class ViewActions(QtCore.QObject):
    """Forwards the user's actions to the images.

    Parameters
    ----------
    commands
        The window's actions; those of the menu View are connected.
    images, levels
        The window's images and histograms.
    parent
        The window.
    """

    def __init__(
        self,
        commands: Commands,
        images: ImagePair,
        levels: LevelsView,
        parent: QtCore.QObject,
    ) -> None:
        super().__init__(parent)
        self._commands, self._images, self._levels = commands, images, levels
        commands.compare.triggered.connect(self._on_compare)
        commands.colormaps.triggered.connect(self._on_colormap)
        commands.swap.toggled.connect(images.set_swapped)
        commands.auto.toggled.connect(images.set_auto)
        commands.lock.toggled.connect(images.set_locked)
        commands.cross.toggled.connect(images.set_crosshair)
        commands.freeze.toggled.connect(images.set_frozen)
        commands.fit.triggered.connect(images.raw.fit)
        commands.pixels.triggered.connect(images.raw.zoom_to_pixels)
        levels.levels_set.connect(self._on_levels_set)

    def _on_compare(self, action: QtGui.QAction) -> None:
        self._images.set_mode(CompareMode(action.data()))

    def _on_colormap(self, action: QtGui.QAction) -> None:
        self._levels.set_colormap(action.data())

    def _on_levels_set(self) -> None:
        # Otherwise the next frame would reset the levels.
        self._commands.auto.setChecked(False)
