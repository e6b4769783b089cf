"""The row of buttons: camera, view, snapshot; each with its key in the tooltip."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, QtGui, QtWidgets, Signal
from deepblur_live.gui.theme import CHIP_COLOURS

if TYPE_CHECKING:
    from deepblur_live.gui.camera_link import CameraLink
    from deepblur_live.gui.state_text import Chip

__all__ = ["Toolbar"]


class Toolbar(QtWidgets.QWidget):
    """Buttons and the state chip. It decides nothing: actions and signals only.

    Parameters
    ----------
    camera
        True shows Live, Snap and the exposure.
    """

    exposure_asked = Signal(float)
    """Exposure in milliseconds, typed by the user."""

    def __init__(
        self, *, camera: bool, parent: QtWidgets.QWidget | None = None
    ) -> None:
        super().__init__(parent)
        # What has no room goes into the bar's own menu (»): the window may be narrow.
        self._bar = QtWidgets.QToolBar()
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        row.addWidget(self._bar, 1)
        self.live = self._action("Live", "L", "Start or stop live mode", check=True)
        self.snap = self._action("Snap", "S", "Take one picture")
        self.exposure = self._exposure_box()
        camera_actions = (self.live, self.snap)
        for action in camera_actions:
            action.setVisible(camera)
            action.setEnabled(camera)
        if camera:
            self._add(*camera_actions)
            self._label("Exposure")
            shown = self._bar.addWidget(self.exposure)
            if shown is not None:
                shown.setVisible(True)
            self._gap()
        self.freeze = self._action(
            "Freeze", "F", "Hold the picture; acquisition and drift go on", check=True
        )
        self.flicker = self._action(
            "Flicker",
            "Shift+Space",
            "Show the deblurred picture on the left; hold Space for a moment of it",
            check=True,
        )
        self.auto = self._action(
            "Auto", "A", "Follow the contrast of each frame", check=True
        )
        self.auto.setChecked(True)
        self.lock = self._action(
            "Lock",
            "K",
            "Give both pictures the levels of the raw one",
            check=True,
        )
        self.cross = self._action(
            "Cross", "X", "Mark the same pixel in both pictures", check=True
        )
        self.cross.setChecked(True)
        self.fit = self._action("Fit", "0", "Show the whole picture")
        self.pixels = self._action("1:1", "1", "One pixel on one of the screen")
        self._add(self.freeze, self.flicker)
        self._gap()
        self._label("Levels")
        self._add(self.auto, self.lock)
        self._gap()
        self._add(self.cross, self.fit, self.pixels)
        self._gap()
        self.save = self._action(
            "Save", "Ctrl+S", "Snapshot: raw and deblurred TIFF, coefficients as JSON"
        )
        self.save_as = self._action(
            "Save in …", "Ctrl+Shift+S", "Snapshot into a folder you choose"
        )
        self.rebaseline = self._action(
            "Re-baseline", "Ctrl+B", "Measure changes from the optics as they are now"
        )
        self.acknowledge = self._action(
            "Acknowledge", "Ctrl+K", "I have seen the alert; keep watching"
        )
        self._add(self.save, self.rebaseline)
        self.chip = QtWidgets.QLabel()
        self.chip.setAlignment(QtCore.Qt.AlignmentFlag.AlignCenter)
        self.chip.setMinimumWidth(165)
        row.addWidget(self.chip)

    def show_chip(self, chip: Chip) -> None:
        """Show the session's state, in colour and in words."""
        if chip.text != self.chip.text():
            ground, ink = CHIP_COLOURS[chip.state]
            self.chip.setStyleSheet(
                f"background: {ground}; color: {ink}; border-radius: 4px;"
                "padding: 5px 12px; font-weight: bold;"
            )
            self.chip.setText(chip.text)
        self.chip.setToolTip(chip.reason)

    def show_camera(self, link: CameraLink) -> None:
        """Show what the camera does, whoever told it to."""
        acquiring, exposure = link.acquiring, link.exposure_ms
        usable = exposure is not None and not acquiring
        self.live.setEnabled(usable)
        self.snap.setEnabled(usable and not link.live and not link.busy)
        self.exposure.setEnabled(usable)
        if not link.busy:
            self.live.setChecked(link.live)
            if exposure is not None and not self.exposure.hasFocus():
                self.exposure.setValue(exposure)
        self.live.setToolTip(
            "An acquisition is running: the camera is its own (L)"
            if acquiring
            else "Start or stop live mode (L)"
        )

    def _exposure_box(self) -> QtWidgets.QDoubleSpinBox:
        box = QtWidgets.QDoubleSpinBox()
        box.setRange(0.01, 600_000.0)
        box.setDecimals(2)
        box.setButtonSymbols(QtWidgets.QAbstractSpinBox.ButtonSymbols.NoButtons)
        box.setFixedWidth(105)
        box.setStepType(QtWidgets.QAbstractSpinBox.StepType.AdaptiveDecimalStepType)
        box.setSuffix(" ms")
        box.setKeyboardTracking(False)
        box.setFocusPolicy(QtCore.Qt.FocusPolicy.ClickFocus)
        box.setToolTip("Exposure; live mode pauses while it changes (E)")
        box.setParent(self)
        box.hide()
        box.editingFinished.connect(self._on_exposure)
        self.edit_exposure = QtGui.QShortcut(QtGui.QKeySequence("E"), self)
        self.edit_exposure.activated.connect(self._on_edit_exposure)
        return box

    def _action(
        self, text: str, key: str, tip: str, *, check: bool = False
    ) -> QtGui.QAction:
        action = QtGui.QAction(text, self)
        action.setShortcut(QtGui.QKeySequence(key))
        action.setToolTip(f"{tip} ({key})")
        action.setCheckable(check)
        self.addAction(action)
        return action

    def _add(self, *actions: QtGui.QAction) -> None:
        for action in actions:
            self._bar.addAction(action)
            button = self._bar.widgetForAction(action)
            if button is not None:
                # Space is for the flicker, not for the button clicked last.
                button.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)

    def _label(self, text: str) -> None:
        label = QtWidgets.QLabel(text)
        label.setObjectName("muted")
        self._bar.addWidget(label)

    def _gap(self) -> None:
        gap = QtWidgets.QWidget()
        gap.setFixedWidth(6)
        self._bar.addWidget(gap)

    def _on_edit_exposure(self) -> None:
        if self.exposure.isEnabled() and self.exposure.isVisible():
            self.exposure.setFocus()
            self.exposure.selectAll()

    def _on_exposure(self) -> None:
        self.exposure.clearFocus()
        self.exposure_asked.emit(self.exposure.value())
