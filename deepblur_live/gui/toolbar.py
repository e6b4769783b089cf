"""The toolbar: the actions used most, and the session's state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, QtGui, QtWidgets, Signal
from deepblur_live.gui.commands import allow
from deepblur_live.gui.quality_label import QualityLabel
from deepblur_live.gui.theme import chip_style

if TYPE_CHECKING:
    from deepblur_live.gui.camera_link import CameraLink
    from deepblur_live.gui.commands import Commands
    from deepblur_live.gui.state_text import Chip

__all__ = ["Toolbar"]

_STYLE = """
QToolBar { border: 0; spacing: 3px; padding: 0; }
QToolButton { padding: 3px 6px; }
QToolButton:checked { background: palette(highlight);
    color: palette(highlighted-text); border-radius: 3px; }
"""


class Toolbar(QtWidgets.QWidget):
    """The actions needed most, and separately the state chip.

    Parameters
    ----------
    commands
        The window's actions.
    camera
        Whether to show Live, Snap, the exposure and the focus sweep.

    Attributes
    ----------
    state
        A widget with the chip, to be placed by the window.
    """

    exposure_edited = Signal(float)
    """Exposure typed by the user, milliseconds."""

    def __init__(self, commands: Commands, *, camera: bool) -> None:
        super().__init__()
        self._commands = commands
        # In a narrow window, the bar moves the actions at its end, which are needed
        # least, into its own menu (»).
        self._bar = QtWidgets.QToolBar()
        self._bar.setStyleSheet(_STYLE)
        # Holds the menus where there is no menu bar: within another program's window.
        self.menu_button = self._menu_button("Menu", "The menus of this panel")
        self._menu_shown = self._bar.addWidget(self.menu_button)
        self.show_menu_button(False)
        self.exposure = self._exposure_box()
        if camera:
            self._add(commands.live, commands.snap)
            shown = self._bar.addWidget(self.exposure)
            if shown is not None:
                shown.setVisible(True)
            self._bar.addSeparator()
        self._add(commands.record, commands.save, commands.rebaseline)
        if camera:
            self._add(commands.sweep)
        self._bar.addSeparator()
        compare = self._menu_button("Compare", "Raw and deblurred image")
        menu = QtWidgets.QMenu(compare)
        menu.addActions(commands.compare.actions())
        menu.addAction(commands.swap)
        compare.setMenu(menu)
        self._bar.addWidget(compare)
        self._add(commands.freeze, commands.auto, commands.fit, commands.pixels)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(4, 0, 6, 2)
        row.addWidget(self._bar, 1)
        # The window places it where it takes no space from the actions.
        self.state = QtWidgets.QWidget()
        self.chip = QtWidgets.QLabel()
        self.chip.setAlignment(QtCore.Qt.AlignmentFlag.AlignCenter)
        # Cut off rather than widening a narrow window; the tooltip says more.
        self.chip.setMinimumWidth(60)
        self.chip.setStyleSheet(chip_style(None))  # as high as later
        row = QtWidgets.QHBoxLayout(self.state)
        row.setContentsMargins(6, 3, 6, 2)
        row.setSpacing(6)
        self.quality = QualityLabel()
        row.addWidget(self.chip)
        row.addWidget(self.quality)

    def show_menu_button(self, shown: bool) -> None:
        """Show a button with the menus, for a window without a menu bar."""
        if self._menu_shown is not None:
            self._menu_shown.setVisible(shown)

    def show_chip(self, chip: Chip) -> None:
        """Show the session's state as colour and text."""
        if chip.text != self.chip.text():
            self.chip.setStyleSheet(chip_style(chip.state))
            self.chip.setText(chip.text)
        self.chip.setToolTip(chip.reason)

    def show_camera(self, link: CameraLink) -> None:
        """Show the camera's state, whoever changed it."""
        commands, exposure = self._commands, link.exposure_ms
        why_not = ""
        if link.acquiring:
            why_not = "the camera is in use by an acquisition"
        elif exposure is None:
            why_not = "the core has no camera"
        for action in (commands.live, commands.edit_exposure):
            allow(action, why_not)
        if link.live:
            why_not = why_not or "live mode is running"
        elif link.busy:
            why_not = why_not or "the camera is busy"
        allow(commands.snap, why_not)
        self.exposure.setEnabled(commands.edit_exposure.isEnabled())
        if not link.busy:
            commands.live.setChecked(link.live)
            if exposure is not None and not self.exposure.hasFocus():
                self.exposure.setValue(exposure)

    def edit_exposure(self) -> None:
        """Put the keyboard into the exposure box."""
        if self.exposure.isEnabled() and self.exposure.isVisible():
            self.exposure.setFocus()
            self.exposure.selectAll()

    def _exposure_box(self) -> QtWidgets.QDoubleSpinBox:
        box = QtWidgets.QDoubleSpinBox()
        box.setRange(0.01, 600_000.0)
        box.setDecimals(2)
        box.setButtonSymbols(QtWidgets.QAbstractSpinBox.ButtonSymbols.NoButtons)
        box.setStepType(QtWidgets.QAbstractSpinBox.StepType.AdaptiveDecimalStepType)
        box.setSuffix(" ms")
        # Wide enough for a minute, in any font.
        box.setFixedWidth(box.fontMetrics().horizontalAdvance("60000.00 ms") + 16)
        box.setKeyboardTracking(False)
        box.setFocusPolicy(QtCore.Qt.FocusPolicy.ClickFocus)
        box.setToolTip("Exposure time; changing it pauses live mode (E)")
        box.setAccessibleName("Exposure time")
        box.setParent(self)
        box.hide()
        box.editingFinished.connect(self._on_exposure)
        return box

    def _menu_button(self, text: str, tip: str) -> QtWidgets.QToolButton:
        button = QtWidgets.QToolButton()
        button.setText(text)
        button.setToolTip(tip)
        button.setPopupMode(QtWidgets.QToolButton.ToolButtonPopupMode.InstantPopup)
        button.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        return button

    def _add(self, *actions: QtGui.QAction) -> None:
        for action in actions:
            self._bar.addAction(action)
            button = self._bar.widgetForAction(action)
            if button is not None:
                # Space belongs to the comparison, not to the button clicked last.
                button.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)

    def _on_exposure(self) -> None:
        self.exposure.clearFocus()
        self.exposure_edited.emit(self.exposure.value())
