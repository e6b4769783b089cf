"""The alert's banner: what changed, and the two answers to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, QtWidgets, Signal
from deepblur_live.gui.theme import ALARM, WARN

if TYPE_CHECKING:
    from deepblur_live.gui.session_view import AlertView, DriftStatusView

__all__ = ["AlertBanner"]


class AlertBanner(QtWidgets.QFrame):
    """Stays until it is answered, here or elsewhere; the newest alert replaces it."""

    acknowledged = Signal()
    rebaselined = Signal()

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._shown: AlertView | None = None
        self._answered: AlertView | None = None
        self.text = QtWidgets.QLabel()
        self.text.setWordWrap(True)
        self.acknowledge_button = QtWidgets.QPushButton("Acknowledge")
        self.acknowledge_button.setToolTip("I have seen it; keep watching (Ctrl+K)")
        self.rebaseline_button = QtWidgets.QPushButton("Re-baseline")
        self.rebaseline_button.setToolTip(
            "Measure changes from the optics as they are now (Ctrl+B)"
        )
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(12, 6, 8, 6)
        layout.setSpacing(8)
        layout.addWidget(self.text, 1)
        for button in (self.acknowledge_button, self.rebaseline_button):
            button.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
            layout.addWidget(button)
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
        if status.acknowledged or str(status.state) == "baselining":
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
            self.text.setText(alert.text)
        self.show()

    def answer(self) -> None:
        """Take the alert that is shown as answered."""
        self._answered = self._shown
        self.hide()

    def _on_acknowledge(self) -> None:
        self.acknowledged.emit()

    def _on_rebaseline(self) -> None:
        self.rebaselined.emit()
