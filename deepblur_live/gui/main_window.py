"""The main window; a timer fetches the newest result, so that nothing waits for it."""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING

from deepblur_live.gui import window_layout
from deepblur_live.gui.alert_banner import AlertBanner
from deepblur_live.gui.binding import QtCore, QtGui, QtWidgets
from deepblur_live.gui.calibration.actions import CalibrationActions
from deepblur_live.gui.camera_link import CameraLink
from deepblur_live.gui.commands import Commands
from deepblur_live.gui.drift_plot import DriftPlot
from deepblur_live.gui.file_actions import FileActions
from deepblur_live.gui.guidance import idle_text
from deepblur_live.gui.help_actions import HelpActions
from deepblur_live.gui.image_pair import ImagePair
from deepblur_live.gui.levels import LevelsView
from deepblur_live.gui.line_profile import LineProfileView
from deepblur_live.gui.menus import Menus
from deepblur_live.gui.message_line import MessageLine
from deepblur_live.gui.newest import NewestResult
from deepblur_live.gui.optics_bar import OpticsBar
from deepblur_live.gui.psf_panel import psf_view
from deepblur_live.gui.record_control import recording_text
from deepblur_live.gui.region import RegionView
from deepblur_live.gui.replay_bar import ReplayBar
from deepblur_live.gui.series_choice import SeriesChoice
from deepblur_live.gui.session_actions import SessionActions
from deepblur_live.gui.snapshot_actions import SnapshotActions
from deepblur_live.gui.state_text import missed_text, raw_only_text, status_text
from deepblur_live.gui.toolbar import Toolbar
from deepblur_live.gui.view_actions import ViewActions
from deepblur_live.gui.window_head import WindowHead

if TYPE_CHECKING:
    from pathlib import Path

    from deepblur_live.gui.replay import Replay
    from deepblur_live.runtime.frame import FrameResult
    from deepblur_live.session import LiveSession

__all__ = ["MainWindow"]

logger = logging.getLogger(__name__)

# Interval of plots and texts; a plot takes about 10 ms.
_SLOW_S = 0.2


