"""The dialog of a focus sweep: start it, follow it, read the answer, refocus."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from deepblur_live.gui.binding import QtCore, QtGui, QtWidgets
from deepblur_live.session.focus_sweep import refocus_session, sweep_session
from deepblur_live.session.sweep_report import sweep_text

if TYPE_CHECKING:
    from deepblur_live.identification import SweepResult
    from deepblur_live.session import LiveSession

__all__ = ["SweepDialog"]

_POLL_MS = 100
# A sweep waits for moves of at most 5 s each.
_END_S = 20.0
_STEP_NM = 300.0


class SweepDialog(QtWidgets.QDialog):
    """Sweeps a session's focus drive on a thread of its own, when asked to.

    Parameters
    ----------
    session
        A session with a microscope.
    parent
        The window.
    """

    def __init__(
        self, session: LiveSession, parent: QtWidgets.QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Focus sweep")
        self._session = session
        self._thread: threading.Thread | None = None
        self._share = 0.0
        self._outcome: SweepResult | Exception | None = None
        self._result: SweepResult | None = None
        self.step = QtWidgets.QDoubleSpinBox()
        self.step.setRange(20.0, 2000.0)
        self.step.setDecimals(0)
        self.step.setSuffix(" nm")
        self.step.setValue(_STEP_NM)
        self.start = QtWidgets.QPushButton("Sweep")
        self.start.setToolTip(
            "Move the focus drive by one step to each side and back; three frames"
        )
        self.progress = QtWidgets.QProgressBar()
        self.progress.setRange(0, 100)
        self.answer = QtWidgets.QLabel(
            "Three frames of the same specimen, one step apart. Live mode pauses for "
            "a moment; the focus drive returns to where it is."
        )
        self.answer.setWordWrap(True)
        self.answer.setTextInteractionFlags(
            QtCore.Qt.TextInteractionFlag.TextSelectableByMouse
        )
        fixed = QtGui.QFontDatabase.SystemFont.FixedFont
        self._fixed = QtGui.QFontDatabase.systemFont(fixed)
        self.refocus = QtWidgets.QPushButton("Refocus")
        self.refocus.setEnabled(False)
        row = QtWidgets.QHBoxLayout()
        row.addWidget(QtWidgets.QLabel("Step"))
        row.addWidget(self.step)
        row.addWidget(self.start)
        row.addWidget(self.progress, 1)
        column = QtWidgets.QVBoxLayout(self)
        column.addLayout(row)
        column.addWidget(self.answer)
        column.addWidget(self.refocus)
        self.setMinimumWidth(560)
        self.start.clicked.connect(self._on_start)
        self.refocus.clicked.connect(self._on_refocus)
        self._timer = QtCore.QTimer(self)
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self._on_timer)

    def end(self, timeout_s: float = _END_S) -> bool:
        """Wait for a running sweep; False after `timeout_s` seconds."""
        self._timer.stop()
        if self._thread is not None:
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True

    def _on_start(self) -> None:
        step_um = self.step.value() / 1000
        self.start.setEnabled(False)
        self.refocus.setEnabled(False)
        self._share, self._outcome = 0.0, None

        def run() -> None:
            try:
                self._outcome = sweep_session(self._session, step_um, self._advance)
            except Exception as error:  # shown in the dialog
                self._outcome = error

        # A daemon, so that a stage that does not respond cannot block the exit.
        self._thread = threading.Thread(target=run, name="focus sweep", daemon=True)
        self._thread.start()
        self._timer.start()

    def _advance(self, share: float) -> None:
        self._share = share

    def _on_timer(self) -> None:
        self.progress.setValue(round(100 * self._share))
        outcome = self._outcome
        if outcome is None:
            return
        self._timer.stop()
        self.start.setEnabled(True)
        if isinstance(outcome, Exception):
            self.progress.setValue(0)
            self.answer.setText(str(outcome) or type(outcome).__name__)
            return
        self._result = outcome
        lines = sweep_text(self._session.family, outcome, "here")
        self.answer.setFont(self._fixed)
        self.answer.setText("\n".join(lines))
        furthest = self._session.profile.optics.defocus_range_um
        if not outcome.thick and abs(outcome.refocus_um) <= furthest:
            self.refocus.setText(f"Refocus by {1000 * outcome.refocus_um:+.0f} nm")
            self.refocus.setEnabled(True)

    def _on_refocus(self) -> None:
        if self._result is None:
            return
        self.refocus.setEnabled(False)
        try:
            furthest = self._session.profile.optics.defocus_range_um
            refocus_session(self._session, self._result.refocus_um, furthest)
        except Exception as error:  # PyQt6 aborts when one leaves a slot
            self.answer.setText(str(error) or type(error).__name__)
            return
        self.answer.setText("Refocused. A new baseline is being measured.")
