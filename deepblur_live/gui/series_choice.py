"""Which channel, position and plane the drift plot shows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtWidgets

if TYPE_CHECKING:
    from deepblur_live.runtime.series_key import SeriesKey
    from deepblur_live.session import LiveSession
    from deepblur_live.session.series_watch import SeriesHistory

__all__ = ["SeriesChoice"]

# An MDA alternates between series: each is shown at least this long.
_STAYS_S = 3.0


class SeriesChoice(QtWidgets.QWidget):
    """A list of the session's series, hidden while there is one.

    Parameters
    ----------
    session
        The session whose series are listed.
    """

    def __init__(self, session: LiveSession) -> None:
        super().__init__()
        self._session = session
        self._listed: tuple[SeriesKey, ...] = ()
        self._chosen: SeriesKey | None = None
        self._newest: SeriesKey | None = None
        self._newest_at = -math.inf
        self.box = QtWidgets.QComboBox()
        self.box.setAccessibleName("series that the drift plot shows")
        self.box.setSizeAdjustPolicy(
            QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToContents
        )
        self.box.activated.connect(self._on_chosen)
        label = QtWidgets.QLabel("&Series")
        label.setBuddy(self.box)
        self.name = QtWidgets.QLabel()
        self.name.setObjectName("muted")
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for widget in (label, self.box, self.name):
            row.addWidget(widget)
        row.addStretch(1)
        self.hide()

    def shown(self, now: float) -> SeriesHistory:
        """Return the series to show at `now`, in seconds; list those that are new."""
        series = self._session.series
        if series != self._listed:
            self._listed = series
            self._list()
        if self._chosen is not None:
            return self._session.series_history(self._chosen)
        if now - self._newest_at >= _STAYS_S or self._newest not in series:
            self._newest, self._newest_at = None, now
        shown = self._session.series_history(self._newest)
        self._newest = shown.key
        self.name.setText(shown.key.text)
        return shown

    def _list(self) -> None:
        if self._chosen not in self._listed:
            self._chosen = None
        self.box.clear()
        self.box.addItem("that of the newest frame")
        for key in self._listed:
            self.box.addItem(key.text or "outside an MDA")
        if self._chosen is not None:
            self.box.setCurrentIndex(1 + self._listed.index(self._chosen))
        self.setVisible(len(self._listed) > 1)

    def _on_chosen(self, index: int) -> None:
        self._chosen = self._listed[index - 1] if index > 0 else None
        self._newest_at = -math.inf
        self.name.setText("")
