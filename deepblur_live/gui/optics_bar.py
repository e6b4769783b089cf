"""A notice that the optics are assumed or contradicted, to be confirmed by the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, QtWidgets
from deepblur_live.gui.theme import WARN

if TYPE_CHECKING:
    from deepblur_live.session.optics_check import OpticsCheck

__all__ = ["OpticsBar"]


class OpticsBar(QtWidgets.QFrame):
    """A line about the optics; hidden while there is nothing to say about them."""

    def __init__(self, optics: OpticsCheck) -> None:
        super().__init__()
        self._optics = optics
        self._shown, self._dismissed = "", ""
        self.text = QtWidgets.QLabel()
        self.text.setWordWrap(True)
        self.text.setTextFormat(QtCore.Qt.TextFormat.PlainText)
        self.confirm_button = QtWidgets.QPushButton("Use the profile's")
        self.confirm_button.setToolTip(
            "Continue with the pixel size of the profile. Until then the coefficients "
            "are treated as unreliable"
        )
        self.confirm_button.clicked.connect(self._on_confirm)
        self.hide_button = QtWidgets.QPushButton("Hide")
        self.hide_button.setToolTip("Hide this line; the log keeps it")
        self.hide_button.clicked.connect(self._on_hide)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(10, 2, 6, 2)
        row.addWidget(self.text, 1)
        for button in (self.confirm_button, self.hide_button):
            button.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
            row.addWidget(button)
        self.setStyleSheet(f"OpticsBar {{ border: 1px solid {WARN}; }}")
        self.refresh()

    def refresh(self) -> None:
        """Show the present assumption or contradiction."""
        contradiction = self._optics.contradiction
        text = self._optics.assumed
        if contradiction:
            text = f"The optics are contradicted: {contradiction}. Which is right?"
        if text != self._shown:
            self._shown = text
            self.text.setText(text[:1].upper() + text[1:])
        self.confirm_button.setVisible(bool(contradiction))
        # A contradiction cannot be hidden: it is confirmed, or the profile corrected.
        self.hide_button.setVisible(not contradiction)
        self.setVisible(bool(text) and text != self._dismissed)

    def _on_confirm(self) -> None:
        self._optics.confirm()
        self.refresh()

    def _on_hide(self) -> None:
        self._dismissed = self._shown
        self.refresh()
