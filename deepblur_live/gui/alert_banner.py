"""The alert banner: change, likely cause, remedy, and buttons to respond."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from deepblur_live.drift import DriftState
from deepblur_live.gui.binding import QtCore, QtGui, QtWidgets, Signal
from deepblur_live.gui.theme import ALARM, WARN

if TYPE_CHECKING:
    from deepblur_live.drift import Alert, DriftStatus

__all__ = ["SNOOZES", "AlertBanner"]

# In windows below this height the banner is folded at first; below this width its
# buttons are in a menu.
_HIGH, _WIDE = 800, 640
_UNLIMITED = 16_777_215
# How long warnings can be hidden: text, seconds.
SNOOZES = (("15 minutes", 900.0), ("1 hour", 3600.0), ("4 hours", 14_400.0))


class AlertBanner(QtWidgets.QFrame):
    """Shows the newest alert until it is dismissed, here or elsewhere.

    It folds to its first line, at first in a low window; in a narrow one its buttons
    are in a menu. The window connects the buttons.
    """

    snoozed = Signal(float)
    """Duration in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: Alert | None = None
        self._dismissed: Alert | None = None
        # None until the user has chosen: then it depends on the window's height.
        self._chosen: bool | None = None
        self.fold_button = QtWidgets.QToolButton()
        self.fold_button.setAutoRaise(True)
        self.fold_button.setAccessibleName("Fold the alert")
        self.text = QtWidgets.QLabel()
        self.text.setWordWrap(True)
        self.text.setAlignment(QtCore.Qt.AlignmentFlag.AlignTop)
        self.text.setTextFormat(QtCore.Qt.TextFormat.RichText)
        # The text can be copied into a message or a logbook.
        self.text.setTextInteractionFlags(
            QtCore.Qt.TextInteractionFlag.TextSelectableByMouse
        )
        self.acknowledge_button = QtWidgets.QPushButton("Acknowledge")
        self.acknowledge_button.setToolTip(
            "Acknowledge the alert; monitoring continues (Ctrl+K)"
        )
        self.snooze_button = QtWidgets.QPushButton("Snooze")
        self.snooze_button.setToolTip(
            "Hide alerts for some time; the state is still shown"
        )
        self.snooze_button.setMenu(self._snooze_menu())
        self.rebaseline_button = QtWidgets.QPushButton("Re-baseline")
        self.rebaseline_button.setToolTip(
            "Use the present state of the optics as the new baseline (Ctrl+B)"
        )
        self.sweep_button = QtWidgets.QPushButton("Focus sweep …")
        self.sweep_button.setToolTip(
            "Measure by how much to refocus, and which modes have changed (Ctrl+F)"
        )
        # Shown by a window with a microscope.
        self.sweep_button.hide()
        self._buttons = QtWidgets.QWidget()
        row = QtWidgets.QHBoxLayout(self._buttons)
        row.setContentsMargins(0, 0, 0, 0)
        for button in (
            self.sweep_button,
            self.acknowledge_button,
            self.snooze_button,
            self.rebaseline_button,
        ):
            button.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
            row.addWidget(button)
        # Actions of the menu, with the buttons that they press.
        self._presses: list[tuple[QtGui.QAction, QtWidgets.QPushButton]] = []
        self.menu_button = QtWidgets.QToolButton()
        self.menu_button.setText("Respond")
        self.menu_button.setPopupMode(
            QtWidgets.QToolButton.ToolButtonPopupMode.InstantPopup
        )
        self.menu_button.setMenu(self._menu())
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(6, 4, 8, 4)
        layout.setSpacing(8)
        top = QtCore.Qt.AlignmentFlag.AlignTop
        for tool in (self.fold_button, self.menu_button):
            tool.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        layout.addWidget(self.fold_button, alignment=top)
        layout.addWidget(self.text, 1)
        layout.addWidget(self._buttons, alignment=top)
        layout.addWidget(self.menu_button, alignment=top)
        self.fold_button.clicked.connect(self._on_fold)
        self.hide()

    @property
    def folded(self) -> bool:
        """Whether only the first line is shown."""
        if self._chosen is not None:
            return self._chosen
        window = self.window()
        return window is not None and window.height() < _HIGH

    def minimumSizeHint(self) -> QtCore.QSize:
        """Return a small width: the text is cut off, and the buttons are in a menu."""
        return QtCore.QSize(150, super().minimumSizeHint().height())

    def resizeEvent(self, event: QtGui.QResizeEvent | None) -> None:
        """Put the buttons into a menu where they would leave no room for the text."""
        super().resizeEvent(event)
        self._arrange()

    def show_alert(self, alert: Alert | None, status: DriftStatus) -> None:
        """Show the newest alert unless it has been dismissed.

        Parameters
        ----------
        alert
            The newest alert, or None.
        status
            The session's; acknowledging, snoozing and re-baselining dismiss the alert.
        """
        if (
            status.acknowledged
            or status.snoozed_until is not None
            or status.state is DriftState.BASELINING
        ):
            self._dismissed = alert
        if alert is None or alert is self._dismissed:
            self.hide()
            return
        if alert is not self._shown:
            self._shown = alert
            colour = ALARM if alert.level is DriftState.ALARM else WARN
            self.setStyleSheet(
                f"AlertBanner {{ background: {colour}; border-radius: 4px; }}"
                "AlertBanner > QLabel, AlertBanner > QToolButton"
                " { background: transparent; color: black; }"
            )
            self.text.setText(_html_of(alert))
            self.text.setToolTip(alert.text)
        self._arrange()
        self.show()

    def dismiss(self) -> None:
        """Hide the alert for good."""
        self._dismissed = self._shown
        self.hide()

    def _arrange(self) -> None:
        """Fold or unfold the text, and show the buttons or their menu."""
        folded = self.folded
        line = self.text.fontMetrics().height()
        self.text.setWordWrap(not folded)
        self.text.setMinimumWidth(1)
        self.text.setMaximumHeight(line if folded else _UNLIMITED)
        self.fold_button.setText("▸" if folded else "▾")
        self.fold_button.setToolTip(
            "Show the likely cause and the remedy" if folded else "Fold to one line"
        )
        wide = self.width() >= _WIDE
        self._buttons.setVisible(wide)
        self.menu_button.setVisible(not wide)
        for action, button in self._presses:
            action.setVisible(not button.isHidden())

    def _on_fold(self) -> None:
        self._chosen = not self.folded
        self._arrange()

    def _menu(self) -> QtWidgets.QMenu:
        """Return a menu that presses the buttons."""
        menu = QtWidgets.QMenu(self)
        for button in (
            self.sweep_button,
            self.acknowledge_button,
            self.rebaseline_button,
        ):
            action = QtGui.QAction(button.text(), menu)
            action.triggered.connect(button.click)
            menu.addAction(action)
            self._presses.append((action, button))
        snooze = self.snooze_button.menu()
        if snooze is not None:
            snooze.setTitle(self.snooze_button.text())
            menu.addMenu(snooze)
        return menu

    def _snooze_menu(self) -> QtWidgets.QMenu:
        menu = QtWidgets.QMenu(self)
        for name, seconds in SNOOZES:
            action = QtGui.QAction(name, menu)
            action.setData(seconds)
            menu.addAction(action)
        menu.triggered.connect(self._on_snooze)
        return menu

    def _on_snooze(self, action: QtGui.QAction) -> None:
        self.snoozed.emit(float(action.data()))


def _html_of(alert: Alert) -> str:
    """Return the change, the likely cause and the remedy, each on its own line."""
    # The text of an alert ends with its cause and remedy.
    change = alert.text.partition(" Likely cause: ")[0] if alert.cause else alert.text
    lines = [f"<b>{html.escape(change)}</b>"]
    if alert.cause:
        lines.append(f"Likely cause: {html.escape(alert.cause.rstrip('.'))}.")
    if alert.remedy:
        lines.append(f"What to do: {html.escape(alert.remedy)}")
    return "<br>".join(lines)
