"""The main window; a timer fetches the newest result, so that nothing waits for it."""

from __future__ import annotations

import logging
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.gui.alert_banner import AlertBanner
from deepblur_live.gui.binding import QtCore, QtGui, QtWidgets
from deepblur_live.gui.camera_link import CameraLink
from deepblur_live.gui.drift_plot import DriftPlot
from deepblur_live.gui.field_map import FieldMapView
from deepblur_live.gui.image_pair import ImagePair
from deepblur_live.gui.message_line import MessageLine
from deepblur_live.gui.psf_view import PsfView
from deepblur_live.gui.record_control import RecordControl, recording_text
from deepblur_live.gui.snapshot import save_snapshot
from deepblur_live.gui.state_text import (
    chip_of,
    raw_only_text,
    status_text,
    waiting_text,
)
from deepblur_live.gui.sweep_dialog import SweepDialog
from deepblur_live.gui.theme import STYLE
from deepblur_live.gui.toolbar import Toolbar

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.runtime.frame import FrameResult
    from deepblur_live.session import LiveSession

__all__ = ["MainWindow"]

logger = logging.getLogger(__name__)

# Interval of plots and texts; a plot takes about 10 ms.
_SLOW_S = 0.2


class MainWindow(QtWidgets.QMainWindow):
    """Raw and deblurred image, drift below, and the session's state.

    It may also be placed in a dock of another Qt program.

    Parameters
    ----------
    session
        The session to show; its owner closes it after the window. If it has a core,
        there are Live, Snap and exposure controls; live mode started with them ends
        with the window.
    """

    def __init__(
        self,
        session: LiveSession,
        parent: QtWidgets.QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._session = session
        self._newest: FrameResult | None = None
        self._shown: FrameResult | None = None
        self._psf_of: FrameResult | None = None
        self._new_at = self._slow_at = -float("inf")
        self._interval = 0.0
        self._shown_at: deque[float] = deque(maxlen=60)
        self._folder: Path | None = None
        self._link = None if session.core is None else CameraLink(session.core)
        self._sweep: SweepDialog | None = None

        display = session.profile.display
        self.setWindowTitle(f"deblur live · {session.profile.name}")
        self.setStyleSheet(STYLE)
        self.setFocusPolicy(QtCore.Qt.FocusPolicy.StrongFocus)
        self.toolbar = Toolbar(camera=self._link is not None)
        self._record = RecordControl(session, self.toolbar.record)
        self.banner = AlertBanner()
        self.images = ImagePair(
            display.clip_percent, session.profile.optics.pixel_size_nm
        )
        self.drift = DriftPlot(session.profile, session.family)
        self.psf: PsfView | FieldMapView = (
            FieldMapView(session.profile, session.family)
            if isinstance(session.family, ZernikeField)
            else PsfView(session.family)
        )
        # With a fixed PSF there is no curve to draw.
        self.drift.setVisible(session.family.n_coefficients > 0)
        self.status = QtWidgets.QLabel()
        self.status.setObjectName("status")
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
        if self._shown is None:
            self.message.notify("no frame to save yet")
            return ()
        folder = folder or self._folder or self._session.folder or self._choose_folder()
        if folder is None:
            return ()
        paths = save_snapshot(self._shown, self._session, folder)
        self.message.notify(f"saved {paths[-1].stem} in {folder}")
        return paths

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

    def closeEvent(self, event: QtGui.QCloseEvent | None) -> None:
        """Stop the timer, and live mode if it was started here."""
        self.timer.stop()
        if self._sweep is not None and not self._sweep.end():
            logger.warning("a focus sweep did not end while the window was closing")
        if self._link is not None and not self._link.close():
            logger.warning("the camera did not respond while the window was closing")
        super().closeEvent(event)

    def _refresh(self) -> None:
        now = time.monotonic()
        latest = self._session.listener.latest
        if latest is not None and latest is not self._newest:
            self._interval = now - self._new_at if self._newest is not None else 0.0
            self._newest, self._new_at = latest, now
            if not self.toolbar.freeze.isChecked():
                # Set first, so that a result that cannot be drawn is tried only once.
                self._shown = latest
                self._shown_at.append(now)
                self.images.show_result(latest)
        self.images.paint_if_needed()
        if now - self._slow_at >= _SLOW_S:
            self._slow_at = now
            self._refresh_texts(now)
            self._refresh_plots()

    def _refresh_texts(self, now: float) -> None:
        session = self._session
        statistics = session.listener.statistics
        alert = session.alerts[-1] if session.alerts else None
        status = session.status
        age = now - self._new_at
        chip = chip_of(self._newest, status, statistics, age, self._interval)
        self.toolbar.show_chip(chip)
        if self._newest is None:
            self.images.show_waiting(waiting_text(statistics))
        self.banner.show_alert(alert, status)
        self._record.update()
        recorder = session.recorder
        kept = recording_text(recorder.counts, running=recorder.recording)
        self.status.setText(kept + status_text(statistics, self._fps_shown(now)))
        self.status.setToolTip(raw_only_text(statistics))
        if self._link is not None:
            self.toolbar.show_camera(self._link)
            self.toolbar.every_frame.setChecked(session.listener.processes_every_frame)
        self.message.update_from(
            (*session.listener.background_errors, *session.background_errors),
            "" if self._link is None else self._link.error,
        )

    def _refresh_plots(self) -> None:
        self.drift.show_history(self._session.history, self._session.alerts)
        self.drift.show_verification(self._session.verification)
        if self._shown is not None and self._shown is not self._psf_of:
            self._psf_of = self._shown
            self.psf.show_result(self._shown)

    def _fps_shown(self, now: float) -> float:
        recent = [moment for moment in self._shown_at if now - moment < 2.0]
        return len(recent) / 2.0

    def _choose_folder(self) -> Path | None:
        chosen = QtWidgets.QFileDialog.getExistingDirectory(
            self, "Folder for snapshots", str(self._folder or Path.home())
        )
        return Path(chosen) if chosen else None

    def _save_as(self) -> None:
        folder = self._choose_folder()
        if folder is not None:
            self._folder = folder
            self.save_snapshot(folder)

    def _connect(self) -> None:
        bar, images = self.toolbar, self.images
        bar.flicker.toggled.connect(images.set_swapped)
        bar.auto.toggled.connect(images.set_auto)
        bar.lock.toggled.connect(images.set_locked)
        bar.cross.toggled.connect(images.set_crosshair)
        bar.freeze.toggled.connect(images.set_frozen)
        bar.fit.triggered.connect(images.raw.fit)
        bar.pixels.triggered.connect(images.raw.zoom_to_pixels)
        # Bound methods, as a connected closure would keep the window alive.
        bar.save.triggered.connect(self._on_save)
        bar.save_as.triggered.connect(self._on_save_as)
        bar.record.triggered.connect(self._on_record)
        bar.record_in.triggered.connect(self._on_record_in)
        bar.acknowledge.triggered.connect(self._on_acknowledge)
        self.banner.acknowledge_button.clicked.connect(self._on_acknowledge)
        bar.rebaseline.triggered.connect(self._on_rebaseline)
        self.banner.rebaseline_button.clicked.connect(self._on_rebaseline)
        self.banner.snoozed.connect(self._on_snooze)
        if self._link is not None:
            self.banner.sweep_button.setVisible(True)
            bar.sweep.triggered.connect(self._on_sweep)
            self.banner.sweep_button.clicked.connect(self._on_sweep)
            bar.live.triggered.connect(self._link.set_live)
            bar.snap.triggered.connect(self._link.snap)
            bar.exposure_edited.connect(self._on_exposure)
            bar.every_frame.triggered.connect(self._on_every_frame)

    def _on_save(self) -> None:
        self.message.guard(self.save_snapshot)

    def _on_save_as(self) -> None:
        self.message.guard(self._save_as)

    def _on_every_frame(self, on: bool) -> None:
        self.message.guard(lambda: self._session.process_every_frame(on))

    def _on_record(self, on: bool) -> None:
        self.message.guard(lambda: self._say_kept(self._record.set_recording(on, self)))

    def _on_record_in(self) -> None:
        self.message.guard(lambda: self._say_kept(self._record.record_in(self)))

    def _say_kept(self, path: Path | None) -> None:
        if path is not None:
            self.message.notify(f"the deblurred frames are kept in {path}")

    def _on_acknowledge(self) -> None:
        self._respond(self._session.acknowledge)

    def _on_sweep(self) -> None:
        self.message.guard(self._open_sweep)

    def _open_sweep(self) -> None:
        if self._sweep is None:
            self._sweep = SweepDialog(self._session, self)
        self._sweep.show()
        self._sweep.raise_()

    def _on_rebaseline(self) -> None:
        self._respond(self._session.rebaseline)

    def _on_snooze(self, seconds: float) -> None:
        self._respond(lambda: self._session.snooze(seconds))

    def _respond(self, response: Callable[[], None]) -> None:
        """Respond to the alert and hide its banner."""

        def respond() -> None:
            response()
            self.banner.dismiss()

        self.message.guard(respond)

    def _on_exposure(self, exposure_ms: float) -> None:
        if self._link is not None and exposure_ms != self._link.exposure_ms:
            self._link.set_exposure(exposure_ms)
        self.setFocus()

    def _lay_out(self) -> None:
        bottom = QtWidgets.QWidget()
        row = QtWidgets.QHBoxLayout(bottom)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(14)
        row.addWidget(self.drift, 1)
        row.addWidget(self.psf)
        splitter = QtWidgets.QSplitter(QtCore.Qt.Orientation.Vertical)
        splitter.setChildrenCollapsible(False)
        splitter.addWidget(self.images)
        splitter.addWidget(bottom)
        # The table of a field's terms is longer.
        low = 330 if isinstance(self.psf, FieldMapView) else 280
        splitter.setSizes([840 - low, low])
        splitter.setStretchFactor(0, 1)
        foot = QtWidgets.QHBoxLayout()
        foot.addWidget(self.status, 1)
        foot.addWidget(self.message)
        body = QtWidgets.QWidget()
        column = QtWidgets.QVBoxLayout(body)
        column.setContentsMargins(10, 8, 10, 6)
        column.setSpacing(8)
        column.addWidget(self.toolbar)
        column.addWidget(self.banner)
        column.addWidget(splitter, 1)
        column.addLayout(foot)
        self.setCentralWidget(body)
        self.resize(1400, 900)
