"""The parts of the window as separate widgets, for the docks of another program.

Each updates itself from a session while it is visible; nothing needs to be called.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from deepblur_live.gui.alert_banner import AlertBanner
from deepblur_live.gui.binding import QtCore, QtWidgets
from deepblur_live.gui.drift_plot import DriftPlot
from deepblur_live.gui.guidance import idle_text
from deepblur_live.gui.image_pair import ImagePair
from deepblur_live.gui.message_line import MessageLine
from deepblur_live.gui.newest import NewestResult
from deepblur_live.gui.optics_bar import OpticsBar
from deepblur_live.gui.psf_panel import psf_view
from deepblur_live.gui.series_choice import SeriesChoice
from deepblur_live.gui.state_text import status_text
from deepblur_live.gui.theme import chip_style

if TYPE_CHECKING:
    from deepblur_live.runtime.frame import FrameResult
    from deepblur_live.session import LiveSession

__all__ = ["DriftPanel", "ImagesPanel", "PsfPanel", "StatePanel"]

logger = logging.getLogger(__name__)

_SLOW_HZ = 5.0


class _Panel(QtWidgets.QWidget):
    """Refreshes itself with a timer while it is visible; logs an error once."""

    def __init__(
        self, session: LiveSession, refresh_hz: float, parent: QtWidgets.QWidget | None
    ) -> None:
        super().__init__(parent)
        self.session = session
        self._error = ""
        self.timer = QtCore.QTimer(self)
        self.timer.setInterval(max(1, round(1000 / refresh_hz)))
        self.timer.timeout.connect(self._on_timer)

    def refresh(self) -> None:
        """Show the session's newest result and state."""
        raise NotImplementedError

    def showEvent(self, event: object) -> None:
        """Follow the session from now on."""
        super().showEvent(event)  # type: ignore[arg-type]
        self.timer.start()

    def hideEvent(self, event: object) -> None:
        """Stop following it."""
        super().hideEvent(event)  # type: ignore[arg-type]
        self.timer.stop()

    def _on_timer(self) -> None:
        # PyQt6 aborts the program when an exception leaves a slot.
        try:
            self.refresh()
        except Exception as error:
            if str(error) != self._error:
                self._error = str(error)
                logger.exception("error in a panel")

    def _hold(self, *widgets: QtWidgets.QWidget) -> None:
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in widgets:
            layout.addWidget(widget)
        layout.setStretchFactor(widgets[-1], 1)


class ImagesPanel(_Panel):
    """The raw and the deblurred image.

    Parameters
    ----------
    session
        The session to follow.
    parent
        The parent widget.

    Attributes
    ----------
    images
        The images; the window's menus call their `set_mode`, `set_locked` and so on.
    """

    def __init__(
        self, session: LiveSession, parent: QtWidgets.QWidget | None = None
    ) -> None:
        display = session.profile.display
        super().__init__(session, display.refresh_hz, parent)
        self._shown: FrameResult | None = None
        self.images = ImagePair(
            display.clip_percent, session.profile.optics.pixel_size_nm
        )
        self._hold(self.images)

    def refresh(self) -> None:
        """Show the newest result, or why there is none yet."""
        latest = self.session.listener.latest
        if latest is None:
            self.images.show_waiting(idle_text(self.session))
        elif latest is not self._shown:
            self._shown = latest
            self.images.show_result(latest)
        self.images.set_pixel_size(self.session.optics.pixel_size_nm)
        self.images.paint_if_needed()


class DriftPanel(_Panel):
    """The coefficients over the session, and their change from the baseline.

    Parameters
    ----------
    session
        The session to follow.
    parent
        The parent widget.
    """

    def __init__(
        self, session: LiveSession, parent: QtWidgets.QWidget | None = None
    ) -> None:
        super().__init__(session, _SLOW_HZ, parent)
        self.series = SeriesChoice(session)
        self.drift = DriftPlot(session.profile, session.family)
        self._hold(self.series, self.drift)

    def refresh(self) -> None:
        """Draw the session so far."""
        shown = self.series.shown(time.monotonic())
        self.drift.follow(shown.key, shown.family)
        self.drift.show_history(shown.points, shown.alerts)
        self.drift.show_verification(shown.verification)


class PsfPanel(_Panel):
    """The estimated PSF, or the field where the blur varies over the frame.

    Parameters
    ----------
    session
        The session to follow.
    parent
        The parent widget.
    """

    def __init__(
        self, session: LiveSession, parent: QtWidgets.QWidget | None = None
    ) -> None:
        super().__init__(session, _SLOW_HZ, parent)
        self._shown: FrameResult | None = None
        self.psf = psf_view(session)
        self._hold(self.psf)

    def refresh(self) -> None:
        """Show the newest estimate."""
        latest = self.session.listener.latest
        if latest is not None and latest is not self._shown:
            self._shown = latest
            self.psf.use_family(self.session.family_of(latest))
            self.psf.show_result(latest)


class StatePanel(_Panel):
    """The state of the session, and an alert with buttons to respond.

    Parameters
    ----------
    session
        The session to follow.
    parent
        The parent widget.
    """

    def __init__(
        self, session: LiveSession, parent: QtWidgets.QWidget | None = None
    ) -> None:
        super().__init__(session, _SLOW_HZ, parent)
        self._newest = NewestResult()
        self.chip = QtWidgets.QLabel()
        self.chip.setAlignment(QtCore.Qt.AlignmentFlag.AlignCenter)
        self.banner = AlertBanner()
        self.optics = OpticsBar(session.optics)
        self.status = QtWidgets.QLabel()
        self.status.setWordWrap(True)
        self.message = MessageLine()
        column = QtWidgets.QVBoxLayout(self)
        column.addWidget(self.chip)
        column.addWidget(self.banner)
        column.addWidget(self.optics)
        column.addWidget(self.status)
        column.addWidget(self.message)
        column.addStretch(1)
        self.banner.acknowledge_button.clicked.connect(self._on_acknowledge)
        self.banner.rebaseline_button.clicked.connect(self._on_rebaseline)
        self.banner.snoozed.connect(self._on_snooze)

    def refresh(self) -> None:
        """Show the session's state."""
        session, now = self.session, time.monotonic()
        self._newest.take(session, now)
        chip = self._newest.chip(session, now)
        if chip.text != self.chip.text():
            self.chip.setText(chip.text)
            self.chip.setStyleSheet(chip_style(chip.state))
        self.chip.setToolTip(chip.reason)
        alert = session.alerts[-1] if session.alerts else None
        self.banner.show_alert(alert, session.status)
        self.optics.refresh()
        statistics = session.listener.statistics
        text = status_text(statistics, statistics.fps_processed)
        self.status.setText(text.replace("   │   ", "\n"))
        self.message.update_from(
            (*session.listener.background_errors, *session.background_errors), ""
        )

    def _on_acknowledge(self) -> None:
        self.message.guard(self.session.acknowledge)
        self.banner.dismiss()

    def _on_rebaseline(self) -> None:
        self.message.guard(self.session.rebaseline)
        self.banner.dismiss()

    def _on_snooze(self, seconds: float) -> None:
        self.message.guard(lambda: self.session.snooze(seconds))
        self.banner.dismiss()