class MainWindow(QtWidgets.QMainWindow):
    """Raw and deblurred image, and panels around them that can be moved and closed.

    It may also be placed in a dock of another Qt program, whose palette and style it
    takes; its menus are then behind a button of the toolbar.

    Parameters
    ----------
    session
        The session to show; its owner closes it after the window. If it has a core,
        there are Live, Snap and exposure controls; live mode started with them ends
        with the window.
    parent
        The parent widget.
    replay
        The recording that the session processes, whose frames can be shown afterwards.
    remember
        Whether to restore the layout of the panels, and to keep it for the next time.
    """

    def __init__(
        self,
        session: LiveSession,
        parent: QtWidgets.QWidget | None = None,
        *,
        replay: Replay | None = None,
        remember: bool = True,
    ) -> None:
        super().__init__(parent)
        self._session = session
        self._newest = NewestResult()
        self._shown: FrameResult | None = None
        self._psf_of: FrameResult | None = None
        self._slow_at = -float("inf")
        self._shown_at: deque[float] = deque(maxlen=60)
        self._remember, self._laid_out = remember, False
        self._link = None if session.core is None else CameraLink(session.core)

        display, optics = session.profile.display, session.profile.optics
        self.setWindowTitle(f"deblur live · {session.profile.name}")
        self.setFocusPolicy(QtCore.Qt.FocusPolicy.StrongFocus)
        self.commands = Commands(self)
        self.toolbar = Toolbar(self.commands, camera=self._link is not None)
        self.banner = AlertBanner()
        self.optics = OpticsBar(session.optics)
        self.images = ImagePair(display.clip_percent, optics.pixel_size_nm)
        self.drift = DriftPlot(session.profile, session.family)
        self.series = SeriesChoice(session)
        self.psf = psf_view(session)
        self.levels = LevelsView(self.images)
        self.line_profile = LineProfileView(self.images, optics.pixel_size_nm)
        self.region = RegionView(
            self.images, optics.pixel_size_nm, self.commands.region_levels
        )
        self.replay_bar = (
            None if replay is None else ReplayBar(replay, session, self.commands)
        )
        self.status = QtWidgets.QLabel()
        # Cut off if too long: the window must fit on a small screen.
        self.status.setSizePolicy(
            QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Preferred
        )
        self.message = MessageLine()
        self._lay_out()
        self._connect()

        self.timer = QtCore.QTimer(self)
        self.timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        self.timer.setInterval(max(1, round(1000 / display.refresh_hz)))
        self.timer.timeout.connect(self.refresh)
        self.timer.start()

    @property
    def shown(self) -> FrameResult | None:
        """The result on screen, or None."""
        return self._shown

    @property
    def error(self) -> str:
        """The last error in the window itself, or empty."""
        return self.message.error

    def refresh(self) -> None:
        """Show the newest result and state; the timer's slot. Never raises."""
        self.message.guard(self._refresh)

    def save_snapshot(self, folder: Path | None = None) -> tuple[Path, ...]:
        """Save the result on screen.

        Parameters
        ----------
        folder
            By default, the folder chosen last, the session's, or one the user chooses.

        Returns
        -------
        paths
            The files written; none without a result or a folder.
        """
        return self._snapshots.save(folder)

    def keyPressEvent(self, event: QtGui.QKeyEvent | None) -> None:
        """Pass keys to the images first."""
        if event is None or not self.images.press(event.key()):
            super().keyPressEvent(event)

    def keyReleaseEvent(self, event: QtGui.QKeyEvent | None) -> None:
        """End the swap when Space is released."""
        if event is not None and event.key() == QtCore.Qt.Key.Key_Space:
            if not event.isAutoRepeat():
                self.images.set_held(False)
            return
        super().keyReleaseEvent(event)

    def changeEvent(self, event: QtCore.QEvent | None) -> None:
        """End the swap when another window gets the keys, and thus the release."""
        super().changeEvent(event)
        if event is not None and event.type() == QtCore.QEvent.Type.ActivationChange:
            self.images.set_held(False)

    def showEvent(self, event: QtGui.QShowEvent | None) -> None:
        """Lay out the panels when it is known whether a host holds the window."""
        super().showEvent(event)
        if self._laid_out:
            return
        self._laid_out = True
        self._head.set_docked(not self.isWindow())
        if not (self._remember and window_layout.restore(self)):
            window_layout.set_default(self, self.panels)
        layout = self.layout()
        if layout is not None:
            layout.activate()  # before the first frame is scaled
        if self.isWindow():
            self.setFocus()

    def hideEvent(self, event: QtGui.QHideEvent | None) -> None:
        """Keep the layout; a host's dock is hidden rather than closed."""
        if self._remember and self._laid_out:
            window_layout.save(self)
        super().hideEvent(event)

    def closeEvent(self, event: QtGui.QCloseEvent | None) -> None:
        """Stop the timer, and live mode if it was started here."""
        self.timer.stop()
        self.status.setText("closing …")
        self.status.repaint()
        self._files.end()
        self._actions.end()
        self._calibration.end()
        if self._link is not None and not self._link.close():
            logger.warning("the camera did not respond while the window was closing")
        if self.replay_bar is not None:
            self.replay_bar.close_files()
        super().closeEvent(event)

    def _refresh(self) -> None:
        now = time.monotonic()
        fresh = None
        if self._newest.take(self._session, now) and not self._frozen():
            fresh = self._newest.result
        if self.replay_bar is not None:
            fresh = self.replay_bar.take_frame() or fresh
        if fresh is not None:
            # Set first, so that a result that cannot be drawn is tried only once.
            self._shown = fresh
            self._snapshots.take(fresh)
            self._shown_at.append(now)
            self.images.show_result(fresh)
        self.images.paint_if_needed()
        if now - self._slow_at >= _SLOW_S:
            self._slow_at = now
            self._refresh_texts(now)
            self._refresh_plots()

    def _refresh_texts(self, now: float) -> None:
        session = self._session
        statistics = session.listener.statistics
        alert = session.alerts[-1] if session.alerts else None
        chip = self._newest.chip(session, now)
        if self.replay_bar is not None:
            chip = self.replay_bar.update_text(chip)
        self.toolbar.show_chip(chip)
        newest = self._newest.result
        if newest is not None:
            self.toolbar.quality.show_result(
                newest, session.family_of(newest), session.verification
            )
        if self._shown is None:
            self.images.show_waiting(idle_text(session, self._link))
        self.banner.show_alert(alert, session.status)
        self.optics.refresh()
        # While the pixel size is contradicted, distances are shown in pixels.
        size_nm = session.optics.pixel_size_nm
        for view in (self.images, self.line_profile, self.region):
            view.set_pixel_size(size_nm)
        self._actions.update()
        doing = self._files.update()
        self._snapshots.update()
        recorder = session.recorder
        kept = recording_text(recorder.counts, running=recorder.recording)
        text = kept + status_text(statistics, self._fps_shown(now))
        self.status.setText(f"{doing}   │   {text}" if doing else text)
        watched = session.watched.text
        # The line itself first: it is cut off in a narrow window.
        notes = (text, missed_text(statistics), raw_only_text(statistics), watched)
        self.status.setToolTip("\n".join(filter(None, notes)))
        self.message.update_from(
            (*session.listener.background_errors, *session.background_errors),
            "" if self._link is None else self._link.error,
        )

    def _refresh_plots(self) -> None:
        shown = self.series.shown(time.monotonic())
        self.drift.follow(shown.key, shown.family)
        self.drift.show_history(shown.points, shown.alerts)
        self.drift.show_verification(shown.verification)
        self.levels.update_from_images()
        self.line_profile.update_from_images()
        self.region.update_from_images()
        newest = self._newest.result
        if newest is not None and newest is not self._psf_of:
            self._psf_of = newest
            self.psf.use_family(self._session.family_of(newest))
            self.psf.show_result(newest)

    def _frozen(self) -> bool:
        return self.commands.freeze.isChecked()

    def _fps_shown(self, now: float) -> float:
        recent = [moment for moment in self._shown_at if now - moment < 2.0]
        return len(recent) / 2.0

    def _connect(self) -> None:
        # Bound methods, as a connected closure would keep the window alive.
        commands = self.commands
        commands.close.triggered.connect(self._on_close)
        commands.reset_layout.triggered.connect(self._on_reset_layout)
        ViewActions(commands, self.images, self.levels, self)
        self._actions = SessionActions(
            self._session,
            self._link,
            commands,
            self.toolbar,
            self.banner,
            self.message,
            self,
        )
        self._files = FileActions(
            self._session, commands, self._menus.recent, self.message, self
        )
        self._calibration = CalibrationActions(
            self._session, commands, self.message, self
        )
        self._calibration.saved.connect(self._files.use_profile)
        self._snapshots = SnapshotActions(self._session, commands, self.message, self)
        self._help = HelpActions(commands, self._menus, self)

    def _on_close(self) -> None:
        # Within another program, close only the dock.
        holder = self.parentWidget()
        if isinstance(holder, QtWidgets.QDockWidget):
            holder.close()
        else:
            self.close()

    def _on_reset_layout(self) -> None:
        window_layout.set_default(self, self.panels)

    def _drift_view(self) -> QtWidgets.QWidget:
        """Return the plots below the choice of their series."""
        if not self._session.family.n_coefficients:
            nothing = QtWidgets.QLabel("A fixed PSF has no coefficients to follow.")
            nothing.setAlignment(QtCore.Qt.AlignmentFlag.AlignCenter)
            return nothing
        view = QtWidgets.QWidget()
        column = QtWidgets.QVBoxLayout(view)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.series)
        column.addWidget(self.drift, 1)
        return view

    def _lay_out(self) -> None:
        self.panels = {
            name: window_layout.add_panel(self, name, widget, key, scrolled=scrolled)
            for name, widget, key, scrolled in (
                ("Drift", self._drift_view(), "D", False),
                ("PSF", self.psf, "P", True),
                ("Levels", self.levels, "H", False),
                ("Line profile", self.line_profile, "I", False),
                ("Region", self.region, "R", True),
            )
        }
        toggles = [panel.toggleViewAction() for panel in self.panels.values()]
        self._menus = Menus(
            self.commands,
            [action for action in toggles if action is not None],
            camera=self._link is not None,
        )
        self._head = WindowHead(self._menus, self.toolbar)
        self.setMenuWidget(self._head)
        middle = QtWidgets.QWidget()
        column = QtWidgets.QVBoxLayout(middle)
        column.setContentsMargins(6, 2, 6, 2)
        column.setSpacing(4)
        column.addWidget(self.optics)
        column.addWidget(self.banner)
        column.addWidget(self.images, 1)
        if self.replay_bar is not None:
            column.addWidget(self.replay_bar)
        self.setCentralWidget(middle)
        foot = self.statusBar()
        assert foot is not None
        foot.setSizeGripEnabled(False)
        foot.addWidget(self.status, 1)
        foot.addPermanentWidget(self.message)
        options = QtWidgets.QMainWindow.DockOption
        # Not animated: each step would scale and paint the images again.
        self.setDockOptions(options.AllowNestedDocks | options.AllowTabbedDocks)
        self.resize(window_layout.initial_size())
