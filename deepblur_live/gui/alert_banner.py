"""The alert banner: change, likely cause, remedy, and buttons to respond."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from deepblur_live.drift import DriftState
from deepblur_live.gui.binding import QtCore, QtGui, QtWidgets, Signal
from deepblur_live.gui.theme import ALARM, WARN

if TYPE_CHECKING:
    from deepblur_live.drift import Alert, DriftStatus

__all__ = ["AlertBanner"]

_SNOOZES = (("15 minutes", 900.0), ("1 hour", 3600.0), ("4 hours", 14_400.0))


class AlertBanner(QtWidgets.QFrame):
    """Shows the newest alert until it is dismissed, here or elsewhere.

    The window connects its buttons.
    """

    snoozed = Signal(float)
    """Duration in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: Alert | None = None
        self._dismissed: Alert | None = None
        self.text = QtWidgets.QLabel()
        self.text.setWordWrap(True)
        self.text.setTextFormat(QtCore.Qt.TextFormat.RichText)
        # The text can be copied into a message or a logbook.
        self.text.setTextInteractionFlags(
            QtCore.Qt.TextInteractionFlag.TextSelectableByMouse
        )
        self.acknowledge_button = QtWidgets.QPushButton("Acknowledge")
        self.acknowledge_button.setToolTip(
            "Mark the alert as seen; monitoring continues (Ctrl+K)"
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
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(12, 6, 8, 6)
        layout.setSpacing(8)
        layout.addWidget(self.text, 1)
        buttons = (
            self.sweep_button,
            self.acknowledge_button,
            self.snooze_button,
            self.rebaseline_button,
        )
        for button in buttons:
            button.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
            layout.addWidget(button, alignment=QtCore.Qt.AlignmentFlag.AlignTop)
        self.hide()

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
                "AlertBanner QLabel { background: transparent; color: black; }"
            )
            self.text.setText(_html_of(alert))
        self.show()

    def dismiss(self) -> None:
        """Hide the alert for good."""
        self._dismissed = self._shown
        self.hide()

    def _snooze_menu(self) -> QtWidgets.QMenu:
        menu = QtWidgets.QMenu(self)
        for name, seconds in _SNOOZES:
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
