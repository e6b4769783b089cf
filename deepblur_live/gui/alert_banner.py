"""The alert's banner: what changed, why perhaps, what to do, and the answers to it."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, QtGui, QtWidgets, Signal
from deepblur_live.gui.theme import ALARM, WARN

if TYPE_CHECKING:
    from deepblur_live.gui.session_view import AlertView, DriftStatusView

__all__ = ["AlertBanner"]

_SNOOZES = (("15 minutes", 900.0), ("1 hour", 3600.0), ("4 hours", 14_400.0))


class AlertBanner(QtWidgets.QFrame):
    """Stays until it is answered, here or elsewhere; the newest alert replaces it."""

    acknowledged = Signal()
    rebaselined = Signal()
    snoozed = Signal(float)
    """For so many seconds."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._shown: AlertView | None = None
        self._answered: AlertView | None = None
        self.text = QtWidgets.QLabel()
        self.text.setWordWrap(True)
        self.text.setTextFormat(QtCore.Qt.TextFormat.RichText)
        # Words to be put into a message or a log book.
        self.text.setTextInteractionFlags(
            QtCore.Qt.TextInteractionFlag.TextSelectableByMouse
        )
        self.acknowledge_button = QtWidgets.QPushButton("Acknowledge")
        self.acknowledge_button.setToolTip("I have seen it; keep watching (Ctrl+K)")
        self.snooze_button = QtWidgets.QPushButton("Snooze")
        self.snooze_button.setToolTip("Show no alert for some time; the state stays")
        self.snooze_button.setMenu(self._snooze_menu())
        self.rebaseline_button = QtWidgets.QPushButton("Re-baseline")
        self.rebaseline_button.setToolTip(
            "Measure changes from the optics as they are now (Ctrl+B)"
        )
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(12, 6, 8, 6)
        layout.setSpacing(8)
        layout.addWidget(self.text, 1)
        buttons = (self.acknowledge_button, self.snooze_button, self.rebaseline_button)
        for button in buttons:
            button.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
            layout.addWidget(button, alignment=QtCore.Qt.AlignmentFlag.AlignTop)
        self.acknowledge_button.clicked.connect(self._on_acknowledge)
        self.rebaseline_button.clicked.connect(self._on_rebaseline)
        self.hide()

    def show_alert(self, alert: AlertView | None, status: DriftStatusView) -> None:
        """Show the newest alert unless somebody has answered it.

        Parameters
        ----------
        alert
            The newest, or None.
        status
            Tells what was answered elsewhere: by a script, or a new baseline.
        """
        answered = status.acknowledged or status.snoozed_until is not None
        if answered or str(status.state) == "baselining":
            self._answered = alert
        if alert is None or alert is self._answered:
            self.hide()
            return
        if alert is not self._shown:
            self._shown = alert
            colour = ALARM if str(alert.level) == "alarm" else WARN
            self.setStyleSheet(
                f"AlertBanner {{ background: {colour}; border-radius: 4px; }}"
                "AlertBanner QLabel { background: transparent; color: black; }"
            )
            self.text.setText(_words(alert))
        self.show()

    def answer(self) -> None:
        """Take the alert that is shown as answered."""
        self._answered = self._shown
        self.hide()

    def _snooze_menu(self) -> QtWidgets.QMenu:
        menu = QtWidgets.QMenu(self)
        for name, seconds in _SNOOZES:
            action = QtGui.QAction(name, menu)
            action.setData(seconds)
            menu.addAction(action)
        menu.triggered.connect(self._on_snooze)
        return menu

    def _on_acknowledge(self) -> None:
        self.acknowledged.emit()

    def _on_rebaseline(self) -> None:
        self.rebaselined.emit()

    def _on_snooze(self, action: QtGui.QAction) -> None:
        self.snoozed.emit(float(action.data()))


def _words(alert: AlertView) -> str:
    """Return what changed, and on lines of their own the cause and the remedy."""
    # The alert's text tells these, too, in one piece.
    told = alert.text.partition(" Likely cause: ")[0] if alert.cause else alert.text
    lines = [f"<b>{html.escape(told)}</b>"]
    if alert.cause:
        lines.append(f"Likely cause: {html.escape(alert.cause.rstrip('.'))}.")
    if alert.remedy:
        lines.append(f"What to do: {html.escape(alert.remedy)}")
    return "<br>".join(lines)
