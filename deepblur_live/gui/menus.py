"""The menus of the window: all its actions, in the usual groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtGui, QtWidgets

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deepblur_live.gui.commands import Commands

__all__ = ["Menus"]


class Menus:
    """File, View, Session and Help.

    Parameters
    ----------
    commands
        The window's actions.
    panels
        The actions that show and hide its panels.
    camera
        Whether the session has a camera; else its actions are left out.
    """

    def __init__(
        self, commands: Commands, panels: Iterable[QtGui.QAction], *, camera: bool
    ) -> None:
        c = commands
        self.recent = _menu("Recent sessions")
        self.file = _menu("&File")
        self.file.addActions([c.open_recording, c.open_profile, c.edit_profile])
        self.file.addMenu(self.recent)
        self.file.addActions([c.folder, c.report])
        self.file.addSeparator()
        self.file.addActions([c.save, c.save_as])
        self.file.addSeparator()
        self.file.addAction(c.close)

        self._colormaps = _menu("Colormap")
        self._colormaps.addActions(c.colormaps.actions())
        self.view = _menu("&View")
        self.view.addActions(list(panels))
        self.view.addAction(c.reset_layout)
        self.view.addSeparator()
        self.view.addActions(c.compare.actions())
        self.view.addActions([c.swap, c.freeze])
        self.view.addSeparator()
        self.view.addActions([c.auto, c.lock, c.region_levels])
        self.view.addMenu(self._colormaps)
        self.view.addSeparator()
        self.view.addActions([c.cross, c.fit, c.pixels])

        self._snooze = _menu("Snooze")
        self._snooze.addActions(c.snoozes)
        self.session = _menu("&Session")
        if camera:
            self.session.addActions([c.live, c.snap, c.edit_exposure, c.every_frame])
            self.session.addSeparator()
        self.session.addActions([c.record, c.record_in])
        self.session.addSeparator()
        self.session.addActions([c.rebaseline, c.sweep, c.check, c.calibrate])
        self.session.addSeparator()
        self.session.addAction(c.acknowledge)
        self.session.addMenu(self._snooze)

        self.help = _menu("&Help")
        self.help.addActions([c.shortcuts, c.documentation, c.about])

    @property
    def all(self) -> tuple[QtWidgets.QMenu, ...]:
        """The menus, in their usual order."""
        return self.file, self.view, self.session, self.help


def _menu(title: str) -> QtWidgets.QMenu:
    menu = QtWidgets.QMenu(title)
    menu.setToolTipsVisible(True)  # they say why an action is greyed
    return menu
