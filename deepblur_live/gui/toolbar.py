"""The toolbar: camera, view, snapshot and state; tooltips name the shortcuts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, QtGui, QtWidgets, Signal
from deepblur_live.gui.theme import CHIP_COLOURS

if TYPE_CHECKING:
    from deepblur_live.gui.camera_link import CameraLink
    from deepblur_live.gui.state_text import Chip

__all__ = ["Toolbar"]


class Toolbar(QtWidgets.QWidget):
    """Actions and the state chip; the window connects them.

    Parameters
    ----------
    camera
        Whether to show Live, Snap and the exposure.
    """

    exposure_edited = Signal(float)
    """Exposure typed by the user, milliseconds."""

    def __init__(self, *, camera: bool) -> None:
        super().__init__()
        # In a narrow window, the bar moves actions into its own menu (»).
        self._bar = QtWidgets.QToolBar()
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        row.addWidget(self._bar, 1)
        self.live = self._toggle("Live", "L", "Start or stop live mode")
        self.snap = self._action("Snap", "S", "Acquire one image")
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
            self._space()
        self.freeze = self._toggle(
            "Freeze", "F", "Freeze the images; acquisition and monitoring continue"
        )
        self.flicker = self._toggle(
            "Flicker",
            "Shift+Space",
            "Show the deblurred image on the left, as holding Space does",
        )
        self.auto = self._toggle(
            "Auto", "A", "Adjust the display levels to each frame", on=True
        )
        self.lock = self._toggle(
            "Lock", "K", "Use the levels of the raw image for both images"
        )
        self.cross = self._toggle(
            "Crosshair",
            "X",
            "Show a crosshair at the same pixel of both images",
            on=True,
        )
        self.fit = self._action("Fit", "0", "Show the whole image")
        self.pixels = self._action("1:1", "1", "One image pixel per screen pixel")
        self._add(self.freeze, self.flicker)
        self._space()
        self._label("Levels")
        self._add(self.auto, self.lock)
        self._space()
        self._add(self.cross, self.fit, self.pixels)
        self._space()
        self.save = self._action(
            "Save",
            "Ctrl+S",
            "Save a snapshot: raw and deblurred TIFF, coefficients as JSON",
        )
        self.save_as = self._action(
            "Save in …", "Ctrl+Shift+S", "Save a snapshot in another folder"
        )
        self.record = self._toggle(
            "Record",
            "Ctrl+R",
            "Keep the deblurred frames in the session's folder, and the raw ones "
            "beside them",
        )
        self.record_in = self._action(
            "Record in …", "Ctrl+Shift+R", "Keep them in another file"
        )
        self.every_frame = self._toggle(
            "Every frame",
            "Shift+E",
            "Deblur every frame of the camera instead of the newest; those that still "
            "wait are dropped when this ends",
        )
        self.every_frame.setVisible(camera)
        self.every_frame.setEnabled(camera)
        self.rebaseline = self._action(
            "Re-baseline",
            "Ctrl+B",
            "Use the present state of the optics as the new baseline",
        )
        self.acknowledge = self._action(
            "Acknowledge", "Ctrl+K", "Mark the alert as seen; monitoring continues"
        )
        self.sweep = self._action(
            "Sweep …",
            "Ctrl+F",
            "Measure the blur by moving the focus drive, and say how to refocus",
        )
        self.sweep.setVisible(camera)
        self.sweep.setEnabled(camera)
        self._add(self.save, self.record)
        if camera:
            self._add(self.every_frame)
        self._add(self.rebaseline)
        if camera:
            self._add(self.sweep)
        self.chip = QtWidgets.QLabel()
        self.chip.setAlignment(QtCore.Qt.AlignmentFlag.AlignCenter)
        self.chip.setMinimumWidth(140)
        row.addWidget(self.chip)

    def show_chip(self, chip: Chip) -> None:
        """Show the session's state as colour and text."""
        if chip.text != self.chip.text():
            ground, ink = CHIP_COLOURS[chip.state]
            self.chip.setStyleSheet(
                f"background: {ground}; color: {ink}; border-radius: 4px;"
                "padding: 5px 12px; font-weight: bold;"
            )
            self.chip.setText(chip.text)
        self.chip.setToolTip(chip.reason)

    def show_camera(self, link: CameraLink) -> None:
        """Show the camera's state, whoever changed it."""
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
            "The camera is in use by an acquisition (L)"
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
        box.setToolTip("Exposure time; changing it pauses live mode (E)")
        box.setParent(self)
        box.hide()
        box.editingFinished.connect(self._on_exposure)
        self.edit_exposure = QtGui.QShortcut(QtGui.QKeySequence("E"), self)
        self.edit_exposure.activated.connect(self._on_edit_exposure)
        return box

    def _action(self, text: str, key: str, tip: str) -> QtGui.QAction:
        action = QtGui.QAction(text, self)
        action.setShortcut(QtGui.QKeySequence(key))
        action.setToolTip(f"{tip} ({key})")
        self.addAction(action)
        return action

    def _toggle(
        self, text: str, key: str, tip: str, *, on: bool = False
    ) -> QtGui.QAction:
        action = self._action(text, key, tip)
        action.setCheckable(True)
        action.setChecked(on)
        return action

    def _add(self, *actions: QtGui.QAction) -> None:
        for action in actions:
            self._bar.addAction(action)
            button = self._bar.widgetForAction(action)
            if button is not None:
                # Space belongs to the flicker, not to the button clicked last.
                button.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)

    def _label(self, text: str) -> None:
        label = QtWidgets.QLabel(text)
        label.setObjectName("muted")
        self._bar.addWidget(label)

    def _space(self) -> None:
        gap = QtWidgets.QWidget()
        gap.setFixedWidth(6)
        self._bar.addWidget(gap)

    def _on_edit_exposure(self) -> None:
        if self.exposure.isEnabled() and self.exposure.isVisible():
            self.exposure.setFocus()
            self.exposure.selectAll()

    def _on_exposure(self) -> None:
        self.exposure.clearFocus()
        self.exposure_edited.emit(self.exposure.value())
